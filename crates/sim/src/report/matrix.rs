//! Every kind with every kind, beside what the oracle says of the pair.

use crate::lab::{Scenario, Summary, Violation, percent};
use crate::nat::Filtering;
use crate::oracle::{Oracle, Verdict};
use crate::presets::{HardPorts, NatKind};

/// Least share of direct paths where plain checks suffice.
const PLAIN_LEAST: f64 = 0.999;
/// Least share of direct paths where ports of one side alone have to be found.
const SEARCH_LEAST: f64 = 0.98;

/// The kinds that are shown when none are chosen: what stands in front of most hosts, and what is
/// hard.
#[must_use]
pub fn usual_kinds() -> Vec<NatKind> {
    let hard = |ports| NatKind::Hard(Filtering::AddressAndPortDependent, ports);
    vec![
        NatKind::Public,
        NatKind::Firewall,
        NatKind::FullCone,
        NatKind::EimAdf,
        NatKind::EimApdf,
        NatKind::Remap,
        NatKind::TwoNats,
        NatKind::Carrier,
        NatKind::Hard(Filtering::EndpointIndependent, HardPorts::Random),
        NatKind::Hard(Filtering::AddressDependent, HardPorts::Random),
        hard(HardPorts::Sequential),
        hard(HardPorts::PreservingFirst),
        hard(HardPorts::Block64Reuse),
        hard(HardPorts::Block64),
        hard(HardPorts::Block512),
        hard(HardPorts::Random),
        NatKind::UdpBlocked,
    ]
}

/// What the oracle says of a pair, as far as it decides what is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expectation {
    /// Plain checks link them.
    Plain,
    /// Plain checks do, if a first packet dies on its way.
    Opener,
    /// Ports of one side have to be found.
    SearchOne,
    /// Ports of both sides have to be found.
    SearchBoth,
    /// Random ports of both sides have to be found at the same time.
    Hopeless,
    /// Nothing of one ever gets to the other.
    Impossible,
}

impl Expectation {
    /// Of an oracle's verdict.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Plain { opener: false } => Self::Plain,
            Verdict::Plain { opener: true } => Self::Opener,
            Verdict::Search { ways } if ways.iter().all(|way| way.is_of_both()) => Self::SearchBoth,
            Verdict::Search { .. } => Self::SearchOne,
            Verdict::Hopeless => Self::Hopeless,
            Verdict::Impossible => Self::Impossible,
        }
    }

    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Opener => "opener",
            Self::SearchOne => "search_one",
            Self::SearchBoth => "search_both",
            Self::Hopeless => "hopeless",
            Self::Impossible => "impossible",
        }
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Plain => "plain checks suffice",
            Self::Opener => "plain checks suffice after an opener that dies on its way",
            Self::SearchOne => "ports of one side have to be found",
            Self::SearchBoth => "ports of both sides have to be found",
            Self::Hopeless => "random ports of both sides would have to be found at once",
            Self::Impossible => "no packet of one ever gets to the other",
        }
    }

    /// The share of direct paths that it demands.
    #[must_use]
    pub fn demand(self) -> Option<f64> {
        match self {
            Self::Plain | Self::Opener => Some(PLAIN_LEAST),
            Self::SearchOne => Some(SEARCH_LEAST),
            Self::SearchBoth | Self::Hopeless | Self::Impossible => None,
        }
    }
}

/// One pair.
#[derive(Debug, Clone)]
pub struct Cell {
    /// What was played.
    pub scenario: Scenario,
    /// What the oracle says.
    pub expectation: Expectation,
    /// What came out.
    pub summary: Summary,
    /// Why less than [`Expectation::demand`] is no violation.
    pub excuse: Option<&'static str>,
    /// What does not hold.
    pub violations: Vec<Violation>,
}

/// Every kind with every kind.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// The kinds.
    pub kinds: Vec<NatKind>,
    /// All pairs, row by row; the row is the worker that comes first.
    pub cells: Vec<Cell>,
}

