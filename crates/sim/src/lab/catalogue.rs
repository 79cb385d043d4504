//! The pairs of the laboratory, and what has to hold for each.

use std::time::Duration;

use holepunch_wire::nat::{self, NatProfile, SearchWish};

use super::requirement::Requirement;
use super::scenario::{Incident, Scenario};
use crate::nat::Filtering;
use crate::presets::{HardPorts, NatKind};

/// A row of the laboratory's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Plain pairs without loss.
    Plain,
    /// Plain pairs on links that lose, delay or reorder packets.
    PlainLossy,
    /// Random ports on one side.
    Birthday,
    /// Blocks of ports.
    Block,
    /// Ports that can be predicted.
    Predicted,
    /// Routers that unsolicited packets disturb.
    Remap,
    /// A first worker that waits for long behind a NAT that forgets soon.
    Late,
    /// A link whose network changes.
    Repair,
    /// Pairs for which there is no direct path.
    Relay,
    /// Workers that tell wrong profiles.
    Wrong,
}

impl Group {
    /// All of them, in the table's order.
    pub const ALL: [Self; 10] = [
        Self::Plain,
        Self::PlainLossy,
        Self::Birthday,
        Self::Block,
        Self::Predicted,
        Self::Remap,
        Self::Late,
        Self::Repair,
        Self::Relay,
        Self::Wrong,
    ];

    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::PlainLossy => "plain-lossy",
            Self::Birthday => "birthday",
            Self::Block => "block",
            Self::Predicted => "predicted",
            Self::Remap => "remap",
            Self::Late => "late",
            Self::Repair => "repair",
            Self::Relay => "relay",
            Self::Wrong => "wrong",
        }
    }

    /// What it is about, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "Pairs that plain checks link",
            Self::PlainLossy => "The same on links that lose, delay or reorder packets",
            Self::Birthday => "Random ports on one side: many sockets, many ports",
            Self::Block => "Ports from a block, which is swept",
            Self::Predicted => "Ports that can be predicted",
            Self::Remap => "Routers that unsolicited packets disturb",
            Self::Late => "A first worker that waits long behind a NAT that forgets soon",
            Self::Repair => "A link whose network changes",
            Self::Relay => "No direct path is to be expected: relay at once, with a reason",
            Self::Wrong => "Workers that tell wrong profiles",
        }
    }
}

/// One pair, and what has to hold for it.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Which row it belongs to.
    pub group: Group,
    /// Its name.
    pub name: String,
    /// What is played.
    pub scenario: Scenario,
    /// What has to hold.
    pub requirement: Requirement,
    /// How many seeds make a share of this size worth stating.
    pub seeds: u64,
}

const EIF: Filtering = Filtering::EndpointIndependent;
const ADF: Filtering = Filtering::AddressDependent;
const APDF: Filtering = Filtering::AddressAndPortDependent;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Seeds of a pair, and of one whose share is to be 99.9 %.
const SEEDS: u64 = 1000;
const SEEDS_999: u64 = 3700;
/// The peers' round trip: 80 ms each way.
const RTT: Duration = ms(160);
/// A plain link: the offer's way, one and a half round trips of the peers, and 50 ms.
const PLAIN_P50: Duration = ms(40 + 240 + 50);

/// Every pair of kinds that plain checks link.
#[must_use]
pub fn plain_pairs() -> Vec<(NatKind, NatKind)> {
    let hard = |filtering| NatKind::Hard(filtering, HardPorts::Random);
    let open = [NatKind::Public, NatKind::FullCone, NatKind::EimAdf];
    let strict = [
        NatKind::EimApdf,
        NatKind::EimApdfRandom,
        NatKind::EimApdfSequential,
        NatKind::Firewall,
        NatKind::TwoNats,
    ];
    let hards = [hard(EIF), hard(ADF), hard(APDF), NatKind::Adm(APDF, HardPorts::Random)];
    let easy: Vec<NatKind> = open.into_iter().chain(strict).collect();
    let mut pairs = Vec::new();
    for (index, a) in easy.iter().enumerate() {
        pairs.extend(easy[index..].iter().map(|b| (*a, *b)));
    }
    pairs.extend(open.iter().flat_map(|a| hards.iter().map(|b| (*a, *b))));
    pairs.extend(hards.iter().flat_map(|a| [(*a, NatKind::EimAdf), (*a, NatKind::FullCone)]));
    pairs.extend([
        (hard(EIF), hard(EIF)),
        (hard(EIF), hard(ADF)),
        (NatKind::SameLan, NatKind::SameLan),
        (NatKind::Carrier, NatKind::Carrier),
        (NatKind::Carrier, NatKind::EimApdf),
    ]);
    pairs
}

fn pair(group: Group, first: NatKind, second: NatKind, requirement: Requirement) -> Pair {
    let scenario = Scenario::new(first, second);
    let name = format!("{first} × {second}");
    Pair { group, name, scenario, requirement, seeds: SEEDS }
}

fn direct(share: f64, p50: u64) -> Requirement {
    Requirement { direct: Some(share), p50: Some(ms(p50)), ..Requirement::default() }
}

