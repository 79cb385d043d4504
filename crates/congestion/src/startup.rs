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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_while_the_rate_grows() {
        let mut startup = Startup::default();
        assert!((0..20).all(|round| !startup.handle_round(1.3_f64.powi(round), true)));
    }

    #[test]
    fn three_rounds_without_growth_end_it() {
        let mut startup = Startup::default();
        let ends = [1.0, 1.1, 1.1, 1.1].map(|rate| startup.handle_round(rate, false));
        assert_eq!(ends, [false, false, false, true]);
    }

    #[test]
    fn one_round_without_growth_ends_it_when_the_queue_overflows() {
        let mut startup = Startup::default();
        assert_eq!([1.0, 1.1].map(|rate| startup.handle_round(rate, true)), [false, true]);
    }
}
