//! What waits to be written to one WebSocket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use holepunch_matchmaker::Action;
use tokio::sync::Notify;

/// Most actions that wait for one client. A worker gets an answer per message, now and then an offer, and
/// news of each of its sessions; one that lets so many pile up has stopped reading.
const ACTIONS_MAX: usize = 256;

/// A bounded queue from the hub to the task of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    actions: VecDeque<Action>,
    /// A close is queued, or the client reads too slowly: nothing more goes in.
    ending: bool,
}

impl State {
    /// Puts an update in the place of an older one that still waits; else gives the action back.
    fn replace(&mut self, action: Action) -> Option<Action> {
        let Action::Update(session, news, _) = &action else { return Some(action) };
        let is_older = |it: &&mut Action| matches!(it, Action::Update(of, what, _) if (of, what) == (session, news));
        let Some(older) = self.actions.iter_mut().find(is_older) else { return Some(action) };
        *older = action;
        None
    }
}

impl Outbox {
    /// Queues an action; `false` when the connection takes nothing more.
    pub(crate) fn push(&self, action: Action) -> bool {
        let mut state = self.lock();
        if state.ending {
            return false;
        }
        let Some(action) = state.replace(action) else { return true };
        let full = state.actions.len() >= ACTIONS_MAX;
        state.ending = full || matches!(action, Action::Close(_));
        if !full {
            state.actions.push_back(action);
        }
        drop(state);
        self.changed.notify_one();
        !full
    }

    pub(crate) fn pop(&self) -> Option<Action> {
        let mut state = self.lock();
        let action = state.actions.pop_front();
        if state.actions.is_empty() {
            state.actions.shrink_to(0); // Thousands of idle connections keep no buffer each.
        }
        action
    }

    /// Whether the connection is to end once what is queued has been written.
    pub(crate) fn is_ending(&self) -> bool {
        self.lock().ending
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.actions.is_empty() && !state.ending
    }

    /// Whether an offer still waits.
    pub(crate) fn holds_an_offer(&self) -> bool {
        self.lock().actions.iter().any(|action| matches!(action, Action::Offer(_)))
    }

    /// Returns when something may have been queued since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns when the connection is to end.
    pub(crate) async fn ending(&self) {
        while !self.is_ending() {
            self.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use holepunch_wire::reason::CloseReason;

    use super::*;

    #[test]
    fn nothing_goes_in_after_a_close() {
        let outbox = Outbox::default();
        assert!(outbox.push(Action::Ping));
        assert!(outbox.push(Action::Close(CloseReason::Replaced)));
        assert!(!outbox.push(Action::Ping));
        assert!(outbox.is_ending());
        assert_eq!(outbox.pop(), Some(Action::Ping));
        assert!(matches!(outbox.pop(), Some(Action::Close(_))));
        assert_eq!(outbox.pop(), None);
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up_when_its_outbox_is_full() {
        let outbox = Outbox::default();
        let taken = (0..1000).filter(|_| outbox.push(Action::Ping)).count();
        assert_eq!(taken, ACTIONS_MAX);
        assert!(outbox.is_ending());
    }
}
