//! The cycle of a path that is full: probe for more, take back what that put into the queue, then cruise.

use std::time::{Duration, Instant};

/// What the rate is multiplied by in each part; each lasts a round trip.
const GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const PROBE: usize = 0;
const TAKE_BACK: usize = 1;
/// The first one: cruising, since the start-up has just found what the path carries.
const FIRST: usize = 2;

/// Where in the cycle a sender is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cycle {
    part: usize,
    since: Instant,
}

impl Cycle {
    pub(crate) fn new(now: Instant) -> Self {
        Self { part: FIRST, since: now }
    }

    pub(crate) fn pacing_gain(&self) -> f64 {
        GAINS[self.part]
    }

    /// Goes on to the next part when its time has come. `held` is what the path holds, in bytes.
    pub(crate) fn advance(&mut self, now: Instant, rtt: Duration, in_flight: f64, held: f64) {
        let over = now.saturating_duration_since(self.since) > rtt;
        let next = match self.part {
            PROBE => over,
            // As soon as the queue is gone, the path would be empty with less.
            TAKE_BACK => over || in_flight <= held,
            _ => over,
        };
        if next {
            self.part = (self.part + 1) % GAINS.len();
            self.since = now;
        }
    }
}
