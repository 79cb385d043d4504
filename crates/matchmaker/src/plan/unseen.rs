//! Two workers of which at least one has had no answer from any STUN server by IPv4. UDP may not get out of its
//! network, or only by IPv6, or no server may be there: its IPv6 addresses, the addresses of its interfaces, and a
//! port that its router has opened, are all that it can be told by. (That both have IPv6 was looked at before.)

use std::net::IpAddr;

use holepunch_wire::address::{AddressKind, Source};
use holepunch_wire::plan::Strategy;

use super::{Idea, Side};

/// What can still come of the two.
pub(super) fn idea(a: &Side, b: &Side) -> Idea {
    let has_opened = |side: &Side| side.is_unseen() && side.port_mapped;
    if has_opened(a) || has_opened(b) {
        return Idea::new(
            Strategy::Plain,
            "no STUN server answers one of the two by IPv4, but its router has opened a port to everybody",
        );
    }
    if may_share_a_network(a.observed, b.observed) {
        return Idea::new(
            Strategy::Plain,
            "no STUN server answers one of the two by IPv4, but they may be in one network: local addresses",
        );
    }
    if !a.is_blocked() && !b.is_blocked() {
        return Idea::new(
            Strategy::Relay,
            "one of the two has no IPv4 endpoint, and IPv6 does not lead from one to the other",
        );
    }
    Idea::new(
        Strategy::Relay,
        "UDP does not get out of the network of one of the two: no STUN server answers it",
    )
}

/// Whether two whose connections come from there may be: they share the address of a NAT, or an IPv6
/// network, or the rendezvous is in their site itself.
fn may_share_a_network(a: IpAddr, b: IpAddr) -> bool {
    let is_local = |ip| AddressKind::of(ip).is_local();
    is_local(a) && is_local(b) || Source::of(a) == Source::of(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_behind_one_address_or_in_one_site_may_share_a_network() {
        let table = [
            ("198.51.100.1", "198.51.100.1", true),
            ("198.51.100.1", "198.51.100.2", false),
            ("192.168.1.7", "10.0.0.1", true),
            ("127.0.0.1", "::1", true),
            ("192.168.1.7", "198.51.100.1", false),
            ("2001:db8:0:7::1", "2001:db8:0:7:ffff::2", true),
            ("2001:db8:0:7::1", "2001:db8:0:8::1", false),
            ("2001:db8::1", "198.51.100.1", false),
        ];
        for (a, b, expected) in table {
            let [a, b] = [a, b].map(|ip| ip.parse().unwrap());
            assert_eq!(may_share_a_network(a, b), expected, "{a} and {b}");
            assert_eq!(may_share_a_network(b, a), expected, "{b} and {a}");
        }
    }
}
