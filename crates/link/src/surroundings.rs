//! The addresses at which the sockets of this host can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use holepunch_wire::address::AddressKind;

/// Addresses of no host (RFC 5737, RFC 3849), toward which packets leave by the default route.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// How the interfaces begin that containers and virtual machines of this host are attached to, on Linux, macOS and
/// Windows. Another host reaches nothing there. (Docker's further bridges are [`is_docker_bridge`].)
const CONTAINER_INTERFACES: [&str; 14] = [
    "docker",
    "veth",
    "virbr",
    "cni",
    "cali",
    "flannel",
    "podman",
    "lxcbr",
    "lxdbr",
    "kube",
    "vmnet",
    "vboxnet",
    "bridge1",
    "vEthernet",
];

/// An address of an interface.
#[derive(Debug, Clone)]
struct Interface {
    name: String,
    ip: IpAddr,
}

/// How likely a peer is to reach an address: the first ones are told where there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    DefaultRoute,
    Ordinary,
    Container,
}

/// The addresses of all interfaces that are up, the likeliest first: those of the default routes, then the others, then
/// those of containers' bridges; IPv4 and IPv6 in turn. Loopback addresses count only where there is nothing else, and
/// link-local ones not at all: another host could not use them.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::debug!(%error, "the interfaces cannot be listed");
            return Vec::new();
        }
    };
    let all = interfaces.into_iter().map(|it| Interface { ip: it.ip(), name: it.name });
    let default_routes: Vec<IpAddr> = ANYWHERE.into_iter().filter_map(local_towards).collect();
    choose(all.collect(), &default_routes)
}

/// The own address from which packets to `to` leave. Connecting a UDP socket sends nothing.
pub(crate) fn local_towards(to: IpAddr) -> Option<IpAddr> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Nothing is sent, so any port but 0 will do.
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn choose(mut interfaces: Vec<Interface>, default_routes: &[IpAddr]) -> Vec<IpAddr> {
    let kind = |ip: IpAddr| AddressKind::of(ip);
    interfaces
        .retain(|it| kind(it.ip).is_reachable_unicast() && kind(it.ip) != AddressKind::LinkLocal);
    if interfaces.iter().any(|it| kind(it.ip) != AddressKind::Loopback) {
        interfaces.retain(|it| kind(it.ip) != AddressKind::Loopback);
    }
    let class = |it: &Interface| {
        if default_routes.contains(&it.ip) {
            Class::DefaultRoute
        } else if is_of_containers(&it.name) {
            Class::Container
        } else {
            Class::Ordinary
        }
    };
    let mut chosen = Vec::with_capacity(interfaces.len());
    for wanted in [Class::DefaultRoute, Class::Ordinary, Class::Container] {
        let of_class = interfaces.iter().filter(|it| class(it) == wanted).map(|it| it.ip);
        let (mut v4, mut v6): (Vec<_>, Vec<_>) = of_class.partition(IpAddr::is_ipv4);
        v4.sort_unstable();
        // A global address leads further than a unique local one.
        v6.sort_unstable_by_key(|ip| (kind(*ip).is_local(), *ip));
        chosen.extend(in_turn(v4, v6));
    }
    let mut seen = std::collections::HashSet::new();
    chosen.retain(|ip| seen.insert(*ip));
    chosen
}

fn in_turn(one: Vec<IpAddr>, other: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (mut one, mut other) = (one.into_iter().fuse(), other.into_iter().fuse());
    let rounds = one.len().max(other.len());
    (0..rounds).flat_map(move |_| [one.next(), other.next()]).flatten()
}

fn is_of_containers(name: &str) -> bool {
    is_docker_bridge(name) || CONTAINER_INTERFACES.iter().any(|start| name.starts_with(start))
}

/// `br-` and the first twelve digits of the network's id. (`br-lan` is a router's own network.)
fn is_docker_bridge(name: &str) -> bool {
    let id = name.strip_prefix("br-").unwrap_or_default();
    id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(interfaces: &[(&str, &str)], default_routes: &[&str]) -> Vec<String> {
        let one = |(name, ip): &(&str, &str)| Interface {
            name: (*name).to_owned(),
            ip: ip.parse().unwrap(),
        };
        let routes: Vec<IpAddr> = default_routes.iter().map(|ip| ip.parse().unwrap()).collect();
        let chosen = choose(interfaces.iter().map(one).collect(), &routes);
        chosen.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn loopback_counts_only_where_there_is_nothing_else() {
        assert_eq!(chosen(&[("lo", "127.0.0.1"), ("lo", "::1")], &[]), ["127.0.0.1", "::1"]);
        let all = [
            ("lo", "127.0.0.1"),
            ("eth0", "192.168.1.2"),
            ("eth0:1", "192.168.1.2"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::1"),
        ];
        assert_eq!(chosen(&all, &[]), ["192.168.1.2", "2001:db8::1"]);
    }

    #[test]
    fn addresses_of_the_default_routes_come_first_and_those_of_containers_last() {
        let bridges: Vec<(String, String)> =
            (0..20).map(|n| (format!("br-{n:012x}"), format!("172.{}.0.1", 16 + n % 16))).collect();
        let mut all: Vec<(&str, &str)> =
            bridges.iter().map(|(name, ip)| (name.as_str(), ip.as_str())).collect();
        all.extend([
            ("docker0", "172.17.0.1"),
            ("docker0", "fd00::1"),
            ("br-lan", "192.168.9.1"),
            ("wlan0", "192.168.178.20"),
            ("wlan0", "fdaa::20"),
            ("wlan0", "2001:db8::20"),
            ("wlan0", "2001:db8::99"),
        ]);
        let chosen = chosen(&all, &["192.168.178.20", "2001:db8::99"]);
        let first = [
            "192.168.178.20",
            "2001:db8::99",
            "192.168.9.1",
            "2001:db8::20",
            "fdaa::20",
            "172.16.0.1",
            "fd00::1",
        ];
        assert_eq!(chosen[..first.len()], first);
        assert_eq!(chosen.len(), first.len() + 15, "each address once");
    }

    #[test]
    fn a_bridge_of_a_router_is_none_of_containers() {
        assert!(is_of_containers("br-0123456789ab") && is_of_containers("veth1a2b"));
        assert!(
            !is_of_containers("br-lan") && !is_of_containers("br0") && !is_of_containers("eth0")
        );
    }
}
