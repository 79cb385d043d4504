//! Pairs of NATs, and what has to come of two workers behind them.

mod catalogue;

use std::fmt;
use std::time::Duration;

use holepunch_sim::presets::{self, HardPorts};

use crate::conditions::Conditions;
use crate::error::LabError;
use crate::logs::Line;
use crate::nat::NatKind;
use crate::proof::{self, Sockets, Traffic};
use crate::session::{Linked, Session, Workers};
use crate::topology::Lab;

pub use catalogue::{DELAY, LOSS, catalogue, for_programs};

/// What has to come of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// A direct path, always.
    Plain,
    /// A direct path once a port has been found; that may fail once in a while.
    Search,
    /// Both workers say that there will be none.
    Relay,
}

/// Two NATs and the lines before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Where the two workers are; that of the first side comes first.
    pub kinds: [NatKind; 2],
    /// What their lines do.
    pub conditions: [Conditions; 2],
    /// What has to come of it.
    pub expected: Expected,
}

/// What has come of a pair.
#[derive(Debug, Clone)]
pub struct Run {
    /// What each worker said of the link; `None` when both said that there will be none.
    pub linked: Option<Linked>,
    /// The strategy that was planned last.
    pub strategy: String,
    /// What each side had sent to the other by then.
    pub sent: [Traffic; 2],
}

/// A direct path is there within so long, or not at all: a search ends after 24 s.
const LINKED_WITHIN: Duration = Duration::from_secs(45);
/// A verdict waits for the NAT profiles alone. Without UDP that takes as long as a few STUN requests.
const VERDICT_WITHIN: Duration = Duration::from_secs(30);
const REGISTERED_WITHIN: Duration = Duration::from_secs(30);

/// Without a search: 25 probes to each of three addresses, and as many answers.
const PLAIN_PACKETS_MAX: u64 = 150;
/// The addresses that the peer may be sent to, each from one socket, and some ports that its packets
/// are seen to come from.
const PLAIN_FLOWS_MAX: usize = 12;
/// A search: 2,048 probes, half of them repeated, and what a plain attempt sends before.
const SEARCH_PACKETS_MAX: u64 = 3_200;
const SEARCH_FLOWS_MAX: usize = 2_048 + PLAIN_FLOWS_MAX;
/// New pairs of ports a second, and how many may come at once.
const SEARCH_PER_SECOND: f64 = 100.0;
const SEARCH_AT_ONCE: usize = 40;
/// Before a verdict: what is sent until the NAT profiles are known, a few hundred milliseconds.
const RELAY_PACKETS_MAX: u64 = 12;
const RELAY_FLOWS_MAX: usize = 6;

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([first, second], [line, other]) = (self.kinds, self.conditions);
        if line == other {
            return write!(f, "{first} × {second} ({line})");
        }
        write!(f, "{first} ({line}) × {second} ({other})")
    }
}

impl Pair {
    /// One of many random ports is found in 9,997 of 10,000 cases. Of the pairs that need it one is enough
    /// for a test; `lab-figures --matrix` runs them all, many times.
    #[must_use]
    pub fn is_smoke(&self) -> bool {
        let is_random = |kind: NatKind| {
            matches!(kind, NatKind::Simulated(presets::NatKind::Hard(_, HardPorts::Random)))
        };
        !(self.expected == Expected::Search && self.kinds.into_iter().any(is_random))
    }

    /// Runs it once; everything is new.
    ///
    /// # Errors
    /// The laboratory cannot be built, or it does not come as expected.
    pub fn run(&self) -> Result<Run, LabError> {
        let lab = self.build()?;
        self.run_in(&lab)
    }

    /// The same after a check of the NATs.
    ///
    /// # Errors
    /// Likewise, or a NAT or a line is not what it claims.
    pub fn check_and_run(&self) -> Result<Run, LabError> {
        let mut lab = self.build()?;
        lab.check_nats()?;
        self.run_in(&lab)
    }

    /// Builds its network.
    ///
    /// # Errors
    /// That is not possible.
    pub fn build(&self) -> Result<Lab, LabError> {
        let [first, second] = self.kinds;
        let [line, other] = self.conditions;
        Lab::build_on(&[(first, line), (second, other)])
    }

    fn run_in(&self, lab: &Lab) -> Result<Run, LabError> {
        let mut session = Session::start(lab, Workers::USUAL)?;
        for worker in [0, 1] {
            session.start_worker()?;
            session.wait_for(worker, "it is registered", REGISTERED_WITHIN, |lines| {
                lines.iter().any(|line| line.message().starts_with("registered")).then_some(())
            })?;
        }
        let linked = match self.expected {
            Expected::Plain | Expected::Search => Some(session.linked(LINKED_WITHIN)?),
            Expected::Relay => {
                for worker in [0, 1] {
                    verdict(&session, worker)?;
                }
                None
            }
        };
        let strategy = strategy(&session.lines(0)).unwrap_or_default();
        if let Some(linked) = &linked {
            let sockets = [0, 1].map(|side| Sockets::of_worker(&session.lines(side)));
            proof::direct_between(lab, linked, sockets)?;
        }
        let run =
            Run { linked, strategy, sent: [proof::sent(lab, 0, 1)?, proof::sent(lab, 1, 0)?] };
        match self.expected.exceeded(&run) {
            None => Ok(run),
            Some(why) => {
                let evidence = proof::counted(lab)? + &session.tails();
                Err(LabError::NotProven { why, evidence })
            }
        }
    }
}

impl Run {
    /// Time from the offer until both workers were linked.
    #[must_use]
    pub fn link_time(&self) -> Option<Duration> {
        let [first, second] = &self.linked.as_ref()?.established;
        Some(Duration::from_secs_f64(first.ms_since_offer.max(second.ms_since_offer) / 1000.0))
    }
}

impl Expected {
    /// Says what was sent beyond what is allowed for.
    fn exceeded(self, run: &Run) -> Option<String> {
        let seconds = run.link_time().map_or(0.0, |time| time.as_secs_f64());
        let paced = SEARCH_AT_ONCE + (SEARCH_PER_SECOND * seconds) as usize;
        let (packets_max, flows_max) = match self {
            Self::Plain => (PLAIN_PACKETS_MAX, PLAIN_FLOWS_MAX),
            Self::Search => (SEARCH_PACKETS_MAX, SEARCH_FLOWS_MAX.min(paced)),
            Self::Relay => (RELAY_PACKETS_MAX, RELAY_FLOWS_MAX),
        };
        run.sent.iter().enumerate().find_map(|(side, Traffic { packets, flows })| {
            let exceeds = *packets > packets_max || *flows > flows_max;
            exceeds.then(|| {
                format!(
                    "side {side} sent {packets} packets with {flows} pairs of ports to the other, \
                     where {packets_max} and {flows_max} are allowed"
                )
            })
        })
    }
}

fn verdict(session: &Session<'_>, worker: usize) -> Result<(), LabError> {
    session.wait_for(worker, "its verdict", VERDICT_WITHIN, |lines| {
        let verdict = "no direct path is to be expected";
        lines.iter().any(|line| line.message() == verdict).then_some(())
    })
}

/// The last strategy that a worker was told.
fn strategy(lines: &[Line]) -> Option<String> {
    let last = lines.iter().rev().find(|line| proof::PLANS.contains(&line.message()))?;
    last.string("strategy").map(str::to_owned)
}
