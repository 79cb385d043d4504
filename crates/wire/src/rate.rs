//! How often something may happen: the one bound of its kind, with what each user of it has left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many in each such time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many come back ...
    pub count: u64,
    /// ... in this time, evenly.
    pub per: Duration,
    /// How many at once, after a pause.
    pub burst: u64,
}

impl Rate {
    /// A rate of as many users together.
    #[must_use]
    pub const fn times(self, users: u64) -> Self {
        let (count, burst) = (self.count.saturating_mul(users), self.burst.saturating_mul(users));
        Self { count, burst, ..self }
    }

    /// In what time so many come back. Rounded down, so that a burst is had one by one as well.
    fn time_of(self, count: u64) -> Duration {
        let nanos = u128::from(count) * self.per.as_nanos() / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How much of a rate is used, as the moment when its burst is whole again (the generic cell rate algorithm, ITU-T I.371).
/// Whoever has the bucket knows the rate, always the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    whole_at: Option<Instant>,
}

impl Bucket {
    /// Takes one, if there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let has_one = self.has(rate, 1, now);
        if has_one {
            self.spend(rate, 1, now);
        }
        has_one
    }

    /// Whether so many could be taken.
    #[must_use]
    pub fn has(&self, rate: Rate, count: u64, now: Instant) -> bool {
        self.free_at(rate, count, now) <= now
    }

    /// Takes so many, even if there are fewer: from when on there would have been as many, if that is later than now.
    pub fn spend(&mut self, rate: Rate, count: u64, now: Instant) -> Option<Instant> {
        let free_at = self.free_at(rate, count, now);
        self.whole_at = Some(self.after(rate, count, now));
        (free_at > now).then_some(free_at)
    }

    /// When so many could be taken.
    #[must_use]
    pub fn free_at(&self, rate: Rate, count: u64, now: Instant) -> Instant {
        let free_at = self.after(rate, count, now).checked_sub(rate.time_of(rate.burst));
        free_at.map_or(now, |at| at.max(now))
    }

    /// From when on nothing of it is used; `None` where nothing ever was.
    #[must_use]
    pub fn whole_at(&self) -> Option<Instant> {
        self.whole_at
    }

    fn after(&self, rate: Rate, count: u64, now: Instant) -> Instant {
        let from = self.whole_at.map_or(now, |at| at.max(now));
        // What lies beyond all time changes nothing.
        from.checked_add(rate.time_of(count)).unwrap_or(from)
    }
}

/// What may be told, to whoever reads it, and how much was not.
#[derive(Debug)]
pub struct Lines(Rate, Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    lines: Bucket,
    /// That some were left out is told once in the time of the rate.
    shortfall: Bucket,
    left_out: u64,
}

impl Lines {
    /// So many, in each time of the rate.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self(rate, Mutex::default())
    }

    /// Whether one more may be told. How many were left out is told before, where it is time.
    pub fn allows_one(&self, now: Instant, tell_left_out: impl FnOnce(u64)) -> bool {
        let mut told = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.lines.take(self.0, now);
        told.left_out += u64::from(!may);
        let once = Rate { count: 1, burst: 1, ..self.0 };
        let left_out = (may && told.left_out > 0 && told.shortfall.take(once, now))
            .then(|| std::mem::take(&mut told.left_out));
        drop(told);
        if let Some(left_out) = left_out {
            tell_left_out(left_out);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        Instant::now()
    }

    #[test]
    fn a_flood_has_its_burst_at_once_and_then_its_rate() {
        let start = start();
        for (count, per, burst) in [(20, SECOND, 60), (3, SECOND, 7), (1, 5 * SECOND, 10)] {
            let (rate, mut bucket) = (Rate { count, per, burst }, Bucket::default());
            let mut taken = |at| (0..1000).filter(|_| bucket.take(rate, at)).count() as u64;
            assert_eq!([start, start + per].map(&mut taken), [burst, count]);
            let later = (1..=1000).map(|step| taken(start + per + per * step / 1000)).sum::<u64>();
            assert_eq!(later, count, "evenly");
            assert_eq!(taken(start + 3600 * SECOND), burst, "no pause earns more");
        }
    }

    #[test]
    fn what_is_spent_beyond_the_burst_is_waited_for() {
        let (start, mut bucket) = (start(), Bucket::default());
        let rate = Rate { count: 1_000_000, per: SECOND, burst: 100_000 };
        assert_eq!(bucket.spend(rate, 100_000, start), None);
        assert_eq!(bucket.spend(rate, 1_000_000, start), Some(start + SECOND));
        assert!(!bucket.has(rate, 1, start + SECOND) && bucket.has(rate, 1, start + 2 * SECOND));
        assert_eq!(bucket.whole_at(), Some(start + SECOND + SECOND / 10));
        assert_eq!(bucket.free_at(rate, 50_000, start), start + SECOND + SECOND / 20);
        for _ in 0..100 {
            bucket.spend(Rate { count: 0, ..rate }, u64::MAX, start);
        }
        assert!(!bucket.has(rate, 1, start));
    }

    #[test]
    fn what_is_left_out_is_counted_and_told_once_in_a_time() {
        let (start, rate) = (start(), Rate { count: 200, per: SECOND, burst: 200 });
        let lines = Lines::new(rate);
        let take = |now| {
            let mut left_out = None;
            (lines.allows_one(now, |count| left_out = Some(count)), left_out)
        };
        assert_eq!((0..5_000).filter(|_| take(start).0).count(), 200);
        assert_eq!(take(start + SECOND), (true, Some(4_800)));
        assert_eq!((0..300).filter(|_| take(start + SECOND).1.is_some()).count(), 0);
        assert_eq!(take(start + 2 * SECOND), (true, Some(101)));
        assert_eq!(take(start + 2 * SECOND), (true, None));
    }
}
