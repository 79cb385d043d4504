//! Sessions that wait for a worker whose connection is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::session::{SESSIONS_MAX, SessionId};

/// Until when each of them waits, and for whom. A session waits for one worker: where both are gone, it
/// is over.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    due: BTreeMap<(Instant, SessionId), WorkerId>,
    /// The same, worker by worker: whoever comes back must not cost a look at those of all others.
    of_workers: BTreeMap<WorkerId, BTreeSet<(Instant, SessionId)>>,
}

impl Waiting {
    pub(crate) fn insert(&mut self, worker: &WorkerId, entry: (Instant, SessionId)) {
        self.due.insert(entry, worker.clone());
        self.of_workers.entry(worker.clone()).or_default().insert(entry);
    }

    pub(crate) fn remove(&mut self, entry: (Instant, SessionId)) {
        let Some(worker) = self.due.remove(&entry) else { return };
        if let Some(own) = self.of_workers.get_mut(&worker) {
            own.remove(&entry);
            if own.is_empty() {
                self.of_workers.remove(&worker);
            }
        }
    }

    /// When the first of them ends.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one off that has waited long enough.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<SessionId> {
        let entry = *self.due.first_key_value().map(|(entry, _)| entry).filter(|it| it.0 <= now)?;
        self.remove(entry);
        Some(entry.1)
    }

    /// Takes one off where more wait for this worker than it may have: it could come, gather sessions and
    /// go, again and again.
    pub(crate) fn pop_surplus(&mut self, worker: &WorkerId) -> Option<SessionId> {
        let own = self.of_workers.get(worker).filter(|own| own.len() > SESSIONS_MAX)?;
        let entry = *own.first()?;
        self.remove(entry);
        Some(entry.1)
    }

    /// Each of them, until when it waits, and for whom.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) -> &BTreeMap<(Instant, SessionId), WorkerId> {
        let of_workers = self.of_workers.iter().flat_map(|(worker, own)| {
            assert!(!own.is_empty(), "{worker} has an empty set of sessions");
            own.iter().map(move |entry| (entry, worker))
        });
        let mut count = 0;
        for (entry, worker) in of_workers {
            assert_eq!(self.due.get(entry), Some(worker), "{} is due for another", entry.1);
            count += 1;
        }
        assert_eq!(count, self.due.len(), "a session is due that waits for nobody");
        &self.due
    }

    /// Those that wait for this worker, the one that ends first before the others.
    pub(crate) fn of(&self, worker: &WorkerId) -> impl Iterator<Item = (Instant, SessionId)> + '_ {
        self.of_workers.get(worker).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn named(number: u64) -> WorkerId {
        WorkerId::new(&format!("w{number}")).unwrap()
    }

    #[test]
    fn whoever_comes_back_is_shown_its_own_sessions_alone() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let entry = |number: u64| (start + Duration::from_millis(number), SessionId(number));
        let mut waiting = Waiting::default();
        for number in 0..10_000 {
            waiting.insert(&named(number % 5_000), entry(number));
        }
        let steps: Vec<_> = waiting.of(&named(7)).collect();
        assert_eq!(steps, [entry(7), entry(5_007)]);
        assert_eq!(waiting.of(&named(5_000)).count(), 0);
        (0..5_000).for_each(|number| waiting.remove(entry(number)));
        assert_eq!(waiting.first(), Some(entry(5_000).0));
        let last = entry(9_999).0;
        assert_eq!(std::iter::from_fn(|| waiting.pop_due(last)).count(), 5_000);
        assert!(waiting.due.is_empty() && waiting.of_workers.is_empty());
    }
}
