//! How a NAT or a firewall behaves, in the words of RFC 4787.

use std::time::Duration;

/// The lowest port that a NAT gives by itself; below are the well-known ones.
pub const PORT_MIN: u16 = 1024;
/// How long an idle mapping lives unless a preset says otherwise: the default of many routers, and
/// the least that RFC 4787 REQ-5 allows.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// How long an unsolicited packet from outside occupies its tuple: what Linux gives a UDP flow that
/// nobody answered.
pub const UNSOLICITED_LIFETIME: Duration = Duration::from_secs(30);
/// Most entries in a table of sessions unless a preset says otherwise: what a router with 1 GiB of
/// memory has.
pub const TABLE_MAX: usize = 65_536;

/// On what of the destination an external endpoint depends (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// On nothing: one external endpoint for all destinations.
    EndpointIndependent,
    /// On the address.
    AddressDependent,
    /// On the address and the port.
    AddressAndPortDependent,
}

/// Whose packets get in (RFC 4787 §5). It is decided for each mapping on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody's, while the mapping lives.
    EndpointIndependent,
    /// Those from an address that was sent to.
    AddressDependent,
    /// Those from an address and port that was sent to.
    AddressAndPortDependent,
}

/// How the external port of a new mapping is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allocation {
    /// The internal port where it is free, else a random one.
    Preserving,
    /// The internal port, where it is free, for the first mapping of an inside socket; random ones
    /// for its further mappings.
    PreservingFirst,
    /// The last port given and a step; ports that are taken are stepped over.
    Sequential {
        /// From one port to the next; negative where ports count down.
        step: i16,
        /// How many ports other hosts behind the same NAT take in a second (a Poisson process).
        noise_per_second: f64,
    },
    /// A random free port of a contiguous block that belongs to the inside host.
    Block {
        /// How many ports a block has.
        size: u16,
        /// Whether a block begins at a multiple of its size.
        aligned: bool,
        /// Whether one port serves several mappings, as long as no two of them have the same
        /// destination. Without, a block that is used up lets no new mapping come into being.
        reuse: bool,
    },
    /// A random free port.
    Random,
}

/// What happens when a packet comes from outside that nothing inside has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InboundFirst {
    /// It is dropped, and that is all.
    Drop,
    /// It is dropped, but occupies its tuple (external port, source) for [`UNSOLICITED_LIFETIME`]: a
    /// packet from inside that would need the tuple goes out through another, random port, and so does
    /// whatever its socket sends to destinations that are new from then on. Linux routers that accept
    /// unsolicited packets on their outside do this: the newest mapping of a socket is the model of the
    /// next.
    Remap,
}

/// How a NAT behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct NatConfig {
    /// On what external endpoints depend.
    pub mapping: Mapping,
    /// Whose packets get in.
    pub filtering: Filtering,
    /// How external ports are chosen.
    pub allocation: Allocation,
    /// Whether two inside hosts reach each other at the outside (RFC 4787 §6).
    pub hairpin: bool,
    /// How long an idle mapping, and a permission of the filter, lives.
    pub lifetime: Duration,
    /// Whether packets from outside keep a mapping alive, too (RFC 4787 REQ-6).
    pub refresh_on_inbound: bool,
    /// What an unsolicited packet leaves behind.
    pub inbound: InboundFirst,
    /// Most sessions, that is pairs of a mapping and a remote endpoint.
    pub table_max: usize,
}

impl NatConfig {
    /// A NAT of this mapping and filtering that keeps ports where it maps endpoint-independently
    /// and gives random ones otherwise; no hairpinning, nothing special.
    #[must_use]
    pub fn new(mapping: Mapping, filtering: Filtering) -> Self {
        let allocation = match mapping {
            Mapping::EndpointIndependent => Allocation::Preserving,
            Mapping::AddressDependent | Mapping::AddressAndPortDependent => Allocation::Random,
        };
        Self {
            mapping,
            filtering,
            allocation,
            hairpin: false,
            lifetime: LIFETIME,
            refresh_on_inbound: true,
            inbound: InboundFirst::Drop,
            table_max: TABLE_MAX,
        }
    }

    /// The same with ports chosen so.
    #[must_use]
    pub fn with_allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = allocation;
        self
    }

    /// The same with mappings that live so long.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The same with or without hairpinning.
    #[must_use]
    pub fn with_hairpin(mut self, hairpin: bool) -> Self {
        self.hairpin = hairpin;
        self
    }
}

/// How a stateful firewall without translation behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallConfig {
    /// Whose packets get in.
    pub filtering: Filtering,
    /// How long an idle permission lives.
    pub lifetime: Duration,
    /// Whether packets from outside keep it alive, too.
    pub refresh_on_inbound: bool,
    /// Most sessions, that is pairs of an inside and a remote endpoint.
    pub table_max: usize,
}

impl Default for FirewallConfig {
    /// Lets answers in and nothing else: what hosts and home routers do with IPv6.
    fn default() -> Self {
        Self {
            filtering: Filtering::AddressAndPortDependent,
            lifetime: LIFETIME,
            refresh_on_inbound: true,
            table_max: TABLE_MAX,
        }
    }
}
