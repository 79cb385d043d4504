//! How many times what the path holds may be in flight.

use std::time::{Duration, Instant};

/// One is under way; the rest is for acknowledgements that are late, and for what was lost and has to come again. With 2, a
/// flow that has the path fills a queue of one product of rate and round trip alone, and one of Cubic that begins later finds
/// no place in it: at 500 Mbit/s and 200 ms it had a fifth of the line, and has a third. Alone, a flow carries as much with
/// 1.75 as with 2.
pub(crate) const FULL: f64 = 1.75;
/// With less than a little more than the path holds, it would stand still now and then.
const LEAST: f64 = 1.1;
/// What a queue that overflows leaves: between the 0.7 of Cubic and the 0.85 that later forms of BBR keep free.
const CUT: f64 = 0.75;
/// How much comes back in a second. Cubic takes five to twenty seconds from one overflow to the next; with this, two that
/// begin together have half of the line each, more or less.
const GROWTH_PER_SECOND: f64 = 0.03;
/// A packet that is lost while the round trip takes so many times the shortest one was lost in a queue. Where the queue
/// is short, it was lost at random, as far as can be told, and says nothing: the sender's own probing makes round trips
/// 1.25 times as long.
const QUEUED: f64 = 1.4;

/// Falls when the queue overflows, and grows back with time. Two flows of this kind need no such rule, but one of
/// Cubic leaves the path when its packets are lost, until it has next to nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowGain {
    gain: f64,
    grown_at: Option<Instant>,
    /// The round of the last cut: one overflow loses many packets, and counts once.
    cut_round: u64,
    before_cut: f64,
}

impl WindowGain {
    pub(crate) const fn new() -> Self {
        Self { gain: FULL, grown_at: None, cut_round: 0, before_cut: FULL }
    }

    pub(crate) fn get(&self) -> f64 {
        self.gain
    }

    /// A round trip has ended.
    pub(crate) fn handle_round(&mut self, now: Instant) {
        let since = self.grown_at.replace(now).unwrap_or(now);
        let grown = GROWTH_PER_SECOND * now.saturating_duration_since(since).as_secs_f64();
        self.gain = (self.gain + grown).min(FULL);
    }

    /// Packets were lost in `round`, when a round trip took `rtt`. `marked`: the path itself says that it is congested (RFC 3168).
    pub(crate) fn handle_loss(
        &mut self,
        round: u64,
        rtt: Duration,
        shortest: Duration,
        marked: bool,
    ) {
        let queued = rtt.as_secs_f64() > shortest.as_secs_f64() * QUEUED;
        if round > self.cut_round && (queued || marked) {
            self.cut_round = round;
            self.before_cut = self.gain;
            self.gain = (self.gain * CUT).max(LEAST);
        }
    }

    /// What was lost has come after all.
    pub(crate) fn undo(&mut self) {
        self.gain = self.gain.max(self.before_cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(40);
    const QUEUE: Duration = Duration::from_millis(70);

    #[test]
    fn a_loss_without_a_queue_changes_nothing() {
        let mut gain = WindowGain::new();
        gain.handle_loss(1, SHORTEST + SHORTEST / 4, SHORTEST, false);
        assert_eq!(gain.get(), FULL);
    }

    #[test]
    fn an_overflow_counts_once_in_a_round() {
        let mut gain = WindowGain::new();
        for _ in 0..100 {
            gain.handle_loss(1, QUEUE, SHORTEST, false);
        }
        assert_eq!(gain.get(), FULL * CUT);
    }

    #[test]
    fn however_often_the_queue_overflows_the_path_is_filled() {
        let mut gain = WindowGain::new();
        for round in 1..100 {
            gain.handle_loss(round, QUEUE, SHORTEST, false);
        }
        assert_eq!(gain.get(), LEAST);
    }

    #[test]
    fn it_comes_back_with_time_and_no_further() {
        let (mut gain, start) = (WindowGain::new(), crate::epoch());
        gain.handle_round(start);
        gain.handle_loss(1, QUEUE, SHORTEST, false);
        gain.handle_round(start + Duration::from_secs(2));
        assert!((gain.get() - (FULL * CUT + 2.0 * GROWTH_PER_SECOND)).abs() < 1e-9);
        gain.handle_round(start + Duration::from_secs(100));
        assert_eq!(gain.get(), FULL);
    }

    #[test]
    fn a_loss_that_was_none_is_taken_back() {
        let mut gain = WindowGain::new();
        gain.handle_loss(1, QUEUE, SHORTEST, false);
        gain.undo();
        assert_eq!(gain.get(), FULL);
    }

    #[test]
    fn a_mark_of_the_path_counts_without_a_queue() {
        let mut gain = WindowGain::new();
        gain.handle_loss(1, SHORTEST, SHORTEST, true);
        assert_eq!(gain.get(), FULL * CUT);
    }
}
