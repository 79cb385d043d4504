//! The kinds of NAT, what each claims to be in the words of RFC 4787, and its rules.

use std::fmt;

use crate::counters;

/// Interface of a NAT box toward the public network.
pub(crate) const OUTER: &str = "wan0";
/// Interface of a NAT box toward its host.
pub(crate) const INNER: &str = "lan0";
/// Table of nftables that holds the rules.
const TABLE: &str = "translation";

/// What stands between a host and the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatKind {
    /// A router without translation and filter: the host has a public address.
    None,
    /// As a home router: the port is kept where it is free, and only answers get in.
    PortPreserving,
    /// Each destination sees another port, taken at random; only answers get in.
    Symmetric,
}

/// Which external port an inside endpoint has (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// The same toward every destination.
    EndpointIndependent,
    /// Another for each destination address.
    AddressDependent,
    /// Another for each destination address and port.
    AddressAndPortDependent,
}

/// Whose packets get in (RFC 4787 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those from each address that was sent to.
    AddressDependent,
    /// Those from each address and port that was sent to.
    AddressAndPortDependent,
}

/// What a port without a mapping answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsolicited {
    /// An ICMP message says that nobody is there.
    Refused,
    /// Nothing.
    Silent,
}

/// How a NAT behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether the address seen outside is that of the NAT, not the host's own.
    pub translates: bool,
    /// How the external port depends on the destination.
    pub mapping: Mapping,
    /// Whether the external port is the internal one, even if an unsolicited packet to that port
    /// came first.
    pub keeps_port: bool,
    /// Whose packets get in.
    pub filtering: Filtering,
    /// What happens to packets for a port that nobody has opened.
    pub unsolicited: Unsolicited,
}

impl NatKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::None, Self::PortPreserving, Self::Symmetric];

    /// What a NAT of this kind claims to be.
    #[must_use]
    pub fn claim(self) -> Behaviour {
        match self {
            Self::None => Behaviour {
                translates: false,
                mapping: Mapping::EndpointIndependent,
                keeps_port: true,
                filtering: Filtering::EndpointIndependent,
                unsolicited: Unsolicited::Refused,
            },
            Self::PortPreserving => Behaviour {
                translates: true,
                mapping: Mapping::EndpointIndependent,
                keeps_port: true,
                filtering: Filtering::AddressAndPortDependent,
                unsolicited: Unsolicited::Silent,
            },
            Self::Symmetric => Behaviour {
                translates: true,
                mapping: Mapping::AddressAndPortDependent,
                keeps_port: false,
                filtering: Filtering::AddressAndPortDependent,
                unsolicited: Unsolicited::Silent,
            },
        }
    }

    /// The rules of the NAT box, its counters included.
    pub(crate) fn rules(self) -> String {
        let counters = counters::box_rules(OUTER);
        match self {
            Self::None => counters,
            Self::PortPreserving => counters + &masquerade("masquerade"),
            Self::Symmetric => counters + &masquerade("masquerade fully-random"),
        }
    }
}

/// Source translation with connection tracking: what the table of connections does not know is
/// dropped. That includes packets for the box itself; if they were let through to it, each would
/// take the very entry that the host's own packets to its sender need, and the kernel would give
/// those another port.
fn masquerade(how: &str) -> String {
    format!(
        "table ip {TABLE} {{
  chain outward {{
    type nat hook postrouting priority srcnat
    policy accept
    oifname \"{OUTER}\" {how}
  }}
  chain through {{
    type filter hook forward priority filter
    policy drop
    iifname \"{INNER}\" oifname \"{OUTER}\" accept
    ct state established,related accept
  }}
  chain to_the_box {{
    type filter hook input priority filter
    policy accept
    iifname \"{OUTER}\" ct state != {{ established, related }} drop
  }}
}}
"
    )
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::PortPreserving => "port-preserving",
            Self::Symmetric => "symmetric",
        })
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let translation = if self.translates { "translated" } else { "not translated" };
        let mapping = match self.mapping {
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "address-dependent",
            Mapping::AddressAndPortDependent => "address-and-port-dependent",
        };
        let port = if self.keeps_port { "kept" } else { "not kept" };
        let filtering = match self.filtering {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address-and-port-dependent",
        };
        let unsolicited = match self.unsolicited {
            Unsolicited::Refused => "refused",
            Unsolicited::Silent => "dropped silently",
        };
        write!(
            f,
            "address {translation}, mapping {mapping}, port {port}, filtering {filtering}, \
             unsolicited packets {unsolicited}"
        )
    }
}
