//! Whether the path is full for the first time.

/// A round trip in which the rate grows by less than this has found the path full, or is one of the rounds that say so.
const GROWTH: f64 = 1.25;
/// So many rounds without growth end the start-up: one alone may be a receiver that paused.
const ROUNDS_WITHOUT_GROWTH: u32 = 3;

/// The start-up: twice as fast with each round trip, until the rate of delivery grows no more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Startup {
    rate: f64,
    rounds: u32,
}

impl Startup {
    /// A round trip has ended, in which the sender was limited by the path; `rate` is the highest one so far.
    /// Tells whether the path is full.
    pub(crate) fn handle_round(&mut self, rate: f64, overloaded: bool) -> bool {
        if rate >= self.rate * GROWTH {
            self.rate = rate;
            self.rounds = 0;
            return false;
        }
        self.rounds += 1;
        // The queue overflows: what more rounds would find out costs a queue of packets each.
        overloaded || self.rounds >= ROUNDS_WITHOUT_GROWTH
    }
}
