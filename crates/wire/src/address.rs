//! What kind of address an IP is: the one place that knows the special ranges. And whose it is, for those
//! who share something out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an IP address, as far as reaching a peer there is concerned.
///
/// Documentation (RFC 5737), benchmarking (198.18/15) and shared carrier (100.64/10, RFC 6598)
/// ranges are [`Ordinary`](AddressKind::Ordinary): laboratories and carriers use them as they
/// would use public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressKind {
    /// A unicast address that may be reachable from anywhere.
    Ordinary,
    /// RFC 1918, or an IPv6 unique or site local address.
    Private,
    /// 169.254/16 or fe80::/10.
    LinkLocal,
    /// 127/8 or ::1.
    Loopback,
    /// 0/8 ("this network", RFC 1122 §3.2.1.3) or ::.
    Unspecified,
    /// 224/4 or ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// 240/4, which nobody routes.
    Reserved,
}

impl AddressKind {
    /// The kind of `ip`. An IPv4 address inside an IPv6 one (mapped, RFC 4291 §2.5.5; NAT64,
    /// RFC 6052; 6to4, RFC 3056) has the kind of the inner address, so that nothing hides there.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let first = ip.octets()[0];
        if ip.is_broadcast() {
            Self::Broadcast
        } else if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_private() {
            Self::Private
        } else if ip.is_link_local() {
            Self::LinkLocal
        } else if first == 0 {
            Self::Unspecified
        } else if ip.is_multicast() {
            Self::Multicast
        } else if first >= 240 {
            Self::Reserved
        } else {
            Self::Ordinary
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        let segments = ip.segments();
        if ip.is_unspecified() {
            Self::Unspecified
        } else if ip.is_loopback() {
            Self::Loopback
        } else if ip.is_multicast() {
            Self::Multicast
        } else if ip.is_unicast_link_local() {
            Self::LinkLocal
        } else if ip.is_unique_local() || segments[0] & 0xffc0 == 0xfec0 {
            Self::Private
        } else if let Some(inner) = embedded_v4(segments) {
            Self::of_v4(inner)
        } else {
            Self::Ordinary
        }
    }

    /// Whether the address means something only inside one host, link or site.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Private | Self::LinkLocal | Self::Loopback)
    }

    /// Whether one single host could answer at such an address.
    #[must_use]
    pub fn is_reachable_unicast(self) -> bool {
        self == Self::Ordinary || self.is_local()
    }

    /// The kind in words, to stand after "is a".
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Ordinary => "n ordinary address",
            Self::Private => " private address",
            Self::LinkLocal => " link-local address",
            Self::Loopback => " loopback address",
            Self::Unspecified => "n unspecified address",
            Self::Multicast => " multicast address",
            Self::Broadcast => " broadcast address",
            Self::Reserved => " reserved address",
        }
    }
}

/// Whom the share of an address is for: an IPv4 address, or the /64 of an IPv6 address, which any home has
/// whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Whose `ip` is. This machine itself is nobody: it costs nothing, and behind a proxy that is not
    /// trusted it would be everybody.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Self> {
        (!ip.to_canonical().is_loopback()).then(|| Self::even_of_loopback(ip))
    }

    /// Its address; of an IPv6 network, the first one.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// The same where this machine is somebody, too, and each of its addresses another one: for what it costs as
    /// much as anybody.
    #[must_use]
    pub fn even_of_loopback(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.into()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
        }
    }

    /// The site that it belongs to.
    #[must_use]
    pub fn site(self) -> Site {
        match self.0 {
            IpAddr::V4(ip) => Site(ip.into()),
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                Site(IpAddr::from([a, b, c, 0, 0, 0, 0, 0]))
            }
        }
    }

    /// Its site, where that may have others beside it: those of IPv4 have none.
    #[must_use]
    pub fn shared_site(self) -> Option<Site> {
        self.0.is_ipv6().then(|| self.site())
    }
}

/// Whose the networks of one customer are: the /48 of an IPv6 address, the most that a site usually has
/// (RFC 6177 §1), or an IPv4 address alone. A home has up to 256 networks (a /56), each a [`Source`] of its
/// own, and a /48 has 65,536: counted one by one, they would have as many shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(IpAddr);

impl Site {
    /// Its address; of a network, the first one.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0
    }
}

/// How many shares of a [`Source`] all of a [`Site`] have together. More than one, since providers give single
/// networks of one /48 to strangers, and one of these must not use up all that the others have; few, since
/// whoever has a site has all of its networks.
pub const SHARES_OF_SITE: u32 = 2;

/// The IPv4 address inside 64:ff9b::/96 (NAT64), 2002::/16 (6to4) or ::/96 (compatible).
fn embedded_v4(segments: [u16; 8]) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => {
            Some(join(high, low))
        }
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::AddressKind::{self, *};
    use super::{Site, Source};

    fn kind(text: &str) -> AddressKind {
        AddressKind::of(text.parse().expect("test address"))
    }

    #[test]
    fn every_special_range_has_its_kind() {
        let table = [
            ("8.8.8.8", Ordinary),
            ("192.0.2.1", Ordinary),
            ("203.0.113.9", Ordinary),
            ("198.18.0.1", Ordinary),
            ("100.64.0.1", Ordinary),
            ("2001:db8::1", Ordinary),
            ("10.1.2.3", Private),
            ("172.16.0.1", Private),
            ("172.32.0.1", Ordinary),
            ("192.168.1.1", Private),
            ("fd00::1", Private),
            ("fec0::1", Private),
            ("169.254.1.1", LinkLocal),
            ("fe80::1", LinkLocal),
            ("127.9.9.9", Loopback),
            ("::1", Loopback),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("255.255.255.255", Broadcast),
            ("240.0.0.1", Reserved),
        ];
        for (text, expected) in table {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_inside_another_does_not_hide_its_kind() {
        assert_eq!(kind("::ffff:127.0.0.1"), Loopback);
        assert_eq!(kind("64:ff9b::10.0.0.1"), Private);
        assert_eq!(kind("2002:7f00:1::"), Loopback);
        assert_eq!(kind("::224.0.0.1"), Multicast);
        assert_eq!(kind("64:ff9b::8.8.8.8"), Ordinary);
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_this_machine_nobody() {
        let source = |text: &str| Source::of(text.parse().expect("test address"));
        assert_eq!(
            (source("127.0.0.1"), source("::1"), source("::ffff:127.0.0.1")),
            (None, None, None)
        );
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:9"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        let even = |text: &str| Source::even_of_loopback(text.parse().expect("test address"));
        assert_ne!(even("127.0.0.1"), even("127.0.0.2"));
        assert_eq!(Some(even("2001:db8::1")), source("2001:db8::2"));
    }

    #[test]
    fn the_networks_of_a_home_are_of_one_site_and_an_ipv4_address_is_alone() {
        let site = |text: &str| -> Site {
            Source::of(text.parse().expect("test address")).expect("not this machine").site()
        };
        assert_eq!(site("2001:db8:7::1"), site("2001:db8:7:ffff:1:2:3:4"));
        assert_ne!(site("2001:db8:7::1"), site("2001:db8:8::1"));
        assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
        assert_eq!(site("192.0.2.1"), site("::ffff:192.0.2.1"));
        let shared = |text: &str| Source::of(text.parse().unwrap()).unwrap().shared_site();
        assert_eq!(shared("2001:db8:7::1"), Some(site("2001:db8:7::2")));
        assert_eq!(shared("::ffff:192.0.2.1"), None);
    }
}
