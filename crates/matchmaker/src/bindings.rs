//! Which ids of workers that are not connected are bound to a key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::{SHARES_OF_SITE, Site, Source};
use holepunch_wire::identity::PublicKey;

use crate::names::Member;

/// An id of a worker's own choice stays bound to its key for so long after its last connection: a
/// night without power, or a move, is no chance for a thief; an id that nobody uses is free again.
pub const BOUND_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Ids without a connection that are bound to a key: as many as there may be workers by default, in
/// at most some 120 MB, half of that where few addresses have them. Where more are wanted, one goes of whoever
/// has most of them: who frees other people's ids with ids of its own frees its own first. That is reckoned by
/// sites: the many networks of one IPv6 site would each have few.
pub const BINDINGS_MAX: usize = 100_000;
/// Of these, so many from one address: as many as there may be workers from there by default. Beyond that
/// its own oldest one goes, however much room there is.
pub const BINDINGS_OF_SOURCE_MAX: usize = 10_000;
/// And from all addresses of one site. Beyond that the oldest goes of whoever there has most.
pub const BINDINGS_OF_SITE_MAX: usize = BINDINGS_OF_SOURCE_MAX * SHARES_OF_SITE as usize;

/// The keys of workers that are not connected, under ids of their own choice.
#[derive(Debug, Default, Clone)]
pub(crate) struct Bindings {
    keys: BTreeMap<Member, Bound>,
    expiries: BTreeSet<(Instant, Member)>,
    /// Likewise, by those who have them. This machine has no share, and is one of them, and a site.
    of_sources: BTreeMap<Option<Source>, BTreeSet<(Instant, Member)>>,
    /// How many each of them has, so that the one with most in a site is the last of it.
    counts: BTreeSet<(Option<Site>, usize, Option<Source>)>,
    of_sites: BTreeMap<Option<Site>, usize>,
    /// Likewise, so that the site with most is the last.
    site_counts: BTreeSet<(usize, Option<Site>)>,
}

#[derive(Debug, Clone)]
struct Bound {
    key: PublicKey,
    until: Instant,
    source: Option<Source>,
}

impl Bindings {
    /// Binds an id whose last connection, from `ip`, has ended.
    pub(crate) fn keep(&mut self, worker: Member, key: PublicKey, ip: IpAddr, now: Instant) {
        self.remove(&worker);
        let source = Source::of(ip);
        if let Some(giving_way) = self.gives_way_to(source) {
            self.remove_oldest(giving_way);
        }
        let until = now + BOUND_FOR;
        self.expiries.insert((until, worker.clone()));
        self.change(source, |own| own.insert((until, worker.clone())));
        self.keys.insert(worker, Bound { key, until, source });
    }

    pub(crate) fn remove(&mut self, worker: &Member) {
        let Some(Bound { until, source, .. }) = self.keys.remove(worker) else { return };
        let entry = (until, worker.clone());
        self.expiries.remove(&entry);
        self.change(source, |own| own.remove(&entry));
    }

    pub(crate) fn key(&self, worker: &Member) -> Option<PublicKey> {
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

    /// The ids that are bound.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) -> impl Iterator<Item = &Member> {
        assert!(self.keys.len() <= BINDINGS_MAX, "{} bindings", self.keys.len());
        assert_eq!(self.keys.len(), self.expiries.len(), "each binding ends once");
        let held: usize = self.of_sources.values().map(BTreeSet::len).sum();
        assert_eq!(held, self.keys.len(), "each binding is somebody's");
        assert_eq!(self.of_sites.values().sum::<usize>(), held, "each is of a site");
        assert_eq!(self.counts.len(), self.of_sources.len(), "each source is counted once");
        assert_eq!(self.site_counts.len(), self.of_sites.len(), "each site is counted once");
        for (source, own) in &self.of_sources {
            let site = source.map(Source::site);
            assert!(self.counts.contains(&(site, own.len(), *source)), "{source:?} is miscounted");
        }
        for (site, count) in &self.of_sites {
            assert!(self.site_counts.contains(&(*count, *site)), "{site:?} is miscounted");
        }
        self.keys.iter().map(|(worker, bound)| {
            let entry = (bound.until, worker.clone());
            let own = self.of_sources.get(&bound.source);
            let is_known = own.is_some_and(|own| own.contains(&entry));
            assert!(is_known && self.expiries.contains(&entry), "{worker} is bound without end");
            worker
        })
    }

