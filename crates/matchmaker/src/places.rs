//! Who has how many places among the workers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holepunch_wire::address::Source;

/// Connections of each address, those included that have yet to prove a key.
#[derive(Debug, Default)]
pub(crate) struct Places {
    held: BTreeMap<Source, usize>,
}

impl Places {
    /// How many an address has; `None`: nobody counts those of this machine.
    pub(crate) fn of(&self, ip: IpAddr) -> Option<usize> {
        Source::of(ip).map(|source| self.held.get(&source).copied().unwrap_or(0))
    }

    pub(crate) fn take(&mut self, ip: IpAddr) {
        if let Some(source) = Source::of(ip) {
            *self.held.entry(source).or_default() += 1;
        }
    }

    pub(crate) fn give_back(&mut self, ip: IpAddr) {
        let Some(source) = Source::of(ip) else { return };
        let Some(held) = self.held.get_mut(&source) else { return };
        *held = held.saturating_sub(1);
        if *held == 0 {
            self.held.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_nothing_stays_behind() {
        let [one, other, own] =
            ["192.0.2.1", "2001:db8::1", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        let mut places = Places::default();
        [one, one, other, own].into_iter().for_each(|ip| places.take(ip));
        assert_eq!([one, other, own].map(|ip| places.of(ip)), [Some(2), Some(1), None]);
        assert_eq!(places.of("2001:db8::ffff:1".parse().unwrap()), Some(1));
        [one, one, one, other, own].into_iter().for_each(|ip| places.give_back(ip));
        assert!(places.held.is_empty());
    }
}
