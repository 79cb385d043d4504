//! What waits to be written to one WebSocket.

use std::collections::VecDeque;

use holepunch_matchmaker::Action;

/// Most actions that wait for one client. A worker gets an answer per message, now and then an offer, and
/// news of each of its sessions; one that lets so many pile up has stopped reading.
const ACTIONS_MAX: usize = 256;

/// A bounded queue from a desk to its WebSocket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    actions: VecDeque<Action>,
    /// A close is queued, or the client reads too slowly: nothing more goes in.
    is_ending: bool,
    /// An offer did not go in.
    has_lost_an_offer: bool,
}

impl Outbox {
    /// Queues an action; `false` when the connection takes nothing more.
    pub(crate) fn push(&mut self, action: Action) -> bool {
        let is_full = self.actions.len() >= ACTIONS_MAX;
        if self.is_ending || is_full {
            self.is_ending = true;
            self.has_lost_an_offer |= matches!(action, Action::Offer(_));
            return false;
        }
        self.is_ending = matches!(action, Action::Close(_));
        match self.older(&action) {
            Some(older) => *older = action,
            None => self.actions.push_back(action),
        }
        true
    }

    /// The update in whose place this one stands, where it still waits.
    fn older(&mut self, action: &Action) -> Option<&mut Action> {
        let Action::Update(session, news, _) = action else { return None };
        let is_older = |it: &&mut Action| matches!(it, Action::Update(of, what, _) if (of, what) == (session, news));
        self.actions.iter_mut().find(is_older)
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() {
            self.actions.shrink_to(0); // Thousands of idle connections keep no buffer each.
        }
        action
    }

    /// Whether the connection is to end once what is queued has been written.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.actions.is_empty() && !self.is_ending
    }

    /// Whether there is an offer that the client has not been sent.
    pub(crate) fn holds_an_offer(&self) -> bool {
        self.has_lost_an_offer || self.actions.iter().any(|it| matches!(it, Action::Offer(_)))
    }
}

#[cfg(test)]
mod tests {
    use holepunch_wire::reason::CloseReason;

    use super::*;

    #[test]
    fn nothing_goes_in_after_a_close() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Action::Ping));
        assert!(outbox.push(Action::Close(CloseReason::Replaced)));
        assert!(!outbox.push(Action::Ping));
        assert!(outbox.is_ending() && !outbox.holds_an_offer());
        assert!(!outbox.push(Action::Offer(String::new())));
        assert!(outbox.holds_an_offer(), "its peer is to be told");
        assert_eq!(outbox.pop(), Some(Action::Ping));
        assert!(matches!(outbox.pop(), Some(Action::Close(_))));
        assert_eq!(outbox.pop(), None);
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up_when_its_outbox_is_full() {
        let mut outbox = Outbox::default();
        let taken = (0..1000).filter(|_| outbox.push(Action::Ping)).count();
        assert_eq!(taken, ACTIONS_MAX);
        assert!(outbox.is_ending());
    }
}
