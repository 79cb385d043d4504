//! How many each of some keys has.

use std::collections::BTreeMap;

/// Counts by key; what has none takes no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts<K>(BTreeMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Counts<K> {
    /// How many `key` has.
    #[must_use]
    pub fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// One more.
    pub fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// One less; none of those that have none.
    pub fn remove(&mut self, key: &K) {
        let Some(count) = self.0.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(key);
        }
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_counted_by_itself_and_nothing_stays_behind() {
        let mut counts = Counts::default();
        ["a", "a", "b"].into_iter().for_each(|key| counts.add(key));
        assert_eq!(["a", "b", "c"].map(|key| counts.of(&key)), [2, 1, 0]);
        ["a", "b", "b", "c"].iter().for_each(|key| counts.remove(key));
        assert_eq!(["a", "b"].map(|key| counts.of(&key)), [1, 0]);
        counts.remove(&"a");
        assert!(counts.is_empty());
    }
}
