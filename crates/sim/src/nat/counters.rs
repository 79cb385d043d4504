//! What a box has done, and why it dropped what it dropped.

use std::collections::BTreeMap;

/// Why a NAT or a firewall drops a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DropReason {
    /// Outward: every port that the mapping could have is taken.
    #[error("no external port is free")]
    PortsExhausted,
    /// Outward: the table has as many sessions as it can hold.
    #[error("the table of sessions is full")]
    TableFull,
    /// Outward: the packet is of another IP version than the external address.
    #[error("the packet is of another IP version than the external address")]
    WrongFamily,
    /// Inward: the packet is for another address than the external one.
    #[error("the packet is not for the external address")]
    NotExternal,
    /// Inward: nobody has that external port.
    #[error("no mapping has the external port")]
    NoMapping,
    /// Inward: the mapping's filter does not let the source in.
    #[error("the filter does not let the source in")]
    Filtered,
    /// From inside to the own outside, which the NAT does not turn round.
    #[error("packets from inside to the outside are not turned round")]
    NoHairpin,
}

/// What a NAT or a firewall has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    mappings_created: u64,
    table_peak: usize,
    drops: BTreeMap<DropReason, u64>,
}

impl Counters {
    /// How many mappings have come into being.
    #[must_use]
    pub fn mappings_created(&self) -> u64 {
        self.mappings_created
    }

    /// The most entries that the table of sessions ever had.
    #[must_use]
    pub fn table_peak(&self) -> usize {
        self.table_peak
    }

    /// How many packets were dropped for this reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or(0)
    }

    /// How many packets were dropped.
    #[must_use]
    pub fn drops_total(&self) -> u64 {
        self.drops.values().sum()
    }

    pub(super) fn mapping_created(&mut self) {
        self.mappings_created += 1;
    }

    pub(super) fn table_is(&mut self, entries: usize) {
        self.table_peak = self.table_peak.max(entries);
    }

    /// Counts a drop and hands its reason back.
    pub(super) fn dropped(&mut self, reason: DropReason) -> DropReason {
        *self.drops.entry(reason).or_default() += 1;
        reason
    }
}
