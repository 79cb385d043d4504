//! The NAT profile: what a worker has learnt of the NATs in front of its UDP socket.

use serde::{Deserialize, Serialize};

/// Most external ports that a profile names.
pub const PROFILE_PORTS_MAX: usize = 32;

/// Whether UDP gets out at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UdpState {
    /// A STUN server answered.
    Open,
    /// No STUN server answers, though the network is up.
    Blocked,
    /// Not known (yet), or a word of a later version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The mapping behaviour (RFC 4787 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// No translation. A firewall may stand there all the same; a mapping does not show it.
    None,
    /// One external endpoint for all destinations.
    EndpointIndependent,
    /// Another external endpoint for each destination address.
    AddressDependent,
    /// Another external endpoint for each destination address and port.
    AddressAndPortDependent,
    /// Another external endpoint for each destination; on what of it that depends was not seen.
    EndpointDependent,
    /// Not known (yet): there is a NAT, but too few servers answered to tell.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Mapping {
    /// Whether a peer can be told an external endpoint that also holds for it.
    #[must_use]
    pub fn is_endpoint_independent(self) -> bool {
        matches!(self, Self::None | Self::EndpointIndependent)
    }

    /// Whether the external endpoint is another one for each peer: a hard NAT.
    #[must_use]
    pub fn is_endpoint_dependent(self) -> bool {
        matches!(
            self,
            Self::AddressDependent | Self::AddressAndPortDependent | Self::EndpointDependent
        )
    }
}

/// The filtering behaviour (RFC 4787 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtering {
    /// Whoever knows the external endpoint gets in.
    EndpointIndependent,
    /// Whoever shares an address with somebody who was sent to gets in.
    AddressDependent,
    /// Only somebody who was sent to gets in.
    AddressAndPortDependent,
    /// Not known (yet): no server offers the test of RFC 5780, or its answers were lost.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How external ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Allocation {
    /// The internal port is kept, by endpoint-dependent NATs for the first destination.
    Preserving,
    /// Each new mapping gets the port of the last one and a step.
    Sequential {
        /// The step; negative where ports count down.
        step: i16,
    },
    /// All ports come from one contiguous block.
    Block {
        /// The lowest port seen.
        lowest: u16,
        /// The highest port seen.
        highest: u16,
        /// The likely number of ports in the block.
        size: u16,
    },
    /// Ports come from the whole range.
    Random,
    /// Not known (yet).
    #[default]
    #[serde(other)]
    Unknown,
}

/// The smallest block that is assumed: carriers and clouds give out 64 ports and more.
const BLOCK_SIZE_MIN: u16 = 64;

impl Allocation {
    /// A block of which so many ports were seen, from `lowest` to `highest`. It may begin and end anywhere:
    /// ports of it at random leave `1 / (samples + 1)` of it unseen at each end, on average.
    #[must_use]
    pub fn block(lowest: u16, highest: u16, samples: usize) -> Self {
        let gaps = u32::try_from(samples).unwrap_or(u32::MAX - 1).saturating_sub(1).max(1);
        let span = u32::from(highest.saturating_sub(lowest)) + 1;
        let size = span + (2 * span).div_ceil(gaps);
        let size = u16::try_from(size).unwrap_or(u16::MAX).max(BLOCK_SIZE_MIN);
        Self::Block { lowest, highest, size }
    }
}

/// What a worker wants of searches for ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchWish {
    /// None.
    Never,
    /// Also those that use up a block of ports for half a minute.
    Exhaustive,
    /// Those that harm nobody.
    #[default]
    #[serde(other)]
    Usual,
}

/// What a worker has learnt of the NATs in front of its UDP socket. Every field may be unknown, and
/// every one may be wrong: an observed packet counts more than any class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NatProfile {
    /// Whether UDP gets out: by IPv4, or by IPv6. What else is told, but [`ipv6`](Self::ipv6), is of IPv4.
    pub udp: UdpState,
    /// The mapping behaviour.
    pub mapping: Mapping,
    /// The filtering behaviour.
    pub filtering: Filtering,
    /// How external ports are chosen.
    pub allocation: Allocation,
    /// How sure the allocation is, in percent.
    pub confidence: u8,
    /// External ports of different mappings, the newest last; at most [`PROFILE_PORTS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Whether two hosts behind the NAT reach each other at its outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// Whether an unsolicited packet from outside moves a later packet to its source to another port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaps_after_inbound: Option<bool>,
    /// The smallest TTL with which a packet passes all NATs on the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opener_ttl: Option<u8>,
    /// Whether one external port serves several destinations, with endpoint-dependent mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuses_ports: Option<bool>,
    /// How long an idle mapping lives, at least, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u32>,
    /// Whether IPv6 gets out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// What the worker wants of searches.
    pub search: SearchWish,
}

