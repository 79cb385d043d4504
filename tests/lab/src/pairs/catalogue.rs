//! The pairs that have to be tried.

use std::time::Duration;

use holepunch_sim::nat::Filtering;
use holepunch_sim::presets::{HardPorts, NatKind as Simulated};

use super::{Expected, Pair};
use crate::conditions::Conditions;
use crate::nat::NatKind;

/// One way on each line.
pub const DELAY: Duration = Duration::from_millis(20);
/// The share of packets lost in each direction of each line, where there is loss.
pub const LOSS: f64 = 0.1;
/// How much later signalling comes to one side, so that its peer's packets are there before it sends.
const LATER: Duration = Duration::from_millis(100);

const PUBLIC: NatKind = NatKind::Simulated(Simulated::Public);
const FIREWALL: NatKind = NatKind::Simulated(Simulated::Firewall);
const FULL_CONE: NatKind = NatKind::Simulated(Simulated::FullCone);
const EIM_ADF: NatKind = NatKind::Simulated(Simulated::EimAdf);
const EIM_APDF: NatKind = NatKind::Simulated(Simulated::EimApdf);
const REMAP: NatKind = NatKind::Simulated(Simulated::Remap);
const UDP_BLOCKED: NatKind = NatKind::Simulated(Simulated::UdpBlocked);

/// Mapping and filtering depend on address and port.
const fn hard(ports: HardPorts) -> NatKind {
    NatKind::Simulated(Simulated::Hard(Filtering::AddressAndPortDependent, ports))
}

/// Random ports for each destination, and this filtering.
const fn random(filtering: Filtering) -> NatKind {
    NatKind::Simulated(Simulated::Hard(filtering, HardPorts::Random))
}

/// Mapping depends on the address, filtering on address and port.
const fn by_address(ports: HardPorts) -> NatKind {
    NatKind::Simulated(Simulated::Adm(Filtering::AddressAndPortDependent, ports))
}

const LINE: Conditions = Conditions::with_delay(DELAY);
const HARD_EIF: NatKind = random(Filtering::EndpointIndependent);
const HARD_ADF: NatKind = random(Filtering::AddressDependent);

/// Those that link without a search.
const PLAIN: [[NatKind; 2]; 11] = [
    [NatKind::PortPreserving, NatKind::PortPreserving],
    [PUBLIC, EIM_APDF],
    [EIM_APDF, EIM_APDF],
    [FULL_CONE, EIM_ADF],
    [FIREWALL, EIM_APDF],
    [HARD_EIF, HARD_EIF],
    [EIM_ADF, hard(HardPorts::Random)],
    [NatKind::Symmetric, EIM_ADF],
    [NatKind::KernelRemap, EIM_APDF],
    [REMAP, EIM_APDF],
    [PUBLIC, hard(HardPorts::Random)],
];

/// Those whose signalling comes later to the first.
const LATE: [[NatKind; 2]; 3] =
    [[EIM_APDF, EIM_APDF], [NatKind::KernelRemap, EIM_APDF], [REMAP, EIM_APDF]];

const SEARCH: [[NatKind; 2]; 12] = [
    [hard(HardPorts::PreservingFirst), EIM_APDF],
    [hard(HardPorts::Sequential), EIM_APDF],
    [hard(HardPorts::Block64), EIM_APDF],
    [hard(HardPorts::Block64Reuse), hard(HardPorts::Block64Reuse)],
    [hard(HardPorts::Random), EIM_APDF],
    [EIM_APDF, hard(HardPorts::Random)],
    [NatKind::Symmetric, NatKind::PortPreserving],
    [HARD_ADF, HARD_ADF],
    [by_address(HardPorts::Sequential), NatKind::KernelRemap],
    [NatKind::KernelRemap, by_address(HardPorts::Sequential)],
    [by_address(HardPorts::Block64), NatKind::KernelRemap],
    [NatKind::KernelRemap, by_address(HardPorts::Block512)],
];

const RELAY: [[NatKind; 2]; 3] = [
    [hard(HardPorts::Random), hard(HardPorts::Random)],
    [NatKind::Symmetric, hard(HardPorts::Random)],
    [UDP_BLOCKED, EIM_APDF],
];

/// The kernel's NATs, each with each.
const KERNEL: [(Expected, [NatKind; 2]); 10] = {
    use NatKind::{KernelRemap, None, PortPreserving, Symmetric};
    [
        (Expected::Plain, [None, None]),
        (Expected::Plain, [None, PortPreserving]),
        (Expected::Plain, [KernelRemap, None]),
        (Expected::Plain, [None, Symmetric]),
        (Expected::Plain, [PortPreserving, PortPreserving]),
        (Expected::Plain, [PortPreserving, KernelRemap]),
        (Expected::Plain, [KernelRemap, KernelRemap]),
        (Expected::Search, [Symmetric, PortPreserving]),
        (Expected::Search, [Symmetric, KernelRemap]),
        (Expected::Relay, [Symmetric, Symmetric]),
    ]
};

/// Pairs for programs over a link: the kernel's NATs, each with each, and those of the
/// [`catalogue`] with a simulated NAT, each once, on lines without loss.
#[must_use]
pub fn for_programs() -> Vec<Pair> {
    let conditions = [LINE; 2];
    let is_simulated = |kind: NatKind| matches!(kind, NatKind::Simulated(_));
    let kernel = KERNEL.map(|(expected, kinds)| Pair { kinds, conditions, expected });
    let simulated = catalogue()
        .into_iter()
        .filter(|pair| pair.conditions == conditions && pair.kinds.into_iter().any(is_simulated));
    kernel.into_iter().chain(simulated).collect()
}

/// All pairs: those that link plainly also with loss, and also where one side hears of the other
/// late.
#[must_use]
pub fn catalogue() -> Vec<Pair> {
    let of = |expected, line: [Conditions; 2]| {
        move |kinds: &[NatKind; 2]| Pair { kinds: *kinds, conditions: line, expected }
    };
    let mut all: Vec<Pair> = PLAIN.iter().map(of(Expected::Plain, [LINE; 2])).collect();
    all.extend(PLAIN.iter().map(of(Expected::Plain, [LINE.with_loss(LOSS); 2])));
    let late = [LINE.with_signalling(LATER), LINE];
    all.extend(LATE.iter().map(of(Expected::Plain, late)));
    all.extend(SEARCH.iter().map(of(Expected::Search, [LINE; 2])));
    all.extend(RELAY.iter().map(of(Expected::Relay, [LINE; 2])));
    all
}
