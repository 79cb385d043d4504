//! What is possible between two hosts, found by trying every exchange of packets on a tiny model of
//! the boxes in front of them. The model is written apart from [`crate::nat`] and knows neither time
//! nor port numbers, so that the simulation, whose outcome is compared with it, cannot share its
//! mistakes.
//!
//! ## The rules
//! Each side has the socket that a STUN server has seen, and a fresh one. It may send a request from
//! either to the peer's reflexive endpoint, to a source that it has observed, or to a port that it
//! *guesses*; a guess is as lucky as it needs to be, but it is counted. A request that arrives is
//! answered at once, from where it arrived to where it seems to come from. A packet may also die in
//! the core: that is the opener with a low TTL, or two packets that cross. The two are linked when
//! each has had an answer to a request of its own.

mod search;
mod tiny;

use std::collections::BTreeMap;

use crate::nat::{Allocation, Mapping};
use crate::presets::{Layer, NatKind};
use search::{Budget, is_linkable};
use tiny::TinyBox;

/// Most ports of one side that a verdict lets the other guess. More never help: one for each of two
/// mappings, that which receives and that which answers.
const GUESSES_MAX: u8 = 2;

/// How many external ports have to be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guesses {
    /// Of A, by B.
    pub of_a: u8,
    /// Of B, by A.
    pub of_b: u8,
}

impl Guesses {
    /// Whether ports of both sides have to be guessed.
    #[must_use]
    pub fn is_of_both(self) -> bool {
        self.of_a > 0 && self.of_b > 0
    }

    fn is_at_most(self, other: Self) -> bool {
        self.of_a <= other.of_a && self.of_b <= other.of_b
    }
}

/// What is possible between A and B.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// They link by what they know: reflexive endpoints and observed sources.
    Plain {
        /// Whether some packet must not reach the peer's box, since it would leave something behind
        /// there.
        opener: bool,
    },
    /// Some port has to be found.
    Search {
        /// What suffices, each way without anything superfluous.
        ways: Vec<Guesses>,
    },
    /// Ports of both sides have to be found at the same time, and both are random.
    Hopeless,
    /// No packet of one ever gets to the other.
    Impossible,
}

/// The verdict on two hosts that share no box. The layers of each begin with the outermost.
#[must_use]
pub fn verdict(a: &[Layer], b: &[Layer]) -> Verdict {
    Oracle::default().verdict(a, b)
}

/// The verdict on two hosts of these kinds, placed as [`crate::presets::place_pair`] does.
#[must_use]
pub fn verdict_of_kinds(a: NatKind, b: NatKind) -> Verdict {
    Oracle::default().verdict_of_kinds(a, b)
}

/// Verdicts on many pairs: those whose boxes differ in nothing that matters are found once.
#[derive(Debug, Default)]
pub struct Oracle {
    found: BTreeMap<[Vec<TinyBox>; 2], Exchange>,
}

impl Oracle {
    /// See [`verdict`].
    pub fn verdict(&mut self, a: &[Layer], b: &[Layer]) -> Verdict {
        let (Some(tiny_a), Some(tiny_b)) = (tiny_boxes(a), tiny_boxes(b)) else {
            return Verdict::Impossible;
        };
        let exchange = self
            .found
            .entry([tiny_a, tiny_b])
            .or_insert_with_key(|[tiny_a, tiny_b]| Exchange::between(tiny_a, tiny_b));
        match exchange {
            Exchange::Plain { opener } => Verdict::Plain { opener: *opener },
            Exchange::Guessing(ways) if ways.is_empty() => Verdict::Impossible,
            Exchange::Guessing(ways)
                if ways.iter().all(|way| way.is_of_both())
                    && has_random_ports(a)
                    && has_random_ports(b) =>
            {
                Verdict::Hopeless
            }
            Exchange::Guessing(ways) => Verdict::Search { ways: ways.clone() },
        }
    }

    /// See [`verdict_of_kinds`].
    pub fn verdict_of_kinds(&mut self, a: NatKind, b: NatKind) -> Verdict {
        if (a, b) == (NatKind::SameLan, NatKind::SameLan) {
            // By their addresses on the LAN.
            return Verdict::Plain { opener: false };
        }
        // Two under one carrier's NAT meet by its hairpin, which treats a packet as two such NATs
        // would: outward for the sender, inward for the receiver.
        self.verdict(&a.layers(), &b.layers())
    }
}

/// What links two sides, whatever their ports are like.
#[derive(Debug)]
enum Exchange {
    Plain {
        opener: bool,
    },
    /// The ways that suffice; none where nothing does.
    Guessing(Vec<Guesses>),
}

impl Exchange {
    fn between(a: &[TinyBox], b: &[TinyBox]) -> Self {
        // Without such a box nothing is worth losing: a packet only ever opens something.
        let remaps = a.iter().chain(b).any(TinyBox::remaps);
        let linkable = |guesses, loses| is_linkable(a, b, Budget { guesses, loses });
        let none = Guesses { of_a: 0, of_b: 0 };
        if linkable(none, false) {
            return Self::Plain { opener: false };
        }
        if remaps && linkable(none, true) {
            return Self::Plain { opener: true };
        }
        let mut ways: Vec<Guesses> = Vec::new();
        for total in 1..=2 * GUESSES_MAX {
            for of_a in 0..=total.min(GUESSES_MAX) {
                let guesses = Guesses { of_a, of_b: total - of_a };
                let is_superfluous = ways.iter().any(|way| way.is_at_most(guesses));
                if guesses.of_b <= GUESSES_MAX && !is_superfluous && linkable(guesses, remaps) {
                    ways.push(guesses);
                }
            }
        }
        Self::Guessing(ways)
    }
}

/// The boxes of a side; `None` where no UDP gets through.
fn tiny_boxes(layers: &[Layer]) -> Option<Vec<TinyBox>> {
    layers
        .iter()
        .map(|layer| match layer {
            Layer::Nat(config) => Some(TinyBox::nat(config)),
            Layer::Firewall(config) => Some(TinyBox::firewall(config.filtering)),
            Layer::UdpBlocked => None,
        })
        .collect()
}

/// Whether ports that the peer does not know are drawn from the whole range.
fn has_random_ports(layers: &[Layer]) -> bool {
    let nats = || {
        layers.iter().filter_map(|layer| match layer {
            Layer::Nat(config) => Some(config),
            Layer::Firewall(_) | Layer::UdpBlocked => None,
        })
    };
    nats().any(|config| config.mapping != Mapping::EndpointIndependent)
        && nats().any(|config| config.allocation == Allocation::Random)
}
