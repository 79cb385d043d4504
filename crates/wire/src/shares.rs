//! Who has how much of what is shared out: one table for whoever counts by [`Source`], by [`Site`], or by something else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::address::{SHARES_OF_SITE, Site, Source};
use crate::rate::{Bucket, Rate};

/// What one of many has.
pub trait Share: Default {
    /// Whether it has to be known.
    fn standing(&self) -> Standing;
}

/// Whether a share has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has to be: something is held.
    Held,
    /// It should be, but it is forgotten where the table is full, the earliest one first.
    Idle(Instant),
    /// It is what everybody has that is not in the table.
    Nothing,
}

/// So many are held.
impl Share for usize {
    fn standing(&self) -> Standing {
        if *self == 0 { Standing::Nothing } else { Standing::Held }
    }
}

/// All these are held.
impl<K, V> Share for BTreeMap<K, V> {
    fn standing(&self) -> Standing {
        self.len().standing()
    }
}

/// When it was.
impl Share for Option<Instant> {
    fn standing(&self) -> Standing {
        self.map_or(Standing::Nothing, Standing::Idle)
    }
}

/// Whoever has used least of his burst is forgotten first.
impl Share for Bucket {
    fn standing(&self) -> Standing {
        self.whole_at().standing()
    }
}

/// Shares by their keys; who has nothing takes no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<K, S> {
    shares: BTreeMap<K, S>,
    /// Those that may be forgotten.
    idle: BTreeSet<(Instant, K)>,
    entries_max: usize,
}

impl<K, S> Default for Table<K, S> {
    fn default() -> Self {
        Self { shares: BTreeMap::new(), idle: BTreeSet::new(), entries_max: usize::MAX }
    }
}

impl<K: Ord + Copy, S: Share> Table<K, S> {
    /// One that forgets whoever is idle where there would be more than so many. Those that are held stay beyond that.
    #[must_use]
    pub fn bounded(entries_max: usize) -> Self {
        Self { entries_max, ..Self::default() }
    }

    /// What `key` has, where that is anything.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<&S> {
        self.shares.get(key)
    }

    /// Changes what `key` has.
    pub fn change<R>(&mut self, key: K, change: impl FnOnce(&mut S) -> R) -> R {
        if self.shares.len() >= self.entries_max && !self.shares.contains_key(&key) {
            self.forget_first();
        }
        let share = self.shares.entry(key).or_default();
        let before = share.standing();
        let result = change(share);
        let after = share.standing();
        if let Standing::Idle(at) = before
            && before != after
        {
            self.idle.remove(&(at, key));
        }
        match after {
            Standing::Held => {}
            Standing::Idle(at) => _ = self.idle.insert((at, key)),
            Standing::Nothing => _ = self.shares.remove(&key),
        }
        result
    }

    /// Forgets what `key` has.
    pub fn remove(&mut self, key: &K) {
        if let Some(Standing::Idle(at)) = self.shares.remove(key).map(|share| share.standing()) {
            self.idle.remove(&(at, *key));
        }
    }

    /// Forgets those that are idle since then, or before.
    pub fn forget_idle(&mut self, since: Instant) {
        while self.idle.first().is_some_and(|(at, _)| *at <= since) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.idle.pop_first() {
            self.shares.remove(&key);
        }
    }

    /// All that have anything, by their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &S)> {
        self.shares.iter()
    }

    /// How many have anything.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whether nobody has anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// # Panics
    /// Where somebody is idle and cannot be forgotten, or has nothing and is known.
    pub fn check_invariants(&self) {
        let mut idle = self.idle.clone();
        for (key, share) in &self.shares {
            let is_right = match share.standing() {
                Standing::Held => true,
                Standing::Idle(at) => idle.remove(&(at, *key)),
                Standing::Nothing => false,
            };
            assert!(is_right, "a share that cannot be forgotten");
        }
        assert!(idle.is_empty(), "somebody is idle who is not known");
    }
}

impl<K: Ord + Copy> Table<K, usize> {
    /// How many `key` has.
    #[must_use]
    pub fn of(&self, key: &K) -> usize {
        self.find(key).copied().unwrap_or(0)
    }

    /// One more.
    pub fn add(&mut self, key: K) {
        self.change(key, |count| *count += 1);
    }

    /// One less; none of those that have none.
    pub fn take_off(&mut self, key: K) {
        self.change(key, |count| *count = count.saturating_sub(1));
    }
}

impl<K: Ord + Copy> Table<K, Bucket> {
    /// Whether `key` could take so many.
    #[must_use]
    pub fn has(&self, key: &K, rate: Rate, count: u64, now: Instant) -> bool {
        self.find(key).copied().unwrap_or_default().has(rate, count, now)
    }

    /// Takes so many, even if there are fewer, and forgets whose bursts are whole.
    pub fn spend(&mut self, key: K, rate: Rate, count: u64, now: Instant) {
        self.forget_idle(now);
        self.change(key, |bucket| bucket.spend(rate, count, now));
    }
}

