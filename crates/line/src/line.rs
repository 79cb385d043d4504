//! One direction of a line: a queue, a rate, a delay, and losses.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What IPv4 and UDP add to a datagram, in bytes: the line's rate is that of packets.
pub(crate) const HEADER_BYTES: u64 = 28;

/// A share of packets that are lost, at random, before they reach the queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss(pub f64);

/// What a line is like.
#[derive(Debug, Clone, Copy)]
pub struct LineConfig {
    /// Bits of packets in a second.
    pub bits_per_second: u64,
    /// From the head of the queue to the other end.
    pub delay: Duration,
    /// Bytes that may wait; a packet that does not fit is dropped.
    pub queue_bytes: u64,
    /// Packets lost for no reason of the queue's.
    pub loss: Loss,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It comes out at the other end at this moment, counted from the start.
    Arrives(Duration),
    /// The queue was full.
    Dropped,
    /// Lost at random.
    Lost,
}

/// One direction of a line.
#[derive(Debug)]
pub struct Line {
    config: LineConfig,
    /// When the last packet of the queue has left it.
    free_at: Duration,
    random: StdRng,
}

impl Line {
    /// An empty line. The seed decides which packets are lost.
    #[must_use]
    pub fn new(config: LineConfig, seed: u64) -> Self {
        Self { config, free_at: Duration::ZERO, random: StdRng::seed_from_u64(seed) }
    }

    /// Another rate, from now on; what waits already leaves as before.
    pub fn turn_to(&mut self, bits_per_second: u64) {
        self.config.bits_per_second = bits_per_second;
    }

    fn seconds_of(&self, bytes: u64) -> f64 {
        (bytes * 8) as f64 / self.config.bits_per_second as f64
    }

    /// Takes a datagram of `bytes` (its UDP payload) at `now`.
    pub fn send(&mut self, bytes: usize, now: Duration) -> Fate {
        if self.config.loss.0 > 0.0 && self.random.random::<f64>() < self.config.loss.0 {
            return Fate::Lost;
        }
        let bytes = bytes as u64 + HEADER_BYTES;
        let start = self.free_at.max(now);
        let waits = (start - now).as_secs_f64();
        if waits + self.seconds_of(bytes) > self.seconds_of(self.config.queue_bytes) {
            return Fate::Dropped;
        }
        self.free_at = start + Duration::from_secs_f64(self.seconds_of(bytes));
        Fate::Arrives(self.free_at + self.config.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(queue_bytes: u64, loss: f64) -> Line {
        let delay = Duration::from_millis(10);
        Line::new(
            LineConfig { bits_per_second: 8_000_000, delay, queue_bytes, loss: Loss(loss) },
            1,
        )
    }

    #[test]
    fn packets_leave_one_after_the_other_at_the_rate_of_the_line() {
        let mut line = line(10_000, 0.0);
        let now = Duration::ZERO;
        assert_eq!(line.send(972, now), Fate::Arrives(Duration::from_millis(11)));
        assert_eq!(line.send(972, now), Fate::Arrives(Duration::from_millis(12)));
        let later = Duration::from_millis(50);
        assert_eq!(line.send(972, later), Fate::Arrives(Duration::from_millis(61)));
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_dropped() {
        let mut line = line(2_000, 0.0);
        let fates: Vec<_> = (0..3).map(|_| line.send(972, Duration::ZERO)).collect();
        assert_eq!(fates[2], Fate::Dropped);
    }

    #[test]
    fn a_share_of_packets_is_lost() {
        let mut line = line(u64::MAX / 16, 0.1);
        let lost = (0..10_000).filter(|_| line.send(0, Duration::ZERO) == Fate::Lost).count();
        assert!((900..1_100).contains(&lost), "{lost}");
    }
}
