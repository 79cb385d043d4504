//! Over which way a link's packets go, and how that has changed.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Changes of a link that are remembered; the oldest are forgotten.
const HISTORY_MAX: usize = 256;

/// The way that a link's packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPath {
    /// Directly, or through whom.
    pub kind: PathKind,
    /// The latest estimate of the round-trip time; `None` before the first answer.
    pub rtt: Option<Duration>,
}

/// Directly, or through whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathKind {
    /// From worker to worker.
    Direct {
        /// The peer's address.
        remote: SocketAddr,
    },
    /// Through the relay of the rendezvous.
    Relay,
    /// Through a TURN server.
    Turn,
    /// No way is left at the moment; others are sought.
    None,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct { remote } => write!(f, "direct to {remote}"),
            Self::Relay => f.write_str("relay of the rendezvous"),
            Self::Turn => f.write_str("TURN server"),
            Self::None => f.write_str("none"),
        }
    }
}

/// One change of a link's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEvent {
    /// When, since the link's session began.
    pub after: Duration,
    /// What is used from then on.
    pub path: LinkPath,
    /// Why, in words.
    pub reason: String,
}

/// The path of a link: written by its driver, read by everyone.
#[derive(Debug)]
pub(crate) struct PathState {
    began: Instant,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// The path's number in the connection.
    id: Option<noq::PathId>,
    current: LinkPath,
    history: VecDeque<PathEvent>,
    /// Changes before the oldest one in the history.
    forgotten: u64,
}

impl PathState {
    pub(crate) fn new(began: Instant) -> Arc<Self> {
        let current = LinkPath { kind: PathKind::None, rtt: None };
        let state = State { id: None, current, history: VecDeque::new(), forgotten: 0 };
        Arc::new(Self { began, state: Mutex::new(state), changes: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path in use, and its number.
    pub(crate) fn current(&self) -> (Option<noq::PathId>, LinkPath) {
        let state = self.lock();
        (state.id, state.current.clone())
    }

    pub(crate) fn changed(&self, id: Option<noq::PathId>, path: LinkPath, reason: &str) {
        let reason = reason.to_owned();
        let mut state = self.lock();
        state.id = id;
        if state.history.len() == HISTORY_MAX {
            state.history.pop_front();
            state.forgotten += 1;
        }
        state.current = path.clone();
        state.history.push_back(PathEvent { after: self.began.elapsed(), path, reason });
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn history(&self) -> Vec<PathEvent> {
        self.lock().history.iter().cloned().collect()
    }

    fn at(&self, number: u64) -> (Option<PathEvent>, u64) {
        let state = self.lock();
        let number = number.max(state.forgotten);
        let index = usize::try_from(number - state.forgotten).unwrap_or(usize::MAX);
        (state.history.get(index).cloned(), number)
    }
}

/// The changes of a link's path, from the first one on.
#[derive(Debug)]
pub struct PathEvents {
    state: Arc<PathState>,
    changes: watch::Receiver<u64>,
    next: u64,
}

impl PathEvents {
    pub(super) fn new(state: &Arc<PathState>) -> Self {
        Self { state: Arc::clone(state), changes: state.changes.subscribe(), next: 0 }
    }

    /// The changes so far, the oldest first; of very many the latest.
    #[must_use]
    pub fn history(&self) -> Vec<PathEvent> {
        self.state.history()
    }

    /// The next change. Whoever falls far behind misses the oldest.
    pub async fn next(&mut self) -> PathEvent {
        loop {
            let (event, number) = self.state.at(self.next);
            if let Some(event) = event {
                self.next = number + 1;
                return event;
            }
            // The sender lives as long as the state does.
            let _changed = self.changes.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_listens_hears_every_change_and_whoever_sleeps_the_latest() {
        let state = PathState::new(Instant::now());
        let mut events = PathEvents::new(&state);
        let relay = LinkPath { kind: PathKind::Relay, rtt: None };
        for number in 0..=HISTORY_MAX {
            state.changed(None, relay.clone(), &number.to_string());
        }
        assert_eq!(events.next().await.reason, "1");
        assert_eq!(events.next().await.reason, "2");
        assert_eq!((state.history().len(), state.current().1), (HISTORY_MAX, relay));
    }
}