impl Matrix {
    /// What came out, in the order of [`scenarios`], beside what the oracle says.
    pub(super) fn of(kinds: &[NatKind], summaries: impl Iterator<Item = Summary>) -> Self {
        let mut oracle = Oracle::default();
        let cells = scenarios(kinds).zip(summaries).map(|(scenario, summary)| {
            let verdict = oracle.verdict_of_kinds(scenario.first, scenario.second);
            Cell::new(scenario, Expectation::of(&verdict), summary)
        });
        Self { kinds: kinds.to_vec(), cells: cells.collect() }
    }

    /// The cells of each row.
    pub fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunks(self.kinds.len().max(1))
    }

    /// How many cells there are of which something does not hold.
    #[must_use]
    pub fn violated(&self) -> usize {
        self.cells.iter().filter(|cell| !cell.violations.is_empty()).count()
    }
}

/// All pairs of the kinds, row by row.
pub(super) fn scenarios(kinds: &[NatKind]) -> impl Iterator<Item = Scenario> {
    kinds.iter().flat_map(move |first| kinds.iter().map(|second| Scenario::new(*first, *second)))
}

impl Cell {
    fn new(scenario: Scenario, expectation: Expectation, summary: Summary) -> Self {
        let demand = expectation.demand();
        // A share that only chance puts below the demand is none: the whole interval must be.
        let falls_short = |least: f64| summary.direct.high < least;
        let short = demand.filter(|least| falls_short(*least));
        let excuse = short.and_then(|_| excuse(scenario.first, scenario.second));
        let mut violations = Vec::new();
        if let (Some(least), None) = (short, excuse) {
            let (share, least) = (percent(summary.direct.share), percent(least));
            let says = expectation.describe();
            let text = format!("direct {share} < {least}; the oracle says: {says}");
            violations.push(Violation { text, seed: summary.seeds.undirected });
        }
        if summary.unsettled() > 0 {
            let text =
                format!("{} ended with neither a link nor a relay verdict", summary.unsettled());
            violations.push(Violation { text, seed: summary.seeds.unsettled });
        }
        if expectation == Expectation::Impossible && summary.direct.count > 0 {
            let text = "a direct path that the oracle rules out".to_owned();
            violations.push(Violation { text, seed: summary.seeds.direct });
        }
        Self { scenario, expectation, summary, excuse, violations }
    }
}

/// Why two kinds are left to the relay though a search would find something.
fn excuse(first: NatKind, second: NatKind) -> Option<&'static str> {
    let ports = |kind| match kind {
        NatKind::Hard(_, ports) | NatKind::Adm(_, ports) => Some(ports),
        NatKind::Public
        | NatKind::Firewall
        | NatKind::FullCone
        | NatKind::EimAdf
        | NatKind::EimApdf
        | NatKind::EimApdfRandom
        | NatKind::EimApdfSequential
        | NatKind::Remap
        | NatKind::UdpBlocked
        | NatKind::EimApdfShort
        | NatKind::HardApdfShort
        | NatKind::TwoNats
        | NatKind::Carrier
        | NatKind::SameLan => None,
    };
    let is_used_up =
        |ports: Option<HardPorts>| matches!(ports, Some(HardPorts::Block64 | HardPorts::Block512));
    let is_random = |ports: Option<HardPorts>| ports == Some(HardPorts::Random);
    let seeks_with_block = |kind, other| {
        let strict = matches!(kind, NatKind::Hard(Filtering::AddressAndPortDependent, _));
        strict && is_used_up(ports(kind)) && is_random(ports(other))
    };
    if seeks_with_block(first, second) || seeks_with_block(second, first) {
        return Some(
            "a search for a random port would use up the other side's block: relay unless it is asked \
             for",
        );
    }
    let (first, second) = (ports(first), ports(second));
    if is_used_up(first) && is_used_up(second) {
        return Some("a search would use up both blocks of ports: relay unless it is asked for");
    }
    (is_random(first) && is_random(second)).then_some("random ports on both sides: relay")
}
