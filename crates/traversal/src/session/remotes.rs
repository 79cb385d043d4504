//! Where the peer may be: its endpoint, its candidates, and the sources of its checks, each with the
//! times at which checks leave for it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::candidate::{CANDIDATES_MAX, Candidate, CandidateKind};
use rand::rngs::StdRng;

use super::paths::Route;
use crate::doors::{SocketId, Turn};
use crate::schedule;

/// Sources of the peer's checks that nobody advertised.
const PEER_REFLEXIVE_MAX: usize = 8;
/// Checks to one address that checks from there trigger. Whoever repeats one of the peer's checks
/// from an address of his choice gets no more.
const TRIGGERED_MAX: u32 = 5;

/// How many checks an address is worth, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// About 25 in ten seconds: for the peer's endpoint, and for addresses that are known to be its.
    Full,
    /// Five in two seconds: for an address that the peer names without proof.
    Few,
}

impl Effort {
    fn at(self, index: u32, rng: &mut StdRng) -> Option<Duration> {
        match self {
            Self::Full => schedule::jittered_ping_at(index, rng),
            Self::Few => schedule::few_at(index),
        }
    }
}

/// One address of the peer.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) route: Route,
    pub(crate) kind: CandidateKind,
    effort: Effort,
    started: Instant,
    index: u32,
    next_at: Option<Instant>,
    triggered: u32,
}

impl Remote {
    fn new(route: Route, kind: CandidateKind, effort: Effort, start: Instant) -> Self {
        Self { route, kind, effort, started: start, index: 0, next_at: Some(start), triggered: 0 }
    }
}

/// The addresses of the peer.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    remotes: Vec<Remote>,
}

impl Remotes {
    /// Adds an address of the peer's, or does nothing where it is known.
    pub(crate) fn add(
        &mut self,
        candidate: &Candidate,
        effort: Effort,
        socket: SocketId,
        start: Instant,
    ) {
        let route = Route { socket, to: candidate.address() };
        if self.kind(route).is_some() || self.remotes.len() >= CANDIDATES_MAX + PEER_REFLEXIVE_MAX {
            return;
        }
        self.remotes.push(Remote::new(route, candidate.kind, effort, start));
    }

    /// Adds the source of a check that nobody had advertised. The oldest such source makes room.
    pub(crate) fn observed(&mut self, route: Route, now: Instant) {
        let is_observed = |remote: &Remote| remote.kind == CandidateKind::PeerReflexive;
        if self.remotes.iter().filter(|remote| is_observed(remote)).count() >= PEER_REFLEXIVE_MAX
            && let Some(oldest) = self.remotes.iter().position(is_observed)
        {
            self.remotes.remove(oldest);
        }
        let mut remote = Remote::new(route, CandidateKind::PeerReflexive, Effort::Few, now);
        // The triggered check is the first of its checks.
        remote.index = 1;
        remote.next_at = schedule::few_at(1).map(|after| now + after);
        self.remotes.push(remote);
    }

    /// The source of the peer's checks at this host that was seen last and that nobody had advertised.
    pub(crate) fn observed_at(&self, ip: IpAddr) -> Option<SocketAddr> {
        let is_observed = |remote: &&Remote| {
            remote.kind == CandidateKind::PeerReflexive && remote.route.to.ip() == ip
        };
        self.remotes.iter().rev().find(is_observed).map(|remote| remote.route.to)
    }

    /// Whether a check from there may trigger another one to there; if so it counts.
    pub(crate) fn may_trigger(&mut self, route: Route) -> bool {
        let remote = self.remotes.iter_mut().find(|remote| remote.route == route);
        remote.is_some_and(|remote| {
            remote.triggered += 1;
            remote.triggered <= TRIGGERED_MAX
        })
    }

    /// A socket is closed: nothing leaves from it any more.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.remotes.retain(|remote| remote.route.socket != socket);
    }

    /// How an address was learnt; `None`: it is not known.
    pub(crate) fn kind(&self, route: Route) -> Option<CandidateKind> {
        self.remotes.iter().find(|remote| remote.route == route).map(|remote| remote.kind)
    }

    /// How the address was learnt, whatever socket it belongs to.
    pub(crate) fn kind_of(&self, address: SocketAddr) -> Option<CandidateKind> {
        self.remotes.iter().find(|remote| remote.route.to == address).map(|remote| remote.kind)
    }

    /// The routes for which a check is due.
    pub(crate) fn due(&mut self, (now, rng): Turn<'_>) -> Vec<Route> {
        let mut due = Vec::new();
        for remote in &mut self.remotes {
            if let Some(at) = remote.next_at.filter(|at| *at <= now) {
                due.push(remote.route);
                remote.index += 1;
                // Where checks have been missed, the others come later.
                remote.started += schedule::missed(at, now);
                let next = remote.effort.at(remote.index, rng);
                remote.next_at = next.map(|after| schedule::apart(remote.started + after, now));
            }
        }
        due
    }

    /// Forgets the addresses that no check has been sent to yet, but for those to be kept.
    pub(crate) fn drop_untried(&mut self, keep: impl Fn(SocketAddr) -> bool) {
        self.remotes.retain(|remote| remote.index > 0 || keep(remote.route.to));
    }

    /// Ends the checks to all, or to all but `route`.
    pub(crate) fn stop(&mut self) {
        for remote in &mut self.remotes {
            remote.next_at = None;
        }
    }

    /// Begins anew with all; `full` are worth the whole schedule.
    pub(crate) fn restart(&mut self, full: impl Fn(SocketAddr) -> bool, now: Instant) {
        for remote in &mut self.remotes {
            (remote.index, remote.started, remote.next_at) = (0, now, Some(now));
            remote.effort = if full(remote.route.to) { Effort::Full } else { Effort::Few };
        }
    }

    /// The routes, each once.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) -> impl Iterator<Item = Route> {
        let is_observed = |remote: &&Remote| remote.kind == CandidateKind::PeerReflexive;
        let observed = self.remotes.iter().filter(is_observed).count();
        assert!(observed <= PEER_REFLEXIVE_MAX, "{observed} observed sources");
        let told = self.remotes.len() - observed;
        assert!(told <= CANDIDATES_MAX + PEER_REFLEXIVE_MAX, "{told} candidates");
        let routes: std::collections::BTreeSet<Route> =
            self.remotes.iter().map(|remote| remote.route).collect();
        assert_eq!(routes.len(), self.remotes.len(), "an address is there twice");
        routes.into_iter()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.remotes.iter().filter_map(|remote| remote.next_at).min()
    }
}
