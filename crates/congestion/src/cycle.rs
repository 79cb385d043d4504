//! The cycle of a path that is full: probe for more, take back what that put into the queue, then cruise.

use std::time::{Duration, Instant};

/// What the rate is multiplied by in each part; each lasts a round trip.
const GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const TAKE_BACK: usize = 1;
/// The first one: cruising, since the start-up has just found what the path carries.
const FIRST: usize = 2;
/// Rounds of cruising, one after the other, that lose so much that the path must have become slower. One alone may be
/// the burst of somebody else.
const OVERLOADED_ROUNDS: u32 = 2;

/// Where in the cycle a sender is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cycle {
    part: usize,
    since: Instant,
    overloaded: u32,
}

impl Cycle {
    pub(crate) fn new(now: Instant) -> Self {
        Self { part: FIRST, since: now, overloaded: 0 }
    }

    pub(crate) fn pacing_gain(&self) -> f64 {
        GAINS[self.part]
    }

    /// A round trip has ended. Tells whether the path has become slower.
    pub(crate) fn handle_round(&mut self, overloaded: bool) -> bool {
        // What is lost after probing was too much by intention, and is known a round later.
        if !overloaded || self.part <= FIRST {
            self.overloaded = 0;
            return false;
        }
        self.overloaded += 1;
        self.overloaded >= OVERLOADED_ROUNDS
    }

    /// Goes on to the next part when its time has come. `held` is what the path holds, in bytes.
    pub(crate) fn advance(&mut self, now: Instant, rtt: Duration, in_flight: f64, held: f64) {
        let over = now.saturating_duration_since(self.since) > rtt;
        // As soon as the queue is gone, the path would stand still with less.
        if over || (self.part == TAKE_BACK && in_flight <= held) {
            self.part = (self.part + 1) % GAINS.len();
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);
    const LATE: Duration = Duration::from_millis(41);

    #[test]
    fn each_part_lasts_a_round_trip_and_they_come_again() {
        let start = crate::epoch();
        let mut cycle = Cycle::new(start);
        let mut gains = Vec::new();
        for step in 1..=8 {
            gains.push(cycle.pacing_gain());
            cycle.advance(start + LATE * step, RTT, f64::MAX, 0.0);
        }
        assert_eq!(gains, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.25, 0.75]);
    }

    #[test]
    fn taking_back_ends_when_the_queue_is_gone() {
        let start = crate::epoch();
        let mut cycle = Cycle { part: TAKE_BACK, since: start, overloaded: 0 };
        cycle.advance(start, RTT, 101.0, 100.0);
        assert_eq!(cycle.pacing_gain(), 0.75);
        cycle.advance(start, RTT, 100.0, 100.0);
        assert_eq!(cycle.pacing_gain(), 1.0);
    }

    #[test]
    fn two_overloaded_rounds_of_cruising_say_that_the_path_is_slower() {
        let mut cycle = Cycle { part: 4, since: crate::epoch(), overloaded: 0 };
        assert_eq!([true, true].map(|lost| cycle.handle_round(lost)), [false, true]);
    }

    #[test]
    fn one_overloaded_round_or_those_of_probing_say_nothing() {
        let mut cycle = Cycle { part: 4, since: crate::epoch(), overloaded: 0 };
        assert_eq!([true, false, true].map(|lost| cycle.handle_round(lost)), [false; 3]);
        let mut cycle = Cycle { part: 0, since: crate::epoch(), overloaded: 0 };
        assert_eq!([true; 3].map(|lost| cycle.handle_round(lost)), [false; 3]);
    }
}
