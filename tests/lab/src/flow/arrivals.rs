//! How many bytes have come, and when.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Bytes are counted for each of these times.
const STEP: Duration = Duration::from_millis(100);
/// Longest time that is counted, in steps: an hour.
const STEPS_MAX: usize = 36_000;

/// Bytes by the time at which they came, from the first one on, in steps of 100 ms.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arrivals {
    /// Bytes of each step.
    steps: Vec<u64>,
}

impl Arrivals {
    /// So many bytes have come so long after the first one. What comes after an hour is not counted.
    pub fn add(&mut self, after: Duration, bytes: usize) {
        let step = index(after);
        if step >= STEPS_MAX {
            return;
        }
        if step >= self.steps.len() {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += bytes as u64;
    }

    /// Bytes that came from `from` until `to`, in whole steps.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> u64 {
        let (from, to) = (index(from), index(to));
        self.steps.iter().take(to).skip(from).sum()
    }

    /// Million bits in a second that came from `from` until `to`.
    #[must_use]
    pub fn mbit_per_second(&self, from: Duration, to: Duration) -> f64 {
        let seconds = to.saturating_sub(from).as_secs_f64();
        self.between(from, to) as f64 * 8.0 / 1e6 / seconds.max(STEP.as_secs_f64())
    }
}

fn index(after: Duration) -> usize {
    usize::try_from(after.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX)
}

/// What has come of a flow that goes on, and when its first byte came.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// When the first byte came.
    pub(super) began: Instant,
    /// All bytes so far.
    pub(super) arrivals: Arrivals,
}

impl Running {
    /// A flow whose first bytes have just come.
    pub(super) fn new(bytes: usize) -> Self {
        let mut arrivals = Arrivals::default();
        arrivals.add(Duration::ZERO, bytes);
        Self { began: Instant::now(), arrivals }
    }

    /// So many bytes have come just now.
    pub(super) fn add(&mut self, bytes: usize) {
        self.arrivals.add(self.began.elapsed(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bytes_are_counted_in_the_step_in_which_they_come() {
        let mut arrivals = Arrivals::default();
        for (at, bytes) in [(0, 1000), (99, 1), (100, 20), (950, 300), (1000, 4000)] {
            arrivals.add(ms(at), bytes);
        }
        assert_eq!(arrivals.between(ms(0), ms(100)), 1001);
        assert_eq!(arrivals.between(ms(100), ms(1000)), 320);
        assert_eq!(arrivals.between(ms(0), ms(60_000)), 5321);
        assert_eq!(arrivals.between(ms(500), ms(500)), 0);
        let rate = arrivals.mbit_per_second(ms(0), ms(1000));
        assert!((rate - 1321.0 * 8.0 / 1e6).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn a_flow_without_an_end_takes_no_more_memory() {
        let mut arrivals = Arrivals::default();
        arrivals.add(Duration::from_secs(1_000_000), 1);
        assert_eq!(arrivals, Arrivals::default());
    }
}
