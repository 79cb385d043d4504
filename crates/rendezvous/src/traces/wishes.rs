//! Since when workers wish for a peer.

use std::collections::BTreeMap;
use std::time::SystemTime;

use holepunch_matchmaker::Room;
use holepunch_wire::WorkerId;

/// Wishes of each of the two halves, some 200 bytes each. A worker that has gone elsewhere with its wish is not told of here.
const WISHES_MAX: usize = 32_768;

/// Those that are remembered. Where there are too many, those from longest ago are forgotten together, and their pairings have no span.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    newer: BTreeMap<(Room, WorkerId), SystemTime>,
    older: BTreeMap<(Room, WorkerId), SystemTime>,
}

impl Wishes {
    /// One that says it again has wished for it since the first time.
    pub(super) fn note(&mut self, room: &Room, worker: &WorkerId, at: SystemTime) {
        let key = (room.clone(), worker.clone());
        if self.older.contains_key(&key) || self.newer.contains_key(&key) {
            return;
        }
        if self.newer.len() >= WISHES_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, at);
    }

    pub(super) fn take(&mut self, room: &Room, worker: &WorkerId) -> Option<SystemTime> {
        let key = (room.clone(), worker.clone());
        self.newer.remove(&key).or_else(|| self.older.remove(&key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_wish_counts_and_the_oldest_are_forgotten() {
        let mut wishes = Wishes::default();
        let room = Room::default();
        let worker = |number: usize| WorkerId::new(&format!("w{number}")).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        wishes.note(&room, &worker(0), at(1));
        wishes.note(&room, &worker(0), at(2));
        assert_eq!(wishes.take(&room, &worker(0)), Some(at(1)));
        assert_eq!(wishes.take(&room, &worker(0)), None);
        for number in 0..=2 * WISHES_MAX {
            wishes.note(&room, &worker(number), at(3));
        }
        assert!(wishes.newer.len() + wishes.older.len() <= 2 * WISHES_MAX);
        assert_eq!(wishes.take(&room, &worker(0)), None);
        assert_eq!(wishes.take(&room, &worker(2 * WISHES_MAX)), Some(at(3)));
    }
}