/// A rate that each [`Source`] has, and all networks of a [`Site`] together [`SHARES_OF_SITE`] times.
#[derive(Debug)]
pub struct SourceRates {
    rate: Rate,
    sources: Table<Source, Bucket>,
    /// Of IPv6 alone: a site has up to 65,536 networks.
    sites: Table<Site, Bucket>,
}

impl SourceRates {
    /// Everybody has all of it. At most so many sources are known, and as many sites: one is forgotten once it has its burst
    /// again, and whoever has used least before that.
    #[must_use]
    pub fn new(rate: Rate, known_max: usize) -> Self {
        Self { rate, sources: Table::bounded(known_max), sites: Table::bounded(known_max) }
    }

    /// Takes one from all shares that it is part of, where they have it and `also` holds, or from none. What is nobody's has no
    /// bound but that one.
    pub fn take(
        &mut self,
        source: Option<Source>,
        now: Instant,
        also: impl FnOnce() -> bool,
    ) -> bool {
        self.sources.forget_idle(now);
        self.sites.forget_idle(now);
        let site = source.and_then(Source::shared_site);
        let of_site = self.rate.times(SHARES_OF_SITE.into());
        let has_all = source.is_none_or(|it| self.sources.has(&it, self.rate, 1, now))
            && site.is_none_or(|it| self.sites.has(&it, of_site, 1, now))
            && also();
        if !has_all {
            return false;
        }
        if let Some(source) = source {
            self.sources.spend(source, self.rate, 1, now);
        }
        if let Some(site) = site {
            self.sites.spend(site, of_site, 1, now);
        }
        true
    }

    /// How many sources and sites are known.
    ///
    /// # Panics
    /// As of [`Table::check_invariants`].
    #[must_use]
    pub fn known(&self) -> [usize; 2] {
        self.sources.check_invariants();
        self.sites.check_invariants();
        [self.sources.len(), self.sites.len()]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        Instant::now()
    }

    #[test]
    fn each_key_is_counted_by_itself_and_nothing_stays_behind() {
        let mut counts = Table::default();
        ["a", "a", "b"].into_iter().for_each(|key| counts.add(key));
        assert_eq!(["a", "b", "c"].map(|key| counts.of(&key)), [2, 1, 0]);
        ["a", "b", "b", "c"].into_iter().for_each(|key| counts.take_off(key));
        assert_eq!(["a", "b"].map(|key| counts.of(&key)), [1, 0]);
        counts.take_off("a");
        counts.check_invariants();
        assert!(counts.is_empty());
    }

    /// So many are held, or none since then.
    #[derive(Debug, Default, PartialEq)]
    struct Held(usize, Option<Instant>);

    impl Share for Held {
        fn standing(&self) -> Standing {
            match self {
                Self(0, since) => since.map_or(Standing::Nothing, Standing::Idle),
                _ => Standing::Held,
            }
        }
    }

    #[test]
    fn the_longest_idle_is_forgotten_and_none_that_is_held() {
        let start = start();
        let at = |second| Some(start + Duration::from_secs(second));
        let mut table: Table<u32, Held> = Table::bounded(3);
        let set = |table: &mut Table<u32, Held>, key, held, since| {
            table.change(key, |it| *it = Held(held, since));
            table.check_invariants();
        };
        (1..=3).for_each(|key| set(&mut table, key, 1, None));
        set(&mut table, 3, 0, at(1));
        set(&mut table, 2, 0, at(2));
        set(&mut table, 4, 1, None);
        assert_eq!((table.find(&3), table.find(&2)), (None, Some(&Held(0, at(2)))));
        set(&mut table, 2, 1, at(2));
        set(&mut table, 5, 1, None);
        assert_eq!(table.len(), 4, "held ones stay beyond the bound");
        set(&mut table, 5, 0, at(3));
        table.remove(&5);
        table.check_invariants();
        assert_eq!((table.len(), table.find(&5)), (3, None));
    }

    #[test]
    fn whoever_has_used_least_is_forgotten_first_and_all_once_they_are_whole() {
        let (start, rate) = (start(), Rate { count: 1, per: Duration::from_secs(1), burst: 10 });
        let mut table: Table<u32, Bucket> = Table::bounded(2);
        for (key, count) in [(1, 10), (2, 2), (3, 5)] {
            table.spend(key, rate, count, start);
            table.check_invariants();
        }
        assert_eq!([1, 2, 3].map(|key| table.has(&key, rate, 6, start)), [false, true, false]);
        table.forget_idle(start + Duration::from_secs(5));
        assert_eq!([1, 3].map(|key| table.find(&key).is_some()), [true, false]);
        table.spend(3, rate, 1, start + Duration::from_secs(10));
        assert_eq!(table.len(), 1, "the others are idle");
    }
}
