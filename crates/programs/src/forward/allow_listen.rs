//! Where this side may be asked to listen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::target::port;

/// Rules that let the peer have this side listen; without one it may not.
#[derive(Debug, Clone, Default)]
pub struct AllowListen(Vec<ListenRule>);

/// One rule: `PORT`, at the addresses of `localhost`, 127.0.0.1 and ::1, or `IP:PORT`, at this very address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenRule {
    /// `None`: those of `localhost`.
    ip: Option<IpAddr>,
    /// Never 0: a port of the system's choice could be any.
    port: u16,
}

/// Why a text is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected PORT, from 1 to 65535 and on 127.0.0.1 and ::1, or IP:PORT, such as 8080, 0.0.0.0:8080 or [::]:8080"
)]
pub struct ListenRuleError;

impl FromStr for ListenRule {
    type Err = ListenRuleError;

    fn from_str(text: &str) -> Result<Self, ListenRuleError> {
        if let Ok(port) = port(text) {
            return Ok(Self { ip: None, port });
        }
        let address: SocketAddr = text.parse().map_err(|_| ListenRuleError)?;
        let ip = Some(address.ip().to_canonical());
        if address.port() == 0 {
            Err(ListenRuleError)
        } else {
            Ok(Self { ip, port: address.port() })
        }
    }
}

/// The other addresses of the loopback network may be those of services that a resolver, a container or a VPN has put there.
fn is_localhost(ip: IpAddr) -> bool {
    ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
}

impl ListenRule {
    /// The one that allows this address, in its shortest form.
    pub(super) fn of(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        Self { ip: (!is_localhost(ip)).then_some(ip), port: address.port() }
    }
}

impl fmt::Display for ListenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => self.port.fmt(f),
        }
    }
}

impl FromIterator<ListenRule> for AllowListen {
    fn from_iter<T: IntoIterator<Item = ListenRule>>(rules: T) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl AllowListen {
    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the peer may have this side listen there.
    #[must_use]
    pub fn has(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.0.iter().any(|rule| {
            rule.port == address.port() && rule.ip.map_or(is_localhost(ip), |allowed| allowed == ip)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(rules: &[&str], address: &str) -> bool {
        let rules: AllowListen = rules.iter().map(|it| it.parse::<ListenRule>().unwrap()).collect();
        rules.has(address.parse().unwrap())
    }

    #[test]
    fn a_port_is_meant_on_localhost_and_an_address_is_itself() {
        assert!(!may(&[], "127.0.0.1:8080"));
        let loopback = ["8080"];
        for address in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert!(may(&loopback, address), "{address}");
        }
        for address in [
            "0.0.0.0:8080",
            "[::]:8080",
            "192.0.2.1:8080",
            "127.0.0.2:8080",
            "127.3.2.1:8080",
            "127.0.0.1:8081",
            "127.0.0.1:0",
            "127.0.0.1:22",
        ] {
            assert!(!may(&loopback, address), "{address}");
        }
        assert!(may(&["0.0.0.0:8080"], "0.0.0.0:8080"));
        assert!(!may(&["0.0.0.0:8080"], "127.0.0.1:8080"), "it has its own rule");
        assert!(!may(&["0.0.0.0:8080"], "[::]:8080"));
        assert!(may(&["127.0.0.53:8080"], "127.0.0.53:8080"));
    }

    #[test]
    fn the_rule_that_is_named_to_whoever_is_refused_allows_what_was_asked_for() {
        for (address, rule) in [
            ("127.0.0.1:22", "22"),
            ("[::1]:22", "22"),
            ("127.0.0.2:22", "127.0.0.2:22"),
            ("[::]:22", "[::]:22"),
        ] {
            assert_eq!(ListenRule::of(address.parse().unwrap()).to_string(), rule);
            assert!(may(&[rule], address), "{rule}");
        }
    }

    #[test]
    fn odd_rules_are_none() {
        for text in [
            "",
            "0",
            "65536",
            "+1",
            "*",
            "*:80",
            "x:80",
            "127.0.0.1",
            "127.0.0.1:0",
            "::1:80",
            "80/udp",
        ] {
            assert_eq!(text.parse::<ListenRule>(), Err(ListenRuleError), "{text}");
        }
    }
}
