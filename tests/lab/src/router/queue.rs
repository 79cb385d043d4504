//! The packets that are under way.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Dropped, Toward};

/// Most packets that are under way at once: 100 ms of 80,000 packets a second.
const PACKETS_MAX: usize = 8192;

/// Packets by the time when they leave, those of the same time in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    packets: BTreeMap<(Instant, u64), (Toward, Vec<u8>)>,
    pushed: u64,
}

impl Queue {
    pub(super) fn push(
        &mut self,
        at: Instant,
        toward: Toward,
        bytes: &[u8],
    ) -> Result<(), Dropped> {
        if self.packets.len() >= PACKETS_MAX {
            return Err(Dropped::QueueFull);
        }
        self.packets.insert((at, self.pushed), (toward, bytes.to_vec()));
        self.pushed += 1;
        Ok(())
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.packets.keys().next().map(|(at, _)| *at)
    }

    /// Takes out a packet that is to leave by now, the earliest first.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Toward, Vec<u8>)> {
        let first = self.packets.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn packets_leave_in_order_and_not_early() {
        let start = Instant::now();
        let later = start + Duration::from_millis(5);
        let mut queue = Queue::default();
        for (at, byte) in [(later, 1), (start, 2), (later, 3)] {
            queue.push(at, Toward::Inside, &[byte]).unwrap();
        }
        assert_eq!(queue.next_due(), Some(start));
        assert_eq!(queue.pop_due(start), Some((Toward::Inside, vec![2])));
        assert_eq!(queue.pop_due(start), None);
        assert_eq!(queue.pop_due(later), Some((Toward::Inside, vec![1])));
        assert_eq!(queue.pop_due(later), Some((Toward::Inside, vec![3])));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for _ in 0..PACKETS_MAX {
            queue.push(now, Toward::Outside, &[]).unwrap();
        }
        assert_eq!(queue.push(now, Toward::Outside, &[]), Err(Dropped::QueueFull));
    }
}
