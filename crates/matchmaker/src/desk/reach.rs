//! Whether an endpoint that a worker reports is one that a peer may be sent to.

use std::net::{IpAddr, SocketAddr};

use holepunch_wire::address::AddressKind;

/// Why an endpoint is not handed to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No single host answers at such an address.
    #[error("{ip} is a{}: no peer can be reached there", kind.describe())]
    NotUnicast {
        /// The address.
        ip: IpAddr,
        /// Its kind.
        kind: AddressKind,
    },
    /// The address means something only inside a site, and the worker does not seem to be in one.
    #[error(
        "{ip} is a{}, but this connection comes from {observed}: report the public address that \
         STUN shows, or run the rendezvous with --allow-private",
        kind.describe()
    )]
    LocalFromElsewhere {
        /// The address.
        ip: IpAddr,
        /// Its kind.
        kind: AddressKind,
        /// Where the WebSocket comes from.
        observed: IpAddr,
    },
    /// The same, and the rendezvous' own STUN server has seen the worker there: no worker will learn another one.
    #[error(
        "{ip} is a{}, and this rendezvous' own STUN server sees this worker there, though this connection comes from \
         {observed}: something in front of that server hides the addresses of its clients (docker-proxy?); give it the \
         host's network, or name another STUN server",
        kind.describe()
    )]
    HiddenFromStun {
        /// The address.
        ip: IpAddr,
        /// Its kind.
        kind: AddressKind,
        /// Where the WebSocket comes from.
        observed: IpAddr,
    },
}

impl Unreachable {
    /// The same for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotUnicast { .. } => "not_unicast",
            Self::LocalFromElsewhere { .. } => "local_from_elsewhere",
            Self::HiddenFromStun { .. } => "hidden_from_stun",
        }
    }
}

/// Checks `endpoint`, reported by a worker whose own address is `observed`; `proven` is the one that the rendezvous' own
/// STUN server has seen.
///
/// Local addresses are let through where the worker's own is local too: then server and workers
/// share a site, or a machine. (The port needs no check: a decoded endpoint never has port 0.)
pub(crate) fn check(
    endpoint: SocketAddr,
    observed: IpAddr,
    proven: Option<IpAddr>,
    allow_private: bool,
) -> Result<(), Unreachable> {
    let ip = endpoint.ip();
    let kind = AddressKind::of(ip);
    if !kind.is_reachable_unicast() {
        return Err(Unreachable::NotUnicast { ip, kind });
    }
    if kind.is_local() && !allow_private && !AddressKind::of(observed).is_local() {
        return Err(if proven == Some(ip) {
            Unreachable::HiddenFromStun { ip, kind, observed }
        } else {
            Unreachable::LocalFromElsewhere { ip, kind, observed }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(ip: &str, observed: &str, allow_private: bool) -> bool {
        let endpoint = SocketAddr::new(ip.parse().unwrap(), 4000);
        check(endpoint, observed.parse().unwrap(), None, allow_private).is_ok()
    }

    #[test]
    fn ordinary_addresses_are_taken_from_anywhere() {
        for ip in ["8.8.8.8", "203.0.113.1", "198.18.1.1", "100.64.0.1", "2001:db8::1"] {
            assert!(accepted(ip, "198.51.100.7", false), "{ip}");
            assert!(accepted(ip, "127.0.0.1", false), "{ip}");
        }
    }

    #[test]
    fn local_addresses_are_taken_from_local_clients_or_when_allowed() {
        for ip in ["10.0.0.1", "192.168.1.1", "169.254.3.4", "127.0.0.1", "fd00::1", "fe80::1"] {
            assert!(!accepted(ip, "198.51.100.7", false), "{ip}");
            assert!(accepted(ip, "198.51.100.7", true), "{ip}");
            assert!(accepted(ip, "192.168.7.7", false), "{ip}");
            assert!(accepted(ip, "::1", false), "{ip}");
        }
    }

    #[test]
    fn addresses_of_no_single_host_are_never_taken() {
        for ip in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1"] {
            assert!(!accepted(ip, "127.0.0.1", true), "{ip}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        let endpoint = "10.0.0.1:1".parse().unwrap();
        let refused =
            |proven| check(endpoint, "8.8.8.8".parse().unwrap(), proven, false).unwrap_err();
        let refusal = refused(None);
        assert_eq!(
            refusal.to_string(),
            "10.0.0.1 is a private address, but this connection comes from 8.8.8.8: report the \
             public address that STUN shows, or run the rendezvous with --allow-private"
        );
        let hidden = refused(Some(endpoint.ip())).to_string();
        assert!(hidden.contains("own STUN server") && !hidden.contains("--allow-private"));
    }
}
