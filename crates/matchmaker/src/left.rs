//! What connections that are gone have left, for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::session::{RoomName, SESSIONS_MAX};

use crate::hall::RESUME_WITHIN;
use crate::registry::Whereabouts;

/// Tokens by which the sessions of one worker are taken up: of its last connections.
pub const TOKENS_MAX: usize = 4;
/// Rooms in which one worker may have left sessions: each connection is in one, and visits no more than it has sessions.
/// Whoever comes and goes through more of them loses the oldest.
pub const ROOMS_MAX: usize = 2 * SESSIONS_MAX;

/// In which rooms the sessions of workers are that have lost their connection, and for how long these can be taken up.
#[derive(Debug, Default, Clone)]
pub(crate) struct Left {
    workers: BTreeMap<WorkerId, LeftBy>,
    until: BTreeSet<(Instant, WorkerId)>,
}

#[derive(Debug, Clone)]
struct LeftBy {
    /// The newest ones last.
    rooms: VecDeque<RoomName>,
    resume: Vec<String>,
    until: Instant,
}

impl Left {
    /// A worker has lost a connection, and may take up its sessions with the next one.
    pub(crate) fn add(&mut self, worker: &WorkerId, is: Whereabouts, now: Instant) {
        let until = now + RESUME_WITHIN;
        let new = || LeftBy { rooms: VecDeque::new(), resume: Vec::new(), until };
        let left = self.workers.entry(worker.clone()).or_insert_with(new);
        for room in is.room.into_iter().chain(is.visits) {
            left.rooms.retain(|known| *known != room);
            left.rooms.push_back(room);
        }
        left.rooms.drain(..left.rooms.len().saturating_sub(ROOMS_MAX));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_and_goes_through_many_rooms_leaves_some_in_the_last_ones() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let (worker, mut left) = (WorkerId::new("w").unwrap(), Left::default());
        let rooms = (0..3 * ROOMS_MAX).map(|number| RoomName::new(&number.to_string()).unwrap());
        let rooms: Vec<_> = rooms.collect();
        for room in &rooms {
            let is = Whereabouts { room: Some(room.clone()), ..Whereabouts::default() };
            left.add(&worker, is, now);
        }
        assert_eq!(left.by(&worker).0, rooms[2 * ROOMS_MAX..]);
    }
}
