//! What connections that are gone have left, for a while.

use std::collections::VecDeque;
use std::time::Instant;

use holepunch_wire::session::SESSIONS_MAX;

use crate::expiring::Expiring;
use crate::hall::RESUME_WITHIN;
use crate::names::{Member, Room};
use crate::registry::Whereabouts;

/// Tokens by which the sessions of one worker are taken up: of its last connections.
pub const TOKENS_MAX: usize = 4;
/// Rooms in which one worker may have left sessions: each connection is in one, and visits no more than it has sessions.
/// Whoever comes and goes through more of them loses the oldest.
pub const ROOMS_MAX: usize = 2 * SESSIONS_MAX;

/// In which rooms the sessions of workers are that have lost their connection, and for how long these can be taken up.
#[derive(Debug, Default, Clone)]
pub(crate) struct Left(Expiring<Member, LeftBy>);

#[derive(Debug, Default, Clone)]
struct LeftBy {
    /// The newest ones last.
    rooms: VecDeque<Room>,
    resume: Vec<String>,
}

impl Left {
    /// A worker has lost a connection, and may take up its sessions with the next one.
    pub(crate) fn add(&mut self, worker: &Member, is: Whereabouts, now: Instant) {
        let mut left = self.0.remove(worker).unwrap_or_default();
        for room in is.room.into_iter().chain(is.visits) {
            left.rooms.retain(|known| *known != room);
            left.rooms.push_back(room);
        }
        left.rooms.drain(..left.rooms.len().saturating_sub(ROOMS_MAX));
        // One that was replaced before it has said hello has taken up nothing of those before.
        left.resume.retain(|token| !is.resume.contains(token));
        left.resume.extend(is.resume);
        left.resume.drain(..left.resume.len().saturating_sub(TOKENS_MAX));
        self.0.insert(worker.clone(), left, now + RESUME_WITHIN);
    }

    /// The rooms with sessions of a worker, and the tokens with which they are taken up.
    pub(crate) fn by(&self, worker: &Member) -> (Vec<Room>, Vec<String>) {
        let of = |left: &LeftBy| (left.rooms.iter().cloned().collect(), left.resume.clone());
        self.0.get(worker).map(of).unwrap_or_default()
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        self.0.expire(now);
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        self.0.check_invariants();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_and_goes_through_many_rooms_leaves_some_in_the_last_ones() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let (worker, mut left) = (Member::unnamed("w".parse().unwrap()), Left::default());
        let rooms =
            (0..3 * ROOMS_MAX).map(|number| Room::unnamed(number.to_string().parse().unwrap()));
        let rooms: Vec<_> = rooms.collect();
        for room in &rooms {
            let is = Whereabouts { room: Some(room.clone()), ..Whereabouts::default() };
            left.add(&worker, is, now);
        }
        assert_eq!(left.by(&worker).0, rooms[2 * ROOMS_MAX..]);
    }
}
