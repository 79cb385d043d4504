//! What became of the packets of a network.

use std::collections::BTreeMap;

use crate::nat::DropReason;

/// Why a packet did not reach its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum LossReason {
    /// The sender does not have the address that it sends from.
    #[error("the sender does not have its source address")]
    WrongSource,
    /// Nobody has the destination.
    #[error("no route to the destination")]
    Unroutable,
    /// A private source got to the core, which lets no such packet pass.
    #[error("a private source address on the core")]
    PrivateSource,
    /// Its TTL ran out.
    #[error("the TTL ran out")]
    Ttl,
    /// A link lost it.
    #[error("lost on a link")]
    Link,
    /// A box drops all UDP.
    #[error("a box drops all UDP")]
    UdpBlocked,
    /// A NAT or firewall dropped it.
    #[error("a box dropped it: {0}")]
    Box(DropReason),
    /// Too many packets are under way.
    #[error("too many packets under way")]
    InFlight,
}

/// What was sent, delivered and lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets that hosts have sent.
    pub sent: u64,
    /// Packets that have reached hosts.
    pub delivered: u64,
    /// Packets lost, by reason.
    pub lost: BTreeMap<LossReason, u64>,
}

impl Traffic {
    /// How many packets were lost for this reason.
    #[must_use]
    pub fn lost(&self, reason: LossReason) -> u64 {
        self.lost.get(&reason).copied().unwrap_or(0)
    }
}
