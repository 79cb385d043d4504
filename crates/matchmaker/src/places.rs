//! Who has how many places among the workers.

use std::net::IpAddr;

use holepunch_wire::address::{Site, Source};
use holepunch_wire::shares::Table;

/// Connections of each address and of each site, those included that have yet to prove a key.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places {
    of_sources: Table<Source, usize>,
    of_sites: Table<Site, usize>,
}

impl Places {
    /// How many an address has.
    pub(crate) fn of(&self, source: Source) -> usize {
        self.of_sources.of(&source)
    }

    /// How many all of a site have.
    pub(crate) fn of_site(&self, site: Site) -> usize {
        self.of_sites.of(&site)
    }

    /// Nobody counts those of this machine.
    pub(crate) fn take(&mut self, ip: IpAddr) {
        if let Some(source) = Source::of(ip) {
            self.of_sources.add(source);
            self.of_sites.add(source.site());
        }
    }

    /// Those who have some are these, and each as often as it comes.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self, holders: impl Iterator<Item = IpAddr>) {
        let mut counted = Self::default();
        holders.for_each(|ip| counted.take(ip));
        assert_eq!(self.of_sources, counted.of_sources, "places of addresses");
        assert_eq!(self.of_sites, counted.of_sites, "places of sites");
    }

    pub(crate) fn give_back(&mut self, ip: IpAddr) {
        if let Some(source) = Source::of(ip) {
            self.of_sources.take_off(source);
            self.of_sites.take_off(source.site());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_site_and_nothing_stays_behind() {
        let [one, other, near, own] = ["192.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "127.0.0.1"]
            .map(|ip| ip.parse().unwrap());
        let mut places = Places::default();
        [one, one, other, near, own].into_iter().for_each(|ip| places.take(ip));
        let source = |ip: IpAddr| Source::of(ip).unwrap();
        let held = |ip| (places.of(source(ip)), places.of_site(source(ip).site()));
        assert_eq!([one, other, near].map(held), [(2, 2), (1, 2), (1, 2)]);
        assert_eq!(held("2001:db8::ffff:1".parse().unwrap()), (1, 2));
        [one, one, one, other, near, own].into_iter().for_each(|ip| places.give_back(ip));
        assert!(places.of_sources.is_empty() && places.of_sites.is_empty());
    }
}
