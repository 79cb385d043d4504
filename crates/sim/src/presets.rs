//! The catalogue of NATs: kinds with names, descriptions and configurations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use holepunch_wire::text::start;

use crate::nat::{
    Allocation, Filtering, FirewallConfig, InboundFirst, LIFETIME, Mapping, NatConfig,
};

mod site;

pub use site::{Inner, Site, SiteSpec, place, place_pair};

/// How long a mapping lives in the kinds with blocks: the idle time of one large cloud's NAT.
pub const BLOCK_LIFETIME: Duration = Duration::from_secs(30);
/// How long a mapping lives in the short-lived kinds.
pub const SHORT_LIFETIME: Duration = Duration::from_secs(20);
/// Ports that other hosts behind the same sequential NAT take in a second: one of a quiet office.
pub const NOISE_PER_SECOND: f64 = 0.5;

/// One box on the way between a host and the core.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// A NAT.
    Nat(NatConfig),
    /// A stateful firewall.
    Firewall(FirewallConfig),
    /// A NAT that drops all UDP.
    UdpBlocked,
}

/// How a NAT with endpoint-dependent mapping chooses ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HardPorts {
    /// At random.
    Random,
    /// From a block of 64, each port for one mapping.
    Block64,
    /// From a block of 512, each port for one mapping.
    Block512,
    /// From a block of 64, each port for one mapping per destination.
    Block64Reuse,
    /// One after the other; other hosts take some in between.
    Sequential,
    /// The internal one for the first destination, random ones for the others.
    PreservingFirst,
}

impl HardPorts {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Random,
        Self::Block64,
        Self::Block512,
        Self::Block64Reuse,
        Self::Sequential,
        Self::PreservingFirst,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Block64 => "block64",
            Self::Block512 => "block512",
            Self::Block64Reuse => "block64-reuse",
            Self::Sequential => "sequential",
            Self::PreservingFirst => "preserving-first",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Random => "a random port",
            Self::Block64 => "a port of its own from a block of 64 per host",
            Self::Block512 => "a port of its own from a block of 512 per host",
            Self::Block64Reuse => "a port, not of its own, from a block of 64 per host",
            Self::Sequential => "the port after the last one given",
            Self::PreservingFirst => "a random port, but the first one keeps the internal port",
        }
    }

    fn allocation(self) -> Allocation {
        let block = |size, reuse| Allocation::Block { size, aligned: false, reuse };
        match self {
            Self::Random => Allocation::Random,
            Self::Block64 => block(64, false),
            Self::Block512 => block(512, false),
            Self::Block64Reuse => block(64, true),
            Self::Sequential => {
                Allocation::Sequential { step: 1, noise_per_second: NOISE_PER_SECOND }
            }
            Self::PreservingFirst => Allocation::PreservingFirst,
        }
    }

    fn lifetime(self) -> Duration {
        match self {
            Self::Block64 | Self::Block512 | Self::Block64Reuse => BLOCK_LIFETIME,
            Self::Random | Self::Sequential | Self::PreservingFirst => LIFETIME,
        }
    }
}

/// A kind of NAT, or of what stands in a NAT's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// Nothing in between.
    Public,
    /// A stateful firewall without translation.
    Firewall,
    /// EIM and EIF.
    FullCone,
    /// EIM and ADF.
    EimAdf,
    /// EIM and APDF.
    EimApdf,
    /// EIM and APDF with random ports.
    EimApdfRandom,
    /// EIM and APDF with ports in sequence.
    EimApdfSequential,
    /// APDM.
    Hard(Filtering, HardPorts),
    /// ADM.
    Adm(Filtering, HardPorts),
    /// EIM and APDF, and unsolicited packets leave something behind.
    Remap,
    /// No UDP at all.
    UdpBlocked,
    /// EIM and APDF, forgetting fast.
    EimApdfShort,
    /// APDM and APDF with random ports, forgetting fast.
    HardApdfShort,
    /// EIM and APDF twice in a row.
    TwoNats,
    /// EIM and APDF behind a carrier's EIM and EIF.
    Carrier,
    /// As EIM and APDF, but two of a kind share a LAN.
    SameLan,
}

const FILTERINGS: [Filtering; 3] = [
    Filtering::EndpointIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
];

