//! One NAT and a clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_sim::nat::{Allocation, DropReason, Filtering, Mapping, Nat, NatConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::common::{at, ip, origin};

pub(crate) const EXTERNAL: &str = "203.0.113.1";
/// An inside socket.
pub(crate) const A: &str = "192.168.1.2:5000";
/// Another socket of the same host.
pub(crate) const A2: &str = "192.168.1.2:5001";
/// A socket of another host, with the port of the first.
pub(crate) const B: &str = "192.168.1.3:5000";
/// Two addresses outside, with two ports each.
pub(crate) const X: &str = "192.0.2.1:3478";
pub(crate) const X_OTHER_PORT: &str = "192.0.2.1:3479";
pub(crate) const Y: &str = "192.0.2.2:3478";

pub(crate) struct Prober {
    pub(crate) nat: Nat,
    pub(crate) now: Instant,
}

impl Prober {
    pub(crate) fn new(config: NatConfig) -> Self {
        Self::seeded(config, 1)
    }

    pub(crate) fn seeded(config: NatConfig, seed: u64) -> Self {
        let nat = Nat::new(config, ip(EXTERNAL), StdRng::seed_from_u64(seed));
        Self { nat, now: origin() }
    }

    pub(crate) fn of(mapping: Mapping, filtering: Filtering) -> Self {
        Self::new(NatConfig::new(mapping, filtering))
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Sends outward; the source that the receiver sees.
    pub(crate) fn outward(&mut self, inside: &str, to: &str) -> SocketAddr {
        self.try_outward(inside, to).unwrap()
    }

    pub(crate) fn try_outward(&mut self, inside: &str, to: &str) -> Result<SocketAddr, DropReason> {
        self.nat.outbound(at(inside), at(to), self.now)
    }

    /// Sends inward; who gets it.
    pub(crate) fn inward(&mut self, from: &str, to: SocketAddr) -> Result<SocketAddr, DropReason> {
        self.nat.inbound(at(from), to, self.now)
    }
}

/// A NAT with dependent mapping that gives ports so.
pub(crate) fn hard(allocation: Allocation) -> NatConfig {
    let config =
        NatConfig::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
    config.with_allocation(allocation)
}

/// The n-th of many outside endpoints, each with another address and port.
pub(crate) fn outside(n: u16) -> String {
    let [high, low] = n.to_be_bytes();
    format!("198.51.{high}.{low}:{}", 2000 + n)
}
