//! Which ids of workers that are not connected are bound to a key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::address::Source;
use holepunch_wire::identity::PublicKey;

/// An id of a worker's own choice stays bound to its key for so long after its last connection: a
/// night without power, or a move, is no chance for a thief; an id that nobody uses is free again.
pub(crate) const BOUND_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Ids without a connection that are bound to a key: as many as there may be workers by default, in
/// at most some 70 MB. Where more are wanted, the oldest of whoever has most of them goes: who frees other
/// people's ids with ids of its own frees its own first.
const BINDINGS_MAX: usize = 100_000;
/// Of these, so many from one address: as many as there may be workers from there by default. Beyond that
/// its own oldest one goes, however much room there is.
const BINDINGS_OF_SOURCE_MAX: usize = 10_000;

/// The keys of workers that are not connected, under ids of their own choice.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    keys: BTreeMap<WorkerId, Bound>,
    expiries: BTreeSet<(Instant, WorkerId)>,
    /// Likewise, by those who have them. This machine has no share, and is one of them.
    of_sources: BTreeMap<Option<Source>, BTreeSet<(Instant, WorkerId)>>,
    /// How many each of them has, so that the one with most is the last.
    counts: BTreeSet<(usize, Option<Source>)>,
}

#[derive(Debug)]
struct Bound {
    key: PublicKey,
    until: Instant,
    source: Option<Source>,
}

impl Bindings {
    /// Binds an id whose last connection, from `ip`, has ended.
    pub(crate) fn keep(&mut self, worker: WorkerId, key: PublicKey, ip: IpAddr, now: Instant) {
        self.remove(&worker);
        let source = Source::of(ip);
        let own = self.of_sources.get(&source).map_or(0, BTreeSet::len);
        if source.is_some() && own >= BINDINGS_OF_SOURCE_MAX {
            self.remove_oldest(source);
        } else if self.keys.len() >= BINDINGS_MAX
            && let Some(&(_, greatest)) = self.counts.last()
        {
            self.remove_oldest(greatest);
        }
        let until = now + BOUND_FOR;
        self.expiries.insert((until, worker.clone()));
        self.change(source, |own| own.insert((until, worker.clone())));
        self.keys.insert(worker, Bound { key, until, source });
    }

    pub(crate) fn remove(&mut self, worker: &WorkerId) {
        let Some(Bound { until, source, .. }) = self.keys.remove(worker) else { return };
        let entry = (until, worker.clone());
        self.expiries.remove(&entry);
        self.change(source, |own| own.remove(&entry));
    }

    pub(crate) fn key(&self, worker: &WorkerId) -> Option<PublicKey> {
        self.keys.get(worker).map(|bound| bound.key)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((at, worker)) = self.expiries.first()
            && *at <= now
        {
            let worker = worker.clone();
            self.remove(&worker);
        }
    }

    fn remove_oldest(&mut self, source: Option<Source>) {
        let oldest = self.of_sources.get(&source).and_then(BTreeSet::first);
        if let Some((_, worker)) = oldest.cloned() {
            self.remove(&worker);
        }
    }

    /// Changes what one of them has, and counts it anew.
    fn change(
        &mut self,
        source: Option<Source>,
        change: impl FnOnce(&mut BTreeSet<(Instant, WorkerId)>) -> bool,
    ) {
        let own = self.of_sources.entry(source).or_default();
        self.counts.remove(&(own.len(), source));
        change(own);
        if own.is_empty() {
            self.of_sources.remove(&source);
        } else {
            self.counts.insert((own.len(), source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];

    fn name(number: usize) -> WorkerId {
        WorkerId::new(&format!("w{number}")).unwrap()
    }

    fn host(number: usize) -> IpAddr {
        let [.., high, low] = number.to_be_bytes();
        IpAddr::from([198, 51, high, low])
    }

    /// A table that is filled by the millisecond.
    struct Filling {
        bindings: Bindings,
        start: Instant,
        now: Instant,
    }

    impl Filling {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
            let start = Instant::now();
            Self { bindings: Bindings::default(), start, now: start }
        }

        fn keep(&mut self, number: usize, ip: IpAddr) {
            self.now += Duration::from_millis(1);
            self.bindings.keep(name(number), PublicKey::from_bytes(KEY), ip, self.now);
        }

        fn bound(&self, number: usize) -> bool {
            self.bindings.key(&name(number)).is_some()
        }
    }

    #[test]
    fn a_stranger_with_many_ids_evicts_its_own() {
        let mut table = Filling::new();
        table.keep(0, host(1));
        for number in 1..=2 * BINDINGS_MAX {
            table.keep(number, host(2));
        }
        assert!(table.bound(0), "somebody else's");
        assert_eq!(table.bindings.keys.len(), 1 + BINDINGS_OF_SOURCE_MAX);
        let first = 2 * BINDINGS_MAX - BINDINGS_OF_SOURCE_MAX + 1;
        assert_eq!((table.bound(first - 1), table.bound(first)), (false, true), "its oldest went");
    }

    #[test]
    fn when_all_places_are_taken_whoever_has_most_of_them_gives_way() {
        let mut table = Filling::new();
        let people = 1_000;
        (0..people).for_each(|number| table.keep(number, host(number)));
        for number in people..2 * BINDINGS_MAX {
            table.keep(number, host(60_000 + number % 20));
        }
        assert_eq!(table.bindings.keys.len(), BINDINGS_MAX);
        assert!((0..people).all(|number| table.bound(number)), "twenty strangers push each other");
        table.keep(0, host(0));
        assert_eq!(table.bindings.keys.len(), BINDINGS_MAX, "the same id takes no second place");
        table.keep(3 * BINDINGS_MAX, host(0));
        assert!(table.bound(3 * BINDINGS_MAX) && table.bound(0));
        assert_eq!(table.bindings.keys.len(), BINDINGS_MAX);
    }

    #[test]
    fn this_machine_has_no_share_and_nothing_stays_behind() {
        let mut table = Filling::new();
        (0..=BINDINGS_MAX).for_each(|number| table.keep(number, [127, 0, 0, 1].into()));
        assert_eq!(table.bindings.keys.len(), BINDINGS_MAX);
        assert!(!table.bound(0) && table.bound(1));
        table.bindings.expire(table.start + BOUND_FOR);
        assert!(table.bound(1), "it lasts a day from its own end");
        table.bindings.expire(table.now + BOUND_FOR);
        let Bindings { keys, expiries, of_sources, counts } = table.bindings;
        assert!(keys.is_empty() && expiries.is_empty() && of_sources.is_empty());
        assert!(counts.is_empty());
    }
}
