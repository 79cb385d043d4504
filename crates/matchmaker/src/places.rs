//! Who has how many places among the workers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holepunch_wire::address::{Site, Source};
use holepunch_wire::shares::Table;
use holepunch_wire::tenant::Tenant;

/// Connections of each address, of each site and of each tenant, those included that have yet to prove a key.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places {
    of_sources: Table<Source, usize>,
    of_sites: Table<Site, usize>,
    of_tenants: BTreeMap<Tenant, usize>,
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

    /// How many a tenant has. Nobody counts those of none.
    pub(crate) fn of_tenant(&self, tenant: &Tenant) -> usize {
        self.of_tenants.get(tenant).copied().unwrap_or(0)
    }

    /// Nobody counts those of this machine by their address.
    pub(crate) fn take(&mut self, tenant: &Tenant, ip: IpAddr) {
        if tenant.name().is_some() {
            *self.of_tenants.entry(tenant.clone()).or_default() += 1;
        }
        if let Some(source) = Source::of(ip) {
            self.of_sources.add(source);
            self.of_sites.add(source.site());
        }
    }

    /// Those who have some are these, and each as often as it comes.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants<'a>(&self, all: impl Iterator<Item = &'a (Tenant, IpAddr)>) {
        let mut counted = Self::default();
        all.for_each(|(tenant, ip)| counted.take(tenant, *ip));
        assert_eq!(self.of_tenants, counted.of_tenants, "places of tenants");
        assert_eq!(self.of_sources, counted.of_sources, "places of addresses");
        assert_eq!(self.of_sites, counted.of_sites, "places of sites");
    }

    pub(crate) fn give_back(&mut self, tenant: &Tenant, ip: IpAddr) {
        if let Some(held) = self.of_tenants.get_mut(tenant) {
            *held -= 1;
            if *held == 0 {
                self.of_tenants.remove(tenant);
            }
        }
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
        let (mut places, tenant) = (Places::default(), Tenant::new("t").unwrap());
        [one, one, other, near, own].into_iter().for_each(|ip| places.take(&tenant, ip));
        let source = |ip: IpAddr| Source::of(ip).unwrap();
        let held = |ip| (places.of(source(ip)), places.of_site(source(ip).site()));
        assert_eq!([one, other, near].map(held), [(2, 2), (1, 2), (1, 2)]);
        assert_eq!(held("2001:db8::ffff:1".parse().unwrap()), (1, 2));
        assert_eq!(places.of_tenant(&tenant), 5);
        [one, one, one, other, near, own].into_iter().for_each(|ip| places.give_back(&tenant, ip));
        assert!(places.of_sources.is_empty() && places.of_sites.is_empty());
        assert!(places.of_tenants.is_empty());
    }
}
