//! A bounded table of those who have used something: the ones that are connected stay, of the others
//! the latest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What is known of each key.
#[derive(Debug)]
pub(super) struct Accounts<K, A> {
    entries: BTreeMap<K, Entry<A>>,
    /// Those without a holder, by the time since when.
    idle: BTreeSet<(Instant, K)>,
    entries_max: usize,
}

#[derive(Debug)]
struct Entry<A> {
    account: A,
    holders: usize,
    idle_since: Instant,
}

impl<K: Ord + Copy, A: Default> Accounts<K, A> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: BTreeMap::new(), idle: BTreeSet::new(), entries_max }
    }

    pub(super) fn find(&self, key: &K) -> Option<&A> {
        self.entries.get(key).map(|entry| &entry.account)
    }

    pub(super) fn find_mut(&mut self, key: &K) -> Option<&mut A> {
        self.entries.get_mut(key).map(|entry| &mut entry.account)
    }

    pub(super) fn holders(&self, key: &K) -> usize {
        self.entries.get(key).map_or(0, |entry| entry.holders)
    }

    /// One more holds the account, which begins with the first.
    pub(super) fn hold(&mut self, key: K, now: Instant) {
        if !self.entries.contains_key(&key)
            && self.entries.len() >= self.entries_max
            && let Some((_, oldest)) = self.idle.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let new = || Entry { account: A::default(), holders: 0, idle_since: now };
        let entry = self.entries.entry(key).or_insert_with(new);
        self.idle.remove(&(entry.idle_since, key));
        entry.holders += 1;
    }

    /// One less holds it.
    pub(super) fn release(&mut self, key: K, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders == 0 {
            self.idle.remove(&(entry.idle_since, key));
            entry.idle_since = now;
            self.idle.insert((now, key));
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.idle.remove(&(entry.idle_since, *key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_idle_is_forgotten_and_none_that_is_held() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut table: Accounts<u32, u32> = Accounts::new(3);
        (1..=3).for_each(|key| table.hold(key, at(0)));
        (1..=3).for_each(|key| *table.find_mut(&key).unwrap() = key);
        table.release(3, at(1));
        table.release(2, at(2));
        table.hold(4, at(3));
        assert_eq!((table.find(&3), table.find(&2)), (None, Some(&2)));
        table.hold(2, at(4));
        table.hold(5, at(5));
        let all = [1, 2, 4, 5].map(|key| table.find(&key).copied());
        assert_eq!(all, [Some(1), Some(2), Some(0), Some(0)], "held ones stay beyond the bound");
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut table: Accounts<u32, u32> = Accounts::new(1);
        table.hold(1, Instant::now());
        table.release(1, Instant::now());
        table.remove(&1);
        table.release(1, Instant::now());
        assert!(table.entries.is_empty() && table.idle.is_empty());
    }
}
