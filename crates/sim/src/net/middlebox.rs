//! What a box does with packets: nothing, filter, or translate.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::rngs::StdRng;

use crate::nat::{DropReason, Firewall, FirewallConfig, Nat, NatConfig};

/// What a box does with packets of one IP version.
#[derive(Debug, Clone, PartialEq)]
pub enum Middlebox {
    /// It passes them on.
    Router,
    /// It filters them.
    Firewall(FirewallConfig),
    /// It translates them.
    Nat {
        /// How.
        config: NatConfig,
        /// Its address on the outer segment.
        external: IpAddr,
    },
}

/// What a box does.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxConfig {
    /// With IPv4.
    pub ipv4: Middlebox,
    /// With IPv6.
    pub ipv6: Middlebox,
    /// Whether it drops all UDP.
    pub udp_blocked: bool,
}

impl BoxConfig {
    /// A NAT for IPv4 that lets IPv6 pass through the usual stateful firewall: a home router.
    #[must_use]
    pub fn nat(config: NatConfig, external: IpAddr) -> Self {
        Self {
            ipv4: Middlebox::Nat { config, external },
            ipv6: Middlebox::Firewall(FirewallConfig::default()),
            udp_blocked: false,
        }
    }

    /// The same firewall for both IP versions.
    #[must_use]
    pub fn firewall(config: FirewallConfig) -> Self {
        Self {
            ipv4: Middlebox::Firewall(config.clone()),
            ipv6: Middlebox::Firewall(config),
            udp_blocked: false,
        }
    }
}

/// A middlebox at work.
#[derive(Debug)]
pub(super) enum Engine {
    Router,
    Firewall(Firewall),
    // A NAT is several times the size of a firewall.
    Nat(Box<Nat>),
}

/// What becomes of a packet from inside.
pub(super) enum Outward {
    /// It goes on outside, with this source.
    Onward(SocketAddr),
    /// It is turned round, with this source, to this inside endpoint.
    Turned(SocketAddr, SocketAddr),
}

impl Engine {
    pub(super) fn new(config: Middlebox, rng: StdRng) -> Self {
        match config {
            Middlebox::Router => Self::Router,
            Middlebox::Firewall(config) => Self::Firewall(Firewall::new(config)),
            Middlebox::Nat { config, external } => {
                Self::Nat(Box::new(Nat::new(config, external, rng)))
            }
        }
    }

    pub(super) fn nat(&self) -> Option<&Nat> {
        match self {
            Self::Nat(nat) => Some(nat),
            Self::Router | Self::Firewall(_) => None,
        }
    }

    pub(super) fn firewall(&self) -> Option<&Firewall> {
        match self {
            Self::Firewall(firewall) => Some(firewall),
            Self::Router | Self::Nat(_) => None,
        }
    }

    pub(super) fn rebind(&mut self) {
        match self {
            Self::Router => {}
            Self::Firewall(firewall) => firewall.reset(),
            Self::Nat(nat) => nat.rebind(),
        }
    }

    pub(super) fn outward(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<Outward, DropReason> {
        match self {
            Self::Router => Ok(Outward::Onward(from)),
            Self::Firewall(firewall) => {
                firewall.outbound(from, to, now).map(|()| Outward::Onward(from))
            }
            Self::Nat(nat) if nat.external() == to.ip() => nat
                .hairpin(from, to, now)
                .map(|(source, receiver)| Outward::Turned(source, receiver)),
            Self::Nat(nat) => nat.outbound(from, to, now).map(Outward::Onward),
        }
    }

    /// The inside endpoint that gets a packet from outside.
    pub(super) fn inward(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<SocketAddr, DropReason> {
        match self {
            Self::Router => Ok(to),
            Self::Firewall(firewall) => firewall.inbound(from, to, now).map(|()| to),
            Self::Nat(nat) => nat.inbound(from, to, now),
        }
    }
}
