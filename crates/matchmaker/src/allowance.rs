//! How many messages one connection may send.

use std::time::{Duration, Instant};

/// How many may come, as of some moment.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    left: u32,
    refilled_at: Instant,
}

/// So many at once, and one more after each such time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) every: Duration,
}

impl Rate {
    pub(crate) fn per_second(count: u32, burst: u32) -> Self {
        Self { burst, every: Duration::from_secs(1) / count }
    }
}

impl Allowance {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, refilled_at: now }
    }

    /// Whether one more may come.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let Rate { burst, every } = self.rate;
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let earned = elapsed.as_millis() / every.as_millis();
        if let Some(earned) = u32::try_from(earned).ok().filter(|earned| *earned > 0) {
            self.left = self.left.saturating_add(earned).min(burst);
            self.refilled_at = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_messages_is_cut_to_the_allowance() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut allowance = Allowance::new(Rate::per_second(20, 60), start);
        let mut taken = |at| (0..1000).filter(|_| allowance.allows(at)).count();
        assert_eq!(taken(start), 60);
        assert_eq!(taken(start + Duration::from_secs(1)), 20);
        assert_eq!(taken(start + Duration::from_secs(3600)), 60);
    }
}