    /// Whose oldest one goes, where `source` is to have one more; none where there is room.
    fn gives_way_to(&self, source: Option<Source>) -> Option<Option<Source>> {
        let site = source.map(Source::site);
        let own = self.of_sources.get(&source).map_or(0, BTreeSet::len);
        if source.is_some() && own >= BINDINGS_OF_SOURCE_MAX {
            return Some(source);
        }
        let of_site = self.of_sites.get(&site).copied().unwrap_or(0);
        let site = if site.is_some() && of_site >= BINDINGS_OF_SITE_MAX {
            site
        } else if self.keys.len() >= BINDINGS_MAX {
            self.site_counts.last()?.1
        } else {
            return None;
        };
        let all_of_it = (site, 0, None)..(site, usize::MAX, None);
        self.counts.range(all_of_it).next_back().map(|(_, _, source)| *source)
    }

    fn remove_oldest(&mut self, source: Option<Source>) {
        let oldest = self.of_sources.get(&source).and_then(BTreeSet::first);
        if let Some((_, worker)) = oldest.cloned() {
            self.remove(&worker);
        }
    }

    /// Changes what one of them has, and counts it and its site anew.
    fn change(
        &mut self,
        source: Option<Source>,
        change: impl FnOnce(&mut BTreeSet<(Instant, Member)>) -> bool,
    ) {
        let site = source.map(Source::site);
        let own = self.of_sources.entry(source).or_default();
        let before = own.len();
        change(own);
        let after = own.len();
        if after == 0 {
            self.of_sources.remove(&source);
        }
        let of_site = self.of_sites.remove(&site).unwrap_or(0);
        self.counts.remove(&(site, before, source));
        self.site_counts.remove(&(of_site, site));
        if after > 0 {
            self.counts.insert((site, after, source));
        }
        let of_site = of_site.saturating_sub(before) + after;
        if of_site > 0 {
            self.of_sites.insert(site, of_site);
            self.site_counts.insert((of_site, site));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];

    fn name(number: usize) -> Member {
        Member::unnamed(format!("w{number}").parse().unwrap())
    }

    fn host(number: usize) -> IpAddr {
        let [.., high, low] = number.to_be_bytes();
        IpAddr::from([198, 51, high, low])
    }

    /// An address in one of the networks of a site.
    fn network(site: usize, number: usize) -> IpAddr {
        let [site, number] = [site, number].map(|it| u16::try_from(it).unwrap());
        IpAddr::from([0x2001, 0xdb8, site, number, 0, 0, 0, 1])
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

    /// A /48 holds 65,536 networks, each of which would have little.
    #[test]
    fn the_networks_of_one_site_push_each_other_and_the_one_with_most_goes_first() {
        let mut table = Filling::new();
        (0..5_000).for_each(|number| table.keep(number, host(1)));
        (5_000..5_100).for_each(|number| table.keep(number, network(1, 9_999)));
        for number in 5_100..BINDINGS_MAX {
            table.keep(number, network(1, number % 20));
        }
        assert_eq!(table.bindings.keys.len(), 5_000 + BINDINGS_OF_SITE_MAX);
        assert!((0..5_000).all(|number| table.bound(number)), "another site's");
        assert!((5_000..5_100).all(|number| table.bound(number)), "a network that has few");
    }

    #[test]
    fn when_all_places_are_taken_the_site_with_most_gives_way_however_many_networks_it_uses() {
        let mut table = Filling::new();
        let own = BINDINGS_OF_SOURCE_MAX;
        (0..own).for_each(|number| table.keep(number, host(1)));
        // Six sites with 5,000 networks each, every one of which has ten at most.
        for number in own..3 * BINDINGS_MAX {
            table.keep(number, network(number % 6, number % 10_000));
        }
        assert_eq!(table.bindings.keys.len(), BINDINGS_MAX);
        assert!((0..own).all(|number| table.bound(number)));
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
        let Bindings { keys, expiries, of_sources, counts, of_sites, site_counts } = table.bindings;
        assert!(keys.is_empty() && expiries.is_empty() && of_sources.is_empty());
        assert!(counts.is_empty() && of_sites.is_empty() && site_counts.is_empty());
    }
}
