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
/// A rendezvous that has refused the worker does so again, and may take 10 s of a pending connection each
/// time: the first wait is at most this, at least half of it, and each further one twice as long ...
const REFUSED_FIRST: Duration = Duration::from_secs(30);
/// ... up to this. An id that is bound to another key is free again after a day.
const REFUSED_LONGEST: Duration = Duration::from_secs(240);

/// How a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// After this time; none, where it did not come about.
    After(Duration),
    /// The rendezvous does not take this worker (close code 1008).
    Refused,
}

/// Exponential backoff with full jitter: when a rendezvous restarts, its workers come back spread
/// over time and not all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    refusals: u32,
}

impl Backoff {
    /// The wait before the next connection.
    pub(super) fn next(&mut self, ended: Ended, rng: &mut impl Rng) -> Duration {
        match ended {
            Ended::Refused => {
                let ceiling = (REFUSED_FIRST * (1 << self.refusals.min(16))).min(REFUSED_LONGEST);
                self.refusals = self.refusals.saturating_add(1);
                return ceiling.mul_f64(rng.random_range(0.5..=1.0));
            }
            Ended::After(lasted) if lasted >= STABLE_AFTER => *self = Self::default(),
            Ended::After(_) => {}
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
                let wait = backoff.next(Ended::After(Duration::ZERO), &mut rng);
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
            backoff.next(Ended::After(Duration::ZERO), &mut rng);
        }
        assert!(backoff.next(Ended::After(STABLE_AFTER), &mut rng) <= FIRST);
    }

    #[test]
    fn a_refusal_waits_longer_each_time_until_a_connection_lasts() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for ceiling in [30, 60, 120, 240, 240] {
            let wait = backoff.next(Ended::Refused, &mut rng);
            let ceiling = Duration::from_secs(ceiling);
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?}");
            assert!(backoff.next(Ended::After(Duration::ZERO), &mut rng) <= LONGEST);
        }
        backoff.next(Ended::After(STABLE_AFTER), &mut rng);
        assert!(backoff.next(Ended::Refused, &mut rng) <= REFUSED_FIRST);
    }
}
