//! The kinds of NAT, and what each claims to be.

use std::fmt;
use std::str::FromStr;

use holepunch_sim::nat::{Filtering, Mapping};
use holepunch_sim::presets;

use crate::behaviour::{Behaviour, Ports, Unsolicited};
use crate::port_service::PortService;

/// Interface of a NAT box toward the public network.
pub(crate) const OUTER: &str = "wan0";
/// Interface of a NAT box toward its host.
pub(crate) const INNER: &str = "lan0";

/// Ports of a block that the kernel takes them from.
pub const BLOCK: u16 = 64;
const BLOCK_NAME: &str = "symmetric-block64-";

/// What stands between a host and the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatKind {
    /// A router without translation and filter: the host has a public address.
    None,
    /// The kernel, as a home router: the port is kept where it is free, and only answers get in.
    PortPreserving,
    /// The kernel, as a home router that accepts unsolicited packets on its outside.
    KernelRemap,
    /// The kernel: each destination sees another port, taken at random; only answers get in.
    Symmetric,
    /// The kernel: likewise, from the block of [`BLOCK`] ports that begins with this one. Ports are used again for other
    /// destinations.
    SymmetricBlock(u16),
    /// The kernel, symmetric, with a service by which the host has ports opened.
    SymmetricWith(PortService),
    /// Behind it there is no IPv4, but NAT64. What the kernel does with IPv4 is of no account: it lets no UDP through.
    Nat64,
    /// The simulator's model of this kind.
    Simulated(presets::NatKind),
}

impl NatKind {
    /// Those that the kernel does.
    pub const KERNEL: [Self; 4] =
        [Self::None, Self::PortPreserving, Self::KernelRemap, Self::Symmetric];

    /// What a NAT of this kind claims to be; `None` when it lets no UDP through.
    #[must_use]
    pub fn claim(self) -> Option<Behaviour> {
        match self {
            Self::None => Some(Behaviour::OPEN),
            Self::PortPreserving => Some(Behaviour::HOME),
            Self::KernelRemap => Some(Behaviour {
                remaps: true,
                unsolicited: Unsolicited::Refused,
                ..Behaviour::HOME
            }),
            Self::Symmetric | Self::SymmetricWith(_) => Some(Behaviour {
                mapping: Mapping::AddressAndPortDependent,
                ports: Ports::Random,
                filtering: Filtering::AddressAndPortDependent,
                ..Behaviour::HOME
            }),
            Self::SymmetricBlock(_) => Some(Behaviour {
                mapping: Mapping::AddressAndPortDependent,
                ports: Ports::Block { size: BLOCK, reused: true },
                filtering: Filtering::AddressAndPortDependent,
                ..Behaviour::HOME
            }),
            Self::Nat64 => None,
            Self::Simulated(kind) => Behaviour::of_layers(&kind.layers()),
        }
    }

    /// Whether the address seen outside is that of the NAT.
    #[must_use]
    pub fn translates(self) -> bool {
        // A box that blocks UDP is a NAT for everything else.
        self.claim().is_none_or(|claim| claim.translates)
    }

    /// Whether the port of a worker is the same outside, however it comes to be opened.
    #[must_use]
    pub fn keeps_port(self) -> bool {
        self.claim().is_some_and(|claim| claim.ports == Ports::Kept && !claim.remaps)
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::PortPreserving => "port-preserving",
            Self::KernelRemap => "kernel-remap",
            Self::Symmetric => "symmetric",
            Self::SymmetricBlock(first) => return f.pad(&format!("{BLOCK_NAME}{first}")),
            Self::SymmetricWith(PortService::Upnp) => "symmetric-upnp",
            Self::SymmetricWith(PortService::Pcp) => "symmetric-pcp",
            Self::Nat64 => "nat64",
            Self::Simulated(kind) => return f.pad(&kind.to_string()),
        })
    }
}

impl FromStr for NatKind {
    type Err = presets::UnknownNatKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(Ok(first)) = text.strip_prefix(BLOCK_NAME).map(str::parse) {
            return Ok(Self::SymmetricBlock(first));
        }
        let with = [PortService::Upnp, PortService::Pcp].map(Self::SymmetricWith);
        let mut kernel = Self::KERNEL.into_iter().chain(with).chain([Self::Nat64]);
        let found = kernel.find(|kind| kind.to_string() == text);
        found.map_or_else(|| text.parse().map(Self::Simulated), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_its_name_and_no_two_have_the_same() {
        let simulated = presets::NatKind::all().into_iter().map(NatKind::Simulated);
        let with = [PortService::Upnp, PortService::Pcp].map(NatKind::SymmetricWith);
        let others = [NatKind::SymmetricBlock(35_935), NatKind::Nat64];
        for kind in NatKind::KERNEL.into_iter().chain(others).chain(with).chain(simulated) {
            assert_eq!(kind.to_string().parse::<NatKind>().unwrap(), kind);
        }
        assert!("cone".parse::<NatKind>().is_err());
    }
}
