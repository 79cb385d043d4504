//! What the peer may reach through this side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::metadata::serves_credentials;
use super::target::{Host, Protocol, Target, TargetError, port, split};

/// Rules that allow; without one nothing is allowed.
#[derive(Debug, Clone, Default)]
pub struct Allow(Vec<Rule>);

/// One rule: `host:port`, `host:*`, `*:port` or `*:*`; for UDP with `/udp` behind it.
///
/// An address allows itself, however it is written. A name allows exactly itself. A star allows names
/// and addresses, but only public ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `None`: any.
    host: Option<Host>,
    /// `None`: any.
    port: Option<u16>,
    protocol: Protocol,
}

impl FromStr for Rule {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (text, protocol) = Protocol::split(text);
        let (host, after) = split(text)?;
        let host = if host == "*" { None } else { Some(Host::parse(host)?) };
        let port = if after == "*" { None } else { Some(port(after)?) };
        Ok(Self { host, port, protocol })
    }
}

impl FromIterator<Rule> for Allow {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        Self(rules.into_iter().collect())
    }
}

/// How near an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Everywhere.
    Public,
    /// A network of one's own, or a provider's.
    Private,
    /// This machine, this cable, the cloud's side of this machine, or no single host at all.
    Local,
}

impl Allow {
    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the peer may name this target, before any look-up.
    #[must_use]
    pub fn names(&self, target: &Target, protocol: Protocol) -> bool {
        match &target.host {
            Host::Ip(ip) => self.leads_to(target, protocol, *ip),
            Host::Name(_) => self.rules(target.port, protocol).any(|rule| match &rule.host {
                Some(host) => *host == target.host,
                None => true,
            }),
        }
    }

    /// Whether a connection to `target` may go to `ip`, which its name has led to. A name cannot be used
    /// to reach what was not meant by it:
    ///
    /// - An address that a rule allows may be reached, by whichever name that is allowed.
    /// - `localhost`, where it is allowed, may be the loopback.
    /// - Any other name that a rule spells out may lead to public and private addresses, but not to this
    ///   machine's loopback, nor to link-local and other addresses where cloud providers keep credentials.
    /// - What only a star allows may lead to public addresses.
    #[must_use]
    pub fn leads_to(&self, target: &Target, protocol: Protocol, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let reach = reach(ip);
        let is_localhost = target.host == Host::Name("localhost".to_owned()) && ip.is_loopback();
        self.rules(target.port, protocol).any(|rule| match &rule.host {
            Some(Host::Ip(allowed)) => *allowed == ip,
            Some(host) => *host == target.host && (reach <= Reach::Private || is_localhost),
            None => reach == Reach::Public,
        })
    }