/// All pairs.
#[must_use]
pub fn catalogue() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (first, second) in plain_pairs() {
        let plain = Requirement {
            direct: Some(0.999),
            p50: Some(PLAIN_P50),
            p95: Some(PLAIN_P50 + RTT),
            ..Requirement::default()
        };
        pairs.push(Pair { seeds: SEEDS_999, ..pair(Group::Plain, first, second, plain) });
        let lossy = Requirement { direct: Some(0.99), ..Requirement::default() };
        let mut lossy = pair(Group::PlainLossy, first, second, lossy);
        lossy.scenario.loss = 0.1;
        lossy.name += ", 10 % loss";
        pairs.push(lossy);
    }
    pairs.extend(rough_links());
    pairs.extend(searches());
    pairs.extend(predictions());
    pairs.extend(disturbances());
    pairs.extend(hopeless());
    pairs
}

/// Plain pairs over links that are worse than lossy, and with IPv6 beside a hard NAT.
fn rough_links() -> Vec<Pair> {
    let direct = |share| Requirement { direct: Some(share), ..Requirement::default() };
    let easy = NatKind::EimApdf;
    let random = NatKind::Hard(APDF, HardPorts::Random);
    // A burst that swallows four requests to each STUN server looks like blocked UDP, for some seconds.
    let mut bursts = pair(Group::PlainLossy, easy, easy, direct(0.97));
    (bursts.scenario.loss, bursts.scenario.bursts) = (0.1, true);
    bursts.name += ", 10 % loss in bursts";
    let mut jitter = pair(Group::PlainLossy, easy, NatKind::EimApdfRandom, direct(0.999));
    (jitter.scenario.jitter, jitter.seeds) = (ms(30), SEEDS_999);
    jitter.name += ", jitter 30 ms, reordering";
    let mut swept = pair(Group::PlainLossy, easy, random, direct(0.98));
    swept.scenario.loss = 0.05;
    swept.name += ", 5 % loss";
    let mut six = pair(Group::Plain, random, random, direct(0.999));
    (six.scenario.ipv6, six.seeds) = (true, SEEDS_999);
    six.name += ", with IPv6";
    vec![bursts, jitter, swept, six]
}

fn searches() -> Vec<Pair> {
    let hard = |ports| NatKind::Hard(APDF, ports);
    let birthday = Requirement {
        p95: Some(ms(9000)),
        sockets: Some(256),
        probes: Some(2048 + 64),
        ..direct(0.98, 3000)
    };
    let random = hard(HardPorts::Random);
    let hard_adf = NatKind::Hard(ADF, HardPorts::Random);
    let mut pairs: Vec<Pair> = [
        (random, NatKind::EimApdf),
        (NatKind::EimApdf, random),
        (random, NatKind::Firewall),
        (NatKind::Hard(EIF, HardPorts::Random), NatKind::EimApdf),
        (hard_adf, hard_adf),
    ]
    .into_iter()
    .map(|(first, second)| pair(Group::Birthday, first, second, birthday))
    .collect();
    let sweep = |share, p50, p99| Requirement { p99: Some(ms(p99)), ..direct(share, p50) };
    let block = |first, second, requirement| pair(Group::Block, first, second, requirement);
    let easy = NatKind::EimApdf;
    let small = sweep(0.999, 1000, 2000);
    pairs.push(Pair { seeds: SEEDS_999, ..block(hard(HardPorts::Block64), easy, small) });
    pairs.push(Pair { seeds: SEEDS_999, ..block(easy, hard(HardPorts::Block64), small) });
    pairs.push(block(hard(HardPorts::Block512), easy, sweep(0.99, 1500, 3000)));
    pairs.push(block(easy, hard(HardPorts::Block512), sweep(0.99, 1500, 3000)));
    let reuse = hard(HardPorts::Block64Reuse);
    let both = Requirement { sockets: Some(3), probes: Some(400), ..sweep(0.99, 2000, 4000) };
    pairs.push(block(reuse, reuse, both));
    let single = hard(HardPorts::Block64);
    let relay = Requirement { relay_at_last: true, ..Requirement::default() };
    pairs.push(block(single, single, relay));
    let on_request = Requirement { direct: Some(0.85), ..Requirement::default() };
    let mut asked = block(single, single, on_request);
    asked.scenario.wish = SearchWish::Exhaustive;
    asked.name += ", on request";
    pairs.push(asked);
    pairs
}

fn predictions() -> Vec<Pair> {
    let hard = |ports| NatKind::Hard(APDF, ports);
    let (easy, firewall) = (NatKind::EimApdf, NatKind::Firewall);
    let (sequential, preserving) = (hard(HardPorts::Sequential), hard(HardPorts::PreservingFirst));
    [
        (sequential, easy, 0.99),
        (easy, sequential, 0.99),
        (sequential, firewall, 0.99),
        (sequential, sequential, 0.97),
        (preserving, easy, 0.99),
        (easy, preserving, 0.99),
        (preserving, preserving, 0.99),
    ]
    .into_iter()
    .map(|(first, second, share)| pair(Group::Predicted, first, second, direct(share, 1000)))
    .collect()
}

