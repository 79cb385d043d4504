//! How long to wait before the next connection.

use std::time::Duration;

use rand::Rng;
use rand::RngExt;

/// The first wait is at most this, and each further one at most twice the one before.
const FIRST: Duration = Duration::from_millis(500);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that has lasted so long is no failure: the next wait starts from the first again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Exponential backoff with full jitter: when a rendezvous restarts, its workers come back spread
/// over time and not all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a connection that was open for `lasted`.
    pub(super) fn next(&mut self, lasted: Duration, rng: &mut impl Rng) -> Duration {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
        let ceiling = (FIRST * (1 << self.failures.min(16))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(rng.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn waits_double_up_to_half_a_minute_and_are_spread_over_their_whole_range() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut longest = [Duration::ZERO; 12];
        let mut shortest = [LONGEST; 12];
        for _ in 0..500 {
            let mut backoff = Backoff::default();
            for attempt in 0..12 {
                let wait = backoff.next(Duration::ZERO, &mut rng);
                longest[attempt] = longest[attempt].max(wait);
                shortest[attempt] = shortest[attempt].min(wait);
            }
        }
        let seconds = longest.map(|wait| wait.as_secs_f64());
        for (longest, ceiling) in seconds.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            assert!(*longest <= ceiling && *longest > ceiling * 0.95, "{seconds:?}");
        }
        assert!(shortest[11] < Duration::from_secs(1), "{shortest:?}");
    }

    #[test]
    fn a_connection_that_lasted_starts_anew() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next(Duration::ZERO, &mut rng);
        }
        assert!(backoff.next(STABLE_AFTER, &mut rng) <= FIRST);
    }
}
