//! What is kept for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Values by key, each until its time.
#[derive(Debug, Clone)]
pub(crate) struct Expiring<K, V> {
    kept: BTreeMap<K, (Instant, V)>,
    until: BTreeSet<(Instant, K)>,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), until: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> Expiring<K, V> {
    /// Keeps a value, in the place of an older one.
    pub(crate) fn insert(&mut self, key: K, value: V, until: Instant) {
        self.remove(&key);
        self.until.insert((until, key.clone()));
        self.kept.insert(key, (until, value));
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (key, (until, value)) = self.kept.remove_entry(key)?;
        self.until.remove(&(until, key));
        Some(value)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.kept.get(key).map(|(_, value)| value)
    }

    /// Forgets what has been kept for long enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.until.first()
            && *at <= now
            && let Some((_, key)) = self.until.pop_first()
        {
            self.kept.remove(&key);
        }
    }

    /// When the next one is forgotten.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.until.first().map(|(at, _)| *at)
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.kept.len(), self.until.len(), "each has one time");
    }
}