fn disturbances() -> Vec<Pair> {
    let (easy, remap) = (NatKind::EimApdf, NatKind::Remap);
    let mut pairs: Vec<Pair> =
        [(remap, easy), (easy, remap), (remap, remap), (remap, NatKind::Firewall)]
            .into_iter()
            .map(|(first, second)| pair(Group::Remap, first, second, direct(0.99, 1000)))
            .collect();
    let uneven = pairs.iter().map(|pair| {
        let mut pair = pair.clone();
        pair.scenario.lag = [ms(0), ms(150)];
        pair.name += ", late offers";
        pair
    });
    let uneven: Vec<Pair> = uneven.collect();
    pairs.extend(uneven);
    pairs.extend(searches_toward_remap());
    let plain = Requirement { p95: Some(PLAIN_P50 + RTT), ..direct(0.999, 330) };
    for (first, second) in
        [(NatKind::EimApdfShort, NatKind::EimApdfShort), (NatKind::HardApdfShort, NatKind::EimAdf)]
    {
        let mut late = pair(Group::Late, first, second, plain);
        late.scenario.later = Duration::from_secs(300);
        late.name += ", 5 minutes late";
        pairs.push(late);
    }
    let repair = Requirement {
        direct: Some(0.999),
        repaired: Some((0.99, ms(3000))),
        ..Requirement::default()
    };
    for incident in [Incident::Rebind, Incident::Move] {
        for (first, second) in [
            (easy, easy),
            (NatKind::EimApdfRandom, easy),
            (NatKind::EimApdfRandom, NatKind::EimApdfRandom),
            (NatKind::EimAdf, NatKind::Hard(APDF, HardPorts::Random)),
            (NatKind::FullCone, NatKind::EimApdf),
        ] {
            let mut disturbed = pair(Group::Repair, first, second, repair);
            disturbed.scenario.incident = incident;
            disturbed.name += match incident {
                Incident::Rebind => ", rebinding",
                Incident::Move | Incident::None => ", another network",
            };
            pairs.push(disturbed);
        }
    }
    pairs
}

/// Searches where one packet that comes too early moves the seeker for good, and no later one makes up for
/// one that is lost.
fn searches_toward_remap() -> Vec<Pair> {
    let remap = NatKind::Remap;
    let sequential = NatKind::Adm(APDF, HardPorts::Sequential);
    let block = NatKind::Adm(APDF, HardPorts::Block64);
    let hard_block = NatKind::Hard(APDF, HardPorts::Block64);
    let search = |first, second| pair(Group::Remap, first, second, direct(0.99, 1000));
    let mut pairs: Vec<Pair> =
        [(sequential, remap), (remap, sequential), (block, remap), (hard_block, remap)]
            .into_iter()
            .map(|(first, second)| search(first, second))
            .collect();
    for (first, second, lag) in
        [(sequential, remap, [ms(0), ms(150)]), (remap, sequential, [ms(150), ms(0)])]
    {
        // The side that seeks begins before the other has opened its sockets.
        let mut early = pair(Group::Remap, first, second, direct(0.99, 3000));
        early.scenario.lag = lag;
        early.name += ", early search";
        pairs.push(early);
    }
    let mut lossy = search(remap, sequential);
    lossy.scenario.loss = 0.1;
    lossy.name += ", 10 % loss";
    pairs.push(lossy);
    pairs
}

fn hopeless() -> Vec<Pair> {
    let random = NatKind::Hard(APDF, HardPorts::Random);
    let relay = Requirement { relay: Some((RTT, 5)), ..Requirement::default() };
    let mut pairs: Vec<Pair> = [
        (random, random),
        (NatKind::UdpBlocked, NatKind::EimApdf),
        (NatKind::EimApdf, NatKind::UdpBlocked),
        (NatKind::UdpBlocked, NatKind::UdpBlocked),
    ]
    .into_iter()
    .map(|(first, second)| pair(Group::Relay, first, second, relay))
    .collect();
    // One direction works, so that checks from ports that nobody told of come and are followed.
    let one_way = Requirement { relay: Some((RTT, 8)), ..Requirement::default() };
    let open = NatKind::Hard(EIF, HardPorts::Random);
    pairs.push(pair(Group::Relay, open, random, one_way));
    for (first, second) in [(NatKind::EimApdf, NatKind::EimApdf), (NatKind::FullCone, random)] {
        let mut wrong = pair(Group::Wrong, first, second, direct(0.99, 330));
        wrong.scenario.lie = Some(wrong_profile);
        wrong.name += ", wrong profiles";
        pairs.push(wrong);
    }
    pairs
}

/// Makes of any profile that of a NAT with a block of ports that nobody has.
pub fn wrong_profile(profile: &mut NatProfile) {
    profile.mapping = nat::Mapping::AddressAndPortDependent;
    profile.filtering = nat::Filtering::AddressAndPortDependent;
    profile.allocation = nat::Allocation::Block { lowest: 5000, highest: 5030, size: 64 };
}
