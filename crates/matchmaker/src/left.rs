//! What connections that are gone have left, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::session::RoomName;

use crate::hall::RESUME_WITHIN;
use crate::registry::Whereabouts;

/// Tokens by which the sessions of one worker are taken up: of its last connections.
pub const TOKENS_MAX: usize = 4;

/// In which rooms the sessions of workers are that have lost their connection, and for how long these can be taken up.
#[derive(Debug, Default, Clone)]
pub(crate) struct Left {
    workers: BTreeMap<WorkerId, LeftBy>,
    until: BTreeSet<(Instant, WorkerId)>,
}

#[derive(Debug, Clone)]
struct LeftBy {
    rooms: BTreeSet<RoomName>,
    resume: Vec<String>,
    until: Instant,
}

impl Left {
    /// A worker has lost a connection, and may take up its sessions with the next one.
    pub(crate) fn add(&mut self, worker: &WorkerId, is: Whereabouts, now: Instant) {
        let until = now + RESUME_WITHIN;
        let new = || LeftBy { rooms: BTreeSet::new(), resume: Vec::new(), until };
        let left = self.workers.entry(worker.clone()).or_insert_with(new);
        left.rooms.extend(is.room.into_iter().chain(is.visits));
        // One that was replaced before it has said hello has taken up nothing of those before.
        left.resume.retain(|token| !is.resume.contains(token));
        left.resume.extend(is.resume);
        left.resume.drain(..left.resume.len().saturating_sub(TOKENS_MAX));
        self.until.remove(&(left.until, worker.clone()));
        left.until = until;
        self.until.insert((until, worker.clone()));
    }

    /// The rooms with sessions of a worker, and the tokens with which they are taken up.
    pub(crate) fn by(&self, worker: &WorkerId) -> (Vec<RoomName>, Vec<String>) {
        let left = self.workers.get(worker);
        let of = |left: &LeftBy| (left.rooms.iter().cloned().collect(), left.resume.clone());
        left.map(of).unwrap_or_default()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.until.first()
            && *at <= now
            && let Some((_, worker)) = self.until.pop_first()
        {
            self.workers.remove(&worker);
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.workers.len(), self.until.len(), "each of those who left has one time");
    }
}