/// Nobody's own NATs are further away.
pub const OPENER_TTL_MAX: u8 = 16;

/// A larger block is none: its ports are as good as random.
const BLOCK_MAX: u16 = 16_384;

crate::reasons! {
    /// What a peer has to reckon with, in one word.
    NatClass {
        Blocked = "blocked", "UDP does not get out";
        Open = "open", "no translation";
        Easy = "easy", "one external endpoint for all destinations";
        Hard = "hard", "another external endpoint for each destination";
        HardRandom = "hard_random", "another external endpoint for each destination, at a random port";
    }
}

impl NatProfile {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> NatClass {
        match (self.udp, self.mapping) {
            (UdpState::Blocked, _) => NatClass::Blocked,
            (_, Mapping::None) => NatClass::Open,
            (_, Mapping::EndpointIndependent) => NatClass::Easy,
            (_, Mapping::Unknown) => NatClass::Unknown,
            _ if self.allocation == Allocation::Random => NatClass::HardRandom,
            _ => NatClass::Hard,
        }
    }

    /// The profile with everything that a hostile worker may have overdone cut back.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let surplus = self.ports.len().saturating_sub(PROFILE_PORTS_MAX);
        self.ports.drain(..surplus);
        self.ports.retain(|port| *port != 0);
        self.confidence = self.confidence.min(100);
        self.opener_ttl = self.opener_ttl.filter(|ttl| (1..=OPENER_TTL_MAX).contains(ttl));
        if let Allocation::Block { lowest, highest, size } = self.allocation {
            let (lowest, highest) = (lowest.min(highest).max(1), lowest.max(highest).max(1));
            self.allocation = if size.max(highest - lowest) > BLOCK_MAX {
                Allocation::Random
            } else {
                Allocation::Block { lowest, highest, size: size.max(1) }
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_survives_the_wire() {
        let profile = NatProfile {
            udp: UdpState::Open,
            mapping: Mapping::AddressAndPortDependent,
            filtering: Filtering::AddressAndPortDependent,
            allocation: Allocation::Sequential { step: -2 },
            confidence: 90,
            ports: vec![5000, 4998],
            hairpin: Some(false),
            ..NatProfile::default()
        };
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<NatProfile>(&text).unwrap(), profile);
        assert!(text.contains(r#""allocation":{"kind":"sequential","step":-2}"#), "{text}");
    }

    #[test]
    fn a_block_reaches_beyond_what_was_seen_the_less_the_more_was_seen() {
        let size = |lowest, highest, samples| {
            let block = Allocation::block(lowest, highest, samples);
            let Allocation::Block { size, .. } = block else { panic!("{block:?}") };
            size
        };
        assert_eq!(size(35_935, 35_996, 12), 74);
        assert_eq!(size(35_935, 35_996, 32), 66, "and not the next power of two");
        assert_eq!(size(35_935, 35_996, 4), 104);
        assert_eq!(size(2050, 2060, 4), 64, "no block is smaller");
        assert_eq!(size(2050, 2050, 0), 64);
        assert_eq!(size(1, u16::MAX, 2), u16::MAX);
    }

    #[test]
    fn words_of_a_later_version_and_missing_fields_are_unknown() {
        let text = r#"{"mapping":"quantum","allocation":{"kind":"fractal","x":1},"more":[1]}"#;
        assert_eq!(serde_json::from_str::<NatProfile>(text).unwrap(), NatProfile::default());
    }

    #[test]
    fn an_overdone_profile_is_cut_back() {
        let profile =
            NatProfile { ports: (0..1000).collect(), confidence: 200, ..NatProfile::default() };
        let allocation = Allocation::Block { lowest: 9, highest: 0, size: 0 };
        let bounded = NatProfile { allocation, ..profile }.bounded();
        let sane = Allocation::Block { lowest: 1, highest: 9, size: 1 };
        assert_eq!(bounded.allocation, sane);
        assert_eq!((bounded.ports.len(), bounded.ports[0], bounded.confidence), (32, 968, 100));
    }
}
