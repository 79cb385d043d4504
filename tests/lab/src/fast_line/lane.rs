//! One direction of a line, without sockets and without a clock: what happens to a packet, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::settings::LaneSettings;

const BITS_PER_BYTE: u128 = 8;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// What a packet comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives at this time.
    Arrives(Instant),
    /// It is sent, and takes its time on the line, but does not arrive.
    Lost,
    /// The queue before the line has no room for it.
    NoRoom,
}

/// A queue, a sender with a rate, and a way that takes its time and loses packets.
#[derive(Debug)]
pub(super) struct Lane {
    settings: LaneSettings,
    rng: StdRng,
    /// When each packet of the queue has been sent, and its length; the one being sent is the first.
    queue: VecDeque<(Instant, usize)>,
    queued_bytes: usize,
    /// When the last packet of the queue has been sent.
    free_at: Option<Instant>,
    /// What is missing in `free_at`: parts of a nanosecond, in bits times 10⁹.
    remainder: u128,
}

impl Lane {
    pub(super) fn new(settings: LaneSettings, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let queue = VecDeque::new();
        Self { settings, rng, queue, queued_bytes: 0, free_at: None, remainder: 0 }
    }

    /// A packet of this length, with its IP header, comes at `now`, which never goes back.
    pub(super) fn offer(&mut self, bytes: usize, now: Instant) -> Fate {
        self.let_go(now);
        // An idle line takes any packet, so that a small queue does not stop large ones for ever.
        let has_room = self.queued_bytes + bytes <= self.settings.queue_bytes_max;
        if !self.queue.is_empty() && !has_room {
            return Fate::NoRoom;
        }
        let sent = self.send(bytes, now);
        self.queue.push_back((sent, bytes));
        self.queued_bytes += bytes;
        // A lost packet has been sent: a radio link or a router further on loses it, not the queue.
        if self.settings.loss > 0.0 && self.rng.random_bool(self.settings.loss) {
            return Fate::Lost;
        }
        Fate::Arrives(sent + self.settings.delay)
    }

    /// Bytes that wait or are being sent, as of the last packet.
    #[cfg(test)]
    fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Takes what has been sent by `now` out of the queue.
    fn let_go(&mut self, now: Instant) {
        while let Some(&(sent, bytes)) = self.queue.front()
            && sent <= now
        {
            self.queue.pop_front();
            self.queued_bytes -= bytes;
        }
        debug_assert!(!self.queue.is_empty() || self.queued_bytes == 0, "no packets, no bytes");
    }

    /// When a packet that comes at `now` has been sent.
    fn send(&mut self, bytes: usize, now: Instant) -> Instant {
        let begins = match self.free_at {
            Some(free_at) if free_at > now => free_at,
            // A line that was idle owes no parts of a nanosecond.
            Some(_) | None => {
                self.remainder = 0;
                now
            }
        };
        let rate = u128::from(self.settings.bits_per_second);
        // The remainder is kept, so that the rate is exact over many packets.
        let work = bytes as u128 * BITS_PER_BYTE * NANOS_PER_SECOND + self.remainder;
        self.remainder = work % rate;
        let sent = begins + Duration::from_nanos(u64::try_from(work / rate).unwrap_or(u64::MAX));
        self.free_at = Some(sent);
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// 1,000 bytes take 1 ms.
    const SLOW: LaneSettings = LaneSettings {
        bits_per_second: 8_000_000,
        delay: Duration::from_millis(20),
        loss: 0.0,
        queue_bytes_max: 3000,
    };

    #[test]
    fn a_packet_on_an_idle_line_takes_its_sending_and_the_delay() {
        let (mut lane, start) = (Lane::new(SLOW, 1), Instant::now());
        assert_eq!(lane.offer(1000, start), Fate::Arrives(start + 21 * MS));
        let later = start + 500 * MS;
        assert_eq!(lane.offer(500, later), Fate::Arrives(later + MS / 2 + 20 * MS));
    }

    #[test]
    fn packets_that_come_at_once_leave_one_after_another() {
        let (mut lane, start) = (Lane::new(SLOW, 1), Instant::now());
        let arrivals = [1, 2, 3].map(|_| lane.offer(1000, start));
        assert_eq!(arrivals, [21, 22, 23].map(|ms| Fate::Arrives(start + ms * MS)));
    }

    #[test]
    fn a_full_queue_drops_its_tail_until_a_packet_has_been_sent() {
        let (mut lane, start) = (Lane::new(SLOW, 1), Instant::now());
        for _ in 0..3 {
            assert!(matches!(lane.offer(1000, start), Fate::Arrives(_)));
        }
        assert_eq!(lane.queued_bytes(), 3000);
        assert_eq!(lane.offer(1, start), Fate::NoRoom);
        assert_eq!(lane.offer(1000, start + MS - Duration::from_nanos(1)), Fate::NoRoom);
        assert_eq!(lane.offer(1000, start + MS), Fate::Arrives(start + 24 * MS));
        assert_eq!(lane.queued_bytes(), 3000);
    }

    #[test]
    fn an_idle_line_takes_a_packet_that_is_longer_than_its_queue() {
        let (mut lane, start) = (Lane::new(SLOW, 1), Instant::now());
        assert_eq!(lane.offer(5000, start), Fate::Arrives(start + 25 * MS));
        assert_eq!(lane.offer(1, start), Fate::NoRoom);
        assert_eq!(lane.offer(5000, start + 5 * MS), Fate::Arrives(start + 30 * MS));
    }

    #[test]
    fn the_rate_is_exact_over_many_packets_whose_sending_takes_no_whole_nanoseconds() {
        let settings =
            LaneSettings { bits_per_second: 700_000_001, queue_bytes_max: usize::MAX, ..SLOW };
        let (mut lane, start) = (Lane::new(settings, 1), Instant::now());
        let (packets, bits_per_packet) = (200_000_u64, 1499 * 8);
        let mut last = start;
        for _ in 0..packets {
            let Fate::Arrives(at) = lane.offer(1499, start) else { panic!("no room") };
            last = at - settings.delay;
        }
        let exact = (packets * bits_per_packet) as f64 / settings.bits_per_second as f64;
        assert!(((last - start).as_secs_f64() - exact).abs() < 5e-9, "{:?}", last - start);
    }

    #[test]
    fn so_many_packets_are_lost_as_is_said_and_the_same_ones_for_the_same_seed() {
        let settings = LaneSettings { loss: 0.02, queue_bytes_max: usize::MAX, ..SLOW };
        let start = Instant::now();
        let lost = |seed| {
            let mut lane = Lane::new(settings, seed);
            (0..100_000).map(|_| lane.offer(100, start) == Fate::Lost).collect::<Vec<_>>()
        };
        let first = lost(7);
        let count = first.iter().filter(|lost| **lost).count();
        // Five standard deviations, of 44, to either side.
        assert!((1780..=2220).contains(&count), "{count}");
        assert_eq!(first, lost(7));
        assert_ne!(first, lost(8));
    }

    #[test]
    fn lost_packets_take_their_time_on_the_line() {
        let settings = LaneSettings { loss: 1.0, ..SLOW };
        let (mut lane, start) = (Lane::new(settings, 1), Instant::now());
        for _ in 0..3 {
            assert_eq!(lane.offer(1000, start), Fate::Lost);
        }
        assert_eq!(lane.offer(1000, start), Fate::NoRoom);
    }
}