impl NatKind {
    /// All kinds, the simple ones first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let dependent = |kind: fn(Filtering, HardPorts) -> Self| {
            FILTERINGS
                .into_iter()
                .flat_map(move |filter| HardPorts::ALL.map(|ports| kind(filter, ports)))
        };
        let mut all = vec![
            Self::Public,
            Self::Firewall,
            Self::FullCone,
            Self::EimAdf,
            Self::EimApdf,
            Self::EimApdfRandom,
            Self::EimApdfSequential,
        ];
        all.extend(dependent(Self::Hard));
        all.extend(dependent(Self::Adm));
        all.extend([
            Self::Remap,
            Self::UdpBlocked,
            Self::EimApdfShort,
            Self::HardApdfShort,
            Self::TwoNats,
            Self::Carrier,
            Self::SameLan,
        ]);
        all
    }

    /// What it does, in one sentence.
    #[must_use]
    pub fn describe(self) -> String {
        let fixed = match self {
            Self::Public => "No NAT and no firewall: a public address.",
            Self::Firewall => "A public address behind a firewall that lets only answers in.",
            Self::FullCone => "One port for all destinations, and everybody gets in.",
            Self::EimAdf => "One port for all destinations, and addresses sent to get in.",
            Self::EimApdf => {
                "One port for all destinations, the internal one, and only answers get in."
            }
            Self::EimApdfRandom => "One random port for all destinations, and only answers get in.",
            Self::EimApdfSequential => {
                "One port for all destinations, the one after the last given, and only answers get in."
            }
            Self::Hard(filtering, ports) => {
                return dependent_in_words("each destination endpoint", filtering, ports);
            }
            Self::Adm(filtering, ports) => {
                return dependent_in_words("each destination address", filtering, ports);
            }
            Self::Remap => {
                "One port for all destinations, but a packet that comes before it is asked for \
                 moves the flow to its sender to another port; only answers get in."
            }
            Self::UdpBlocked => "A NAT that drops all UDP.",
            Self::EimApdfShort => {
                "One port for all destinations, forgotten after 20 s, and only answers get in."
            }
            Self::HardApdfShort => {
                "A random port for each destination endpoint, forgotten after 20 s, and only \
                 answers get in."
            }
            Self::TwoNats => "Two home routers in a row, each with one port for all destinations.",
            Self::Carrier => {
                "A home router behind a carrier's NAT; two of this kind share the carrier's."
            }
            Self::SameLan => "A home router; two of this kind share the LAN behind it.",
        };
        fixed.to_owned()
    }

    /// The boxes between the core and the host, the outermost first.
    #[must_use]
    pub fn layers(self) -> Vec<Layer> {
        let answers_only = || home(Filtering::AddressAndPortDependent);
        let only = |config| vec![Layer::Nat(config)];
        match self {
            Self::Public => Vec::new(),
            Self::Firewall => vec![Layer::Firewall(FirewallConfig::default())],
            Self::FullCone => only(home(Filtering::EndpointIndependent)),
            Self::EimAdf => only(home(Filtering::AddressDependent)),
            Self::EimApdf | Self::SameLan => only(answers_only()),
            Self::EimApdfRandom => only(answers_only().with_allocation(Allocation::Random)),
            Self::EimApdfSequential => {
                only(answers_only().with_allocation(HardPorts::Sequential.allocation()))
            }
            Self::Hard(filtering, ports) => {
                only(dependent(Mapping::AddressAndPortDependent, filtering, ports))
            }
            Self::Adm(filtering, ports) => {
                only(dependent(Mapping::AddressDependent, filtering, ports))
            }
            Self::Remap => only(NatConfig { inbound: InboundFirst::Remap, ..answers_only() }),
            Self::UdpBlocked => vec![Layer::UdpBlocked],
            Self::EimApdfShort => only(answers_only().with_lifetime(SHORT_LIFETIME)),
            Self::HardApdfShort => only(
                NatConfig::new(
                    Mapping::AddressAndPortDependent,
                    Filtering::AddressAndPortDependent,
                )
                .with_lifetime(SHORT_LIFETIME),
            ),
            Self::TwoNats => vec![Layer::Nat(answers_only()), Layer::Nat(answers_only())],
            Self::Carrier => vec![Layer::Nat(carrier()), Layer::Nat(answers_only())],
        }
    }
}

fn home(filtering: Filtering) -> NatConfig {
    NatConfig::new(Mapping::EndpointIndependent, filtering)
}

fn dependent(mapping: Mapping, filtering: Filtering, ports: HardPorts) -> NatConfig {
    NatConfig::new(mapping, filtering)
        .with_allocation(ports.allocation())
        .with_lifetime(ports.lifetime())
}

/// What RFC 6888 asks of a carrier's NAT: endpoint-independent mapping, hairpinning, and a block of
/// ports per subscriber.
fn carrier() -> NatConfig {
    NatConfig::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent)
        .with_allocation(Allocation::Block { size: 512, aligned: true, reuse: false })
        .with_hairpin(true)
}

fn dependent_in_words(scope: &str, filtering: Filtering, ports: HardPorts) -> String {
    let filter = match filtering {
        Filtering::EndpointIndependent => "everybody gets in",
        Filtering::AddressDependent => "addresses sent to get in",
        Filtering::AddressAndPortDependent => "only answers get in",
    };
    format!("For {scope} {}, and {filter}.", ports.describe())
}

fn filter_name(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::EndpointIndependent => "eif",
        Filtering::AddressDependent => "adf",
        Filtering::AddressAndPortDependent => "apdf",
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Public => "public",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::EimAdf => "eim-adf",
            Self::EimApdf => "eim-apdf",
            Self::EimApdfRandom => "eim-apdf-random",
            Self::EimApdfSequential => "eim-apdf-sequential",
            Self::Hard(filtering, ports) => {
                return f.pad(&format!("hard-{}-{}", filter_name(*filtering), ports.name()));
            }
            Self::Adm(filtering, ports) => {
                return f.pad(&format!("adm-{}-{}", filter_name(*filtering), ports.name()));
            }
            Self::Remap => "remap",
            Self::UdpBlocked => "udp-blocked",
            Self::EimApdfShort => "eim-apdf-short",
            Self::HardApdfShort => "hard-apdf-short",
            Self::TwoNats => "two-nats",
            Self::Carrier => "carrier",
            Self::SameLan => "same-lan",
        };
        f.pad(name)
    }
}

/// No kind has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a kind of NAT such as \"eim-apdf\" or \"hard-apdf-block64\", got {0:?}")]
pub struct UnknownNatKind(String);

impl FromStr for NatKind {
    type Err = UnknownNatKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::all().into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| UnknownNatKind(start(text, 64).to_owned()))
    }
}
