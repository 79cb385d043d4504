//! All exchanges of packets, breadth first.

use std::collections::{BTreeSet, VecDeque};

use super::Guesses;
use super::tiny::{PORTS, Port, Remote, TinyBox};

/// Sockets of a host: the one that the STUN server has seen, and a fresh one.
const SOCKETS: Port = 2;
/// The socket that the STUN server has seen.
const STUN_SOCKET: Port = 1;

/// What an exchange may make use of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// How many ports may be guessed.
    pub(super) guesses: Guesses,
    /// Whether packets may die in the core.
    pub(super) loses: bool,
}

/// Ports of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Ports(u8);

impl Ports {
    fn insert(&mut self, port: Port) {
        self.0 |= 1 << port;
    }

    fn contains(self, port: Port) -> bool {
        self.0 & (1 << port) != 0
    }

    fn len(self) -> u32 {
        self.0.count_ones()
    }
}

/// A host with the boxes in front of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    /// The outermost first.
    boxes: Vec<TinyBox>,
    /// Ports of the peer that were announced or observed.
    known: Ports,
    /// Ports of the peer that were guessed.
    guessed: Ports,
    /// Whether it has had an answer.
    answered: bool,
}

impl Side {
    /// A host that has asked the STUN server, and the port that it was told.
    fn new(boxes: &[TinyBox]) -> Option<(Self, Port)> {
        let mut side = Self {
            boxes: boxes.to_vec(),
            known: Ports::default(),
            guessed: Ports::default(),
            answered: false,
        };
        let reflexive = side.outward(STUN_SOCKET, Remote::Server)?;
        Some((side, reflexive))
    }

    fn outward(&mut self, socket: Port, to: Remote) -> Option<Port> {
        self.boxes.iter_mut().rev().try_fold(socket, |inside, each| each.outward(inside, to))
    }

    fn inward(&mut self, from: Remote, port: Port) -> Option<Port> {
        let socket = self.boxes.iter_mut().try_fold(port, |port, each| each.inward(from, port))?;
        (socket <= SOCKETS).then_some(socket)
    }
}

/// What one side may do.
#[derive(Debug, Clone, Copy)]
struct Action {
    /// Which side.
    actor: usize,
    socket: Port,
    target: Port,
    /// Whether the packet gets to the peer's outermost box.
    arrives: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    sides: [Side; 2],
}

impl State {
    fn is_linked(&self) -> bool {
        self.sides.iter().all(|side| side.answered)
    }

    /// Whether an action sends to a port that is known, or that may be guessed.
    fn allows(&self, action: Action, guesses: Guesses) -> bool {
        let side = &self.sides[action.actor];
        let allowed = if action.actor == 0 { guesses.of_b } else { guesses.of_a };
        side.known.contains(action.target)
            || side.guessed.contains(action.target)
            || side.guessed.len() < u32::from(allowed)
    }

    /// What the state becomes; `None` where all ports of a box are in use.
    fn after(&self, action: Action) -> Option<Self> {
        let mut next = self.clone();
        let Action { actor, socket, target, arrives } = action;
        let peer = 1 - actor;
        let side = &mut next.sides[actor];
        if !side.known.contains(target) {
            side.guessed.insert(target);
        }
        let source = side.outward(socket, Remote::Peer(target))?;
        if !arrives {
            return Some(next);
        }
        let Some(receiver) = next.sides[peer].inward(Remote::Peer(source), target) else {
            return Some(next);
        };
        next.sides[peer].known.insert(source);
        let Some(answering) = next.sides[peer].outward(receiver, Remote::Peer(source)) else {
            return Some(next);
        };
        let side = &mut next.sides[actor];
        if side.inward(Remote::Peer(answering), source).is_some() {
            side.known.insert(answering);
            side.answered = true;
        }
        Some(next)
    }
}

/// Whether some exchange within the budget links a host behind the boxes `a` with one behind `b`.
pub(super) fn is_linkable(a: &[TinyBox], b: &[TinyBox], budget: Budget) -> bool {
    let (Some((mut a, of_a)), Some((mut b, of_b))) = (Side::new(a), Side::new(b)) else {
        return false;
    };
    a.known.insert(of_b);
    b.known.insert(of_a);
    let start = State { sides: [a, b] };
    let mut seen = BTreeSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    while let Some(state) = queue.pop_front() {
        for action in actions(budget.loses) {
            if !state.allows(action, budget.guesses) {
                continue;
            }
            let Some(next) = state.after(action) else { continue };
            if next.is_linked() {
                return true;
            }
            if !seen.contains(&next) {
                seen.insert(next.clone());
                queue.push_back(next);
            }
        }
    }
    false
}

fn actions(loses: bool) -> impl Iterator<Item = Action> {
    let fates = if loses { [true, false].as_slice() } else { [true].as_slice() };
    (0..2).flat_map(move |actor| {
        (1..=SOCKETS).flat_map(move |socket| {
            (1..=PORTS).flat_map(move |target| {
                fates.iter().map(move |arrives| Action { actor, socket, target, arrives: *arrives })
            })
        })
    })
}
