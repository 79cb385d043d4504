//! The addresses at which the sockets of this host can be reached.

use std::net::IpAddr;

use holepunch_wire::address::AddressKind;

/// The addresses of all interfaces that are up, sorted. Loopback addresses count only where there is
/// nothing else, and link-local ones not at all: another host could not use them.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::debug!(%error, "the interfaces cannot be listed");
            return Vec::new();
        }
    };
    let all = interfaces.iter().map(if_addrs::Interface::ip);
    choose(all.collect())
}

fn choose(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    let kind = |ip: &IpAddr| AddressKind::of(*ip);
    addresses.retain(|ip| kind(ip).is_reachable_unicast() && kind(ip) != AddressKind::LinkLocal);
    if addresses.iter().any(|ip| kind(ip) != AddressKind::Loopback) {
        addresses.retain(|ip| kind(ip) != AddressKind::Loopback);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(list: &[&str]) -> Vec<String> {
        let addresses = list.iter().map(|text| text.parse().unwrap()).collect();
        choose(addresses).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn loopback_counts_only_where_there_is_nothing_else() {
        assert_eq!(chosen(&["127.0.0.1", "::1"]), ["127.0.0.1", "::1"]);
        let all = ["127.0.0.1", "192.168.1.2", "192.168.1.2", "fe80::1", "2001:db8::1"];
        assert_eq!(chosen(&all), ["192.168.1.2", "2001:db8::1"]);
    }
}
