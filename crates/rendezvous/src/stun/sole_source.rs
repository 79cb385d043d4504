//! Whether all clients seem to be one private address: then something in front of the STUN server puts its own address
//! in their place, and what they are told is of no use to them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use holepunch_wire::address::AddressKind;

/// Ports of one address, and no other address, after which it is told: one worker asks from few.
const PORTS: usize = 16;

/// Watches the sources of the first requests.
#[derive(Debug, Default)]
pub(super) struct SoleSource {
    ip: Option<IpAddr>,
    ports: BTreeSet<u16>,
    is_decided: bool,
}

impl SoleSource {
    /// A request was answered; says once, where it is so, that all come from one private address. Whether it is decided now.
    pub(super) fn saw(&mut self, from: SocketAddr) -> bool {
        if let Some(ip) = self.decide(from) {
            tracing::warn!(
                source = %ip,
                "all that STUN has answered comes from this one private address: if workers are elsewhere, something \
                 in front hides their addresses, as Docker's userland proxy does (docker-proxy), and no worker will learn \
                 its own; give STUN the host's network (network_mode: host), or run it where UDP comes in unchanged"
            );
        }
        self.is_decided
    }

    fn decide(&mut self, from: SocketAddr) -> Option<IpAddr> {
        if self.is_decided {
            return None;
        }
        let ip = *self.ip.get_or_insert(from.ip());
        // Workers of this machine are no surprise.
        if ip != from.ip() || ip.is_loopback() || !AddressKind::of(ip).is_local() {
            self.is_decided = true;
            return None;
        }
        self.ports.insert(from.port());
        self.is_decided = self.ports.len() >= PORTS;
        self.is_decided.then_some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many of these it is told, if at all.
    fn told(sources: impl IntoIterator<Item = (&'static str, u16)>) -> Vec<usize> {
        let mut watched = SoleSource::default();
        let saw =
            |(ip, port): (&str, u16)| watched.decide((ip.parse::<IpAddr>().unwrap(), port).into());
        let told = sources.into_iter().map(saw).enumerate();
        told.filter(|(_, told)| told.is_some()).map(|(at, _)| at + 1).collect()
    }

    #[test]
    fn one_private_address_with_many_ports_is_told_once() {
        assert_eq!(told((1..100).map(|port| ("172.17.0.1", port))), [PORTS]);
        assert!(told((1..100).map(|_| ("172.17.0.1", 5))).is_empty(), "one client");
        assert!(told((1..100).map(|port| ("8.8.8.8", port))).is_empty());
        assert!(told((1..100).map(|port| ("127.0.0.1", port))).is_empty());
        let two = (1..100).map(|port| (if port == 9 { "8.8.8.8" } else { "172.17.0.1" }, port));
        assert!(told(two).is_empty());
    }
}