    fn rules(&self, port: u16, protocol: Protocol) -> impl Iterator<Item = &Rule> {
        let of_port = move |rule: &&Rule| rule.port.is_none_or(|allowed| allowed == port);
        self.0.iter().filter(of_port).filter(move |rule| rule.protocol == protocol)
    }
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

/// By the registry of special addresses (RFC 6890).
fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, _] = ip.octets();
    let is_local = a == 0 || a >= 224 || ip.is_loopback() || ip.is_link_local();
    if is_local || serves_credentials(ip.into()) {
        Reach::Local
    } else if ip.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 192 && b == 0 && c == 0) {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// Only 2000::/3 is public; what carries an IPv4 address is as near as that.
fn reach_v6(ip: Ipv6Addr) -> Reach {
    let [a, b, c, _, _, _, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        _ if serves_credentials(ip.into()) => Reach::Local,
        // NAT64 (RFC 6052) and 6to4 (RFC 3056). Where a NAT64 of one's own (RFC 8215) puts the IPv4 address,
        // nobody outside knows.
        (0x64, 0xff9b) if c == 0 => embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // Teredo hides an address inside.
        (0x2001, 0) => Reach::Private,
        _ if a & 0xe000 == 0x2000 => Reach::Public,
        _ if a & 0xfe00 == 0xfc00 => Reach::Private,
        _ => Reach::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(rules: &[&str]) -> Allow {
        rules.iter().map(|rule| rule.parse::<Rule>().unwrap()).collect()
    }

    fn names(allow: &Allow, target: &str) -> bool {
        allow.names(&target.parse().unwrap(), Protocol::Tcp)
    }

    fn leads(allow: &Allow, target: &str, ip: &str) -> bool {
        allow.leads_to(&target.parse().unwrap(), Protocol::Tcp, ip.parse().unwrap())
    }

    #[test]
    fn nothing_is_allowed_unless_it_is_named() {
        assert!(!names(&allow(&[]), "127.0.0.1:22"));
        let one = allow(&["127.0.0.1:22", "db.internal:*"]);
        assert!(names(&one, "127.0.0.1:22") && names(&one, "[::ffff:127.0.0.1]:22"));
        assert!(names(&one, "DB.internal.:5432"));
        assert!(!names(&one, "127.0.0.1:23") && !names(&one, "localhost:22"));
        assert!(!names(&one, "x.db.internal:5432") && !names(&one, "127.0.0.2:22"));
    }

    #[test]
    fn a_name_does_not_lead_to_this_machine_unless_that_is_allowed_too() {
        let named = allow(&["db.example:80", "localhost:80"]);
        assert!(leads(&named, "db.example:80", "203.0.113.5"));
        assert!(leads(&named, "db.example:80", "10.0.0.5"));
        for ip in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "fe80::1",
            "64:ff9b::7f00:1",
        ] {
            assert!(!leads(&named, "db.example:80", ip), "{ip}");
        }
        assert!(leads(&named, "localhost:80", "127.0.0.1") && leads(&named, "localhost:80", "::1"));
        assert!(!leads(&named, "localhost:80", "169.254.169.254"));
        let both = allow(&["db.example:80", "127.0.0.1:80"]);
        assert!(leads(&both, "db.example:80", "127.0.0.1"));
        assert!(!leads(&both, "db.example:80", "127.0.0.2"));
    }

    #[test]
    fn a_name_does_not_lead_to_where_a_cloud_keeps_credentials() {
        let named = allow(&["db.example:80", "*:80"]);
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fe80::a9fe:a9fe",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "::ffff:168.63.129.16",
            "::ffff:100.100.100.200",
            "64:ff9b::a83f:8110",
            "64:ff9b::6464:64c8",
            "64:ff9b::c000:c0",
            "64:ff9b:1:a83f:81:1000::",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a83f:8110::1",
            "2002:6464:64c8::",
        ] {
            assert!(!leads(&named, "db.example:80", ip), "{ip}");
            assert!(!leads(&named, "other.example:80", ip), "{ip}");
        }
        assert!(leads(&named, "db.example:80", "100.100.100.201"));
        assert!(leads(&named, "db.example:80", "fd00:c1::1"));
        assert!(leads(&named, "db.example:80", "64:ff9b::808:808"));
        let itself = allow(&["db.example:80", "168.63.129.16:80"]);
        assert!(leads(&itself, "db.example:80", "168.63.129.16"));
    }

    #[test]
    fn udp_is_allowed_by_rules_of_its_own_and_protected_alike() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        let both = allow(&[
            "127.0.0.1:51820/udp",
            "db.example:53/udp",
            "*:443/udp",
            "127.0.0.1:22",
            "x:1/tcp",
        ]);
        assert!(both.names(&target("127.0.0.1:51820"), Protocol::Udp));
        assert!(!both.names(&target("127.0.0.1:51820"), Protocol::Tcp));
        assert!(!both.names(&target("127.0.0.1:22"), Protocol::Udp));
        assert!(
            both.names(&target("127.0.0.1:22"), Protocol::Tcp)
                && both.names(&target("x:1"), Protocol::Tcp)
        );
        let leads =
            |name: &str, ip: &str| both.leads_to(&target(name), Protocol::Udp, ip.parse().unwrap());
        assert!(leads("db.example:53", "10.0.0.5") && leads("any.example:443", "203.0.113.5"));
        for ip in
            ["127.0.0.1", "169.254.169.254", "fd00:ec2::254", "224.0.0.251", "255.255.255.255"]
        {
            assert!(!leads("db.example:53", ip) && !leads("any.example:443", ip), "{ip}");
        }
        for bad in ["127.0.0.1:22/sctp", "127.0.0.1/udp", "127.0.0.1:22/udp/udp", "/udp"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_is_public_only() {
        let any = allow(&["*:443"]);
        assert!(names(&any, "example.org:443") && names(&any, "203.0.113.5:443"));
        assert!(!names(&any, "example.org:80"));
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "100.64.0.1",
            "fc00::1",
            "::1",
            "2002:a00:1::",
            "255.255.255.255",
        ] {
            assert!(!leads(&any, "example.org:443", ip), "{ip}");
        }
        assert!(leads(&any, "example.org:443", "2606:4700::1"));
        assert!(!names(&any, "192.168.0.1:443"));
    }
}
