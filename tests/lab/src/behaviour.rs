//! What a NAT claims to be, or is seen to be, in the words of RFC 4787.

use std::fmt;

use holepunch_sim::nat::{Allocation, Filtering, InboundFirst, Mapping, NatConfig};
use holepunch_sim::presets::Layer;

/// Sizes of blocks of ports that are told apart: that of one large cloud, and that of one carrier.
const BLOCKS: [u16; 2] = [64, 512];
/// Most ports that other hosts may have taken between two of a sequence.
const STEP_MAX: u16 = 8;

/// How a NAT behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether the address seen outside is that of the NAT, not the host's own.
    pub translates: bool,
    /// How the external port depends on the destination.
    pub mapping: Mapping,
    /// How external ports are chosen.
    pub ports: Ports,
    /// Whether an unsolicited packet moves the flow to its sender to another port.
    pub remaps: bool,
    /// Whose packets get in.
    pub filtering: Filtering,
    /// What happens to packets for a port that nobody has opened.
    pub unsolicited: Unsolicited,
}

/// How external ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The internal one.
    Kept,
    /// The internal one for the first destination, others for further ones.
    KeptFirst,
    /// One after the other.
    Sequential,
    /// From a block.
    Block {
        /// How many ports the block has.
        size: u16,
        /// Whether one port serves several destinations.
        reused: bool,
    },
    /// At random.
    Random,
}

/// What a port without a mapping answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsolicited {
    /// An ICMP message says that nobody is there.
    Refused,
    /// Nothing.
    Silent,
}

impl Behaviour {
    /// A router without translation and filter.
    pub(crate) const OPEN: Self = Self {
        translates: false,
        mapping: Mapping::EndpointIndependent,
        ports: Ports::Kept,
        remaps: false,
        filtering: Filtering::EndpointIndependent,
        unsolicited: Unsolicited::Refused,
    };

    /// A usual home router.
    pub(crate) const HOME: Self = Self {
        translates: true,
        filtering: Filtering::AddressAndPortDependent,
        unsolicited: Unsolicited::Silent,
        ..Self::OPEN
    };

    /// What a row of simulated boxes is, the outermost first: the most restrictive of them counts.
    /// `None` when they let no UDP through.
    pub(crate) fn of_layers(layers: &[Layer]) -> Option<Self> {
        layers.iter().try_fold(Self::OPEN, |so_far, layer| match layer {
            Layer::Nat(config) => Some(so_far.behind_nat(config)),
            Layer::Firewall(config) => Some(Self {
                filtering: so_far.filtering.max(config.filtering),
                unsolicited: Unsolicited::Silent,
                ..so_far
            }),
            Layer::UdpBlocked => None,
        })
    }

    fn behind_nat(self, config: &NatConfig) -> Self {
        Self {
            translates: true,
            mapping: self.mapping.max(config.mapping),
            // The outermost box that chooses ports chooses those that are seen.
            ports: if self.ports == Ports::Kept {
                Ports::by(config.allocation)
            } else {
                self.ports
            },
            remaps: self.remaps || config.inbound == InboundFirst::Remap,
            filtering: self.filtering.max(config.filtering),
            unsolicited: Unsolicited::Silent,
        }
    }
}

impl Ports {
    fn by(allocation: Allocation) -> Self {
        match allocation {
            Allocation::Preserving => Self::Kept,
            Allocation::PreservingFirst => Self::KeptFirst,
            Allocation::Sequential { .. } => Self::Sequential,
            Allocation::Block { size, reuse, .. } => Self::Block { size, reused: reuse },
            Allocation::Random => Self::Random,
        }
    }

    /// What ports that were given one after the other, and none of them kept, tell.
    pub(crate) fn of_series(ports: &[u16]) -> Self {
        let mut steps = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        if steps.all(|step| (1..=STEP_MAX).contains(&step)) {
            return Self::Sequential;
        }
        let lowest = ports.iter().min().copied().unwrap_or_default();
        let span = ports.iter().max().map_or(0, |highest| highest - lowest);
        let Some(size) = BLOCKS.into_iter().find(|size| span < *size) else { return Self::Random };
        let mut sorted = ports.to_vec();
        sorted.sort_unstable();
        let reused = sorted.windows(2).any(|pair| pair[0] == pair[1]);
        Self::Block { size, reused }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::KeptFirst => f.write_str("kept for the first destination"),
            Self::Sequential => f.write_str("sequential"),
            Self::Block { size, reused: false } => write!(f, "from a block of {size}"),
            Self::Block { size, reused: true } => write!(f, "from a block of {size}, reused"),
            Self::Random => f.write_str("random"),
        }
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
        let filtering = match self.filtering {
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address-and-port-dependent",
        };
        let unsolicited = match self.unsolicited {
            Unsolicited::Refused => "refused",
            Unsolicited::Silent => "dropped silently",
        };
        let remaps = if self.remaps { " and move flows to their senders" } else { "" };
        write!(
            f,
            "address {translation}, mapping {mapping}, ports {}, filtering {filtering}, \
             unsolicited packets {unsolicited}{remaps}",
            self.ports
        )
    }
}

#[cfg(test)]
mod tests {
    use holepunch_sim::presets::NatKind;

    use super::*;

    #[test]
    fn a_series_of_ports_tells_how_they_were_chosen() {
        let sequence: Vec<u16> = (0..40).map(|index| 65_530_u16.wrapping_add(index * 3)).collect();
        let block: Vec<u16> = (0..40).map(|index| 2000 + index * 27 % 64).collect();
        let wide: Vec<u16> = (0..40).map(|index| 2000 + index * 205 % 512).collect();
        let mut twice = block.clone();
        twice[7] = twice[30];
        let random: Vec<u16> =
            (0..40).map(|index: u16| 1024 + index.wrapping_mul(7919) % 64_512).collect();
        let is = |ports: &[u16]| Ports::of_series(ports);
        assert_eq!(is(&sequence), Ports::Sequential);
        assert_eq!(is(&block), Ports::Block { size: 64, reused: false });
        assert_eq!(is(&twice), Ports::Block { size: 64, reused: true });
        assert_eq!(is(&wide), Ports::Block { size: 512, reused: false });
        assert_eq!(is(&random), Ports::Random);
    }

    #[test]
    fn of_boxes_in_a_row_the_most_restrictive_counts() {
        let of = |kind: NatKind| Behaviour::of_layers(&kind.layers());
        assert_eq!(of(NatKind::Public), Some(Behaviour::OPEN));
        assert_eq!(of(NatKind::TwoNats), Some(Behaviour::HOME));
        assert_eq!(of(NatKind::UdpBlocked), None);
        let carrier = of(NatKind::Carrier).unwrap();
        assert_eq!(carrier.ports, Ports::Block { size: 512, reused: false });
        assert_eq!(carrier.filtering, Filtering::AddressAndPortDependent);
    }
}
