//! Rates that each of many clients has, without a clock of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use holepunch_wire::address::SHARES_OF_SITE;

/// Clients whose use of a rate is known. One is forgotten once it has its whole burst again, so that the rate of all keeps
/// each table below this by itself.
pub(crate) const KNOWN_MAX: usize = 65_536;

/// So many in a second, and so many at once (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

impl Rate {
    /// When the burst would be whole again after so many more, or `None`: that is too many.
    pub(crate) fn take(
        self,
        count: u32,
        whole_at: Option<Instant>,
        now: Instant,
    ) -> Option<Instant> {
        let next = self.after(count, whole_at, now);
        (next <= now + self.interval() * self.burst).then_some(next)
    }

    /// When the burst would be whole again after so many more.
    fn after(self, count: u32, whole_at: Option<Instant>, now: Instant) -> Instant {
        whole_at.map_or(now, |at| at.max(now)) + self.interval() * count
    }

    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }

    /// What all networks of a site have together.
    pub(crate) fn of_site(self) -> Self {
        Self { per_second: self.per_second * SHARES_OF_SITE, burst: self.burst * SHARES_OF_SITE }
    }
}

/// Who has used how much of a rate that each of them has.
#[derive(Debug)]
pub(crate) struct Used<K> {
    rate: Rate,
    /// When each of them has its whole burst again.
    whole_at: BTreeMap<K, Instant>,
    /// The same, by that time.
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Used<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, whole_at: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// What to [`put`](Self::put) for so many more of `key`, or `None`: that is too many. Nobody has no bound.
    pub(crate) fn more(
        &self,
        key: Option<K>,
        count: u32,
        now: Instant,
    ) -> Option<Option<(K, Instant)>> {
        let Some(key) = key else { return Some(None) };
        let next = self.rate.take(count, self.whole_at.get(&key).copied(), now)?;
        Some(Some((key, next)))
    }

    pub(crate) fn put(&mut self, more: Option<(K, Instant)>) {
        let Some((key, next)) = more else { return };
        match self.whole_at.get(&key) {
            Some(before) => _ = self.by_time.remove(&(*before, key)),
            None if self.whole_at.len() >= KNOWN_MAX => self.forget_first(),
            None => {}
        }
        self.whole_at.insert(key, next);
        self.by_time.insert((next, key));
    }

    /// So many more of `key`, even if that is too many.
    pub(crate) fn add(&mut self, key: Option<K>, count: u32, now: Instant) {
        let Some(key) = key else { return };
        let next = self.rate.after(count, self.whole_at.get(&key).copied(), now);
        self.put(Some((key, next)));
    }

    pub(crate) fn forget_idle(&mut self, now: Instant) {
        while self.by_time.first().is_some_and(|(whole_at, _)| *whole_at <= now) {
            self.forget_first();
        }
    }

    /// The one that has used least of its burst.
    fn forget_first(&mut self) {
        if let Some((_, key)) = self.by_time.pop_first() {
            self.whole_at.remove(&key);
        }
    }

    /// How many are known, by key and by time.
    #[cfg(test)]
    pub(crate) fn known(&self) -> [usize; 2] {
        [self.whole_at.len(), self.by_time.len()]
    }
}
