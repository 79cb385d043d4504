//! The addresses at which the peer is sought.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::{Candidate, CandidateKind, bounded, reflexive};
use holepunch_wire::plan::Strategy;
use holepunch_wire::session::AddressProof;

use super::paths::Route;
use super::remotes::Effort;
use super::{Phase, Session, UNLIKELY_AFTER};
use crate::doors::{SocketId, Turn};

impl Session {
    /// The first packets: an opener where the plan wants one, then checks to every address.
    pub(super) fn begin(&mut self, (now, rng): Turn<'_>) {
        let start = now + Duration::from_millis(u64::from(self.plan.delay_ms));
        let endpoint = self.endpoint.map(|at| Candidate::new(CandidateKind::ServerReflexive, at));
        if let (Some(endpoint), Some(ttl)) = (&endpoint, self.plan.opener_ttl)
            && let Some(socket) = self.socket_for(endpoint.address())
        {
            self.send_check(Route { socket, to: endpoint.address() }, false, Some(ttl), (now, rng));
        }
        if let Some(endpoint) = endpoint {
            self.add(&endpoint, start);
        }
        self.add_candidates(start);
        if self.plan.strategy == Strategy::Relay {
            self.verdict(now);
        }
    }

    /// Adds those of the peer's addresses that are not known yet.
    pub(super) fn add_candidates(&mut self, start: Instant) {
        for candidate in self.candidates.clone() {
            self.add(&candidate, start);
        }
    }

    /// Adds an address of the peer's, with as many checks as it has deserved.
    pub(super) fn add(&mut self, candidate: &Candidate, start: Instant) {
        let to = candidate.address();
        let is_endpoint = self.endpoint == Some(to);
        let hopeless = self.plan.strategy == Strategy::Relay;
        // Where no STUN server has seen one of the two, nobody knows where it is: perhaps nearby.
        let is_unseen = self.endpoint.is_none() || self.setting.public_ip.is_none();
        if hopeless && !is_endpoint && !is_unseen {
            return;
        }
        let effort = if is_endpoint && !hopeless { Effort::Full } else { Effort::Few };
        let public_ip = self.endpoint.map(|endpoint| endpoint.ip());
        let is_neighbour = public_ip.is_some() && public_ip == self.setting.public_ip;
        let is_alternative = self.endpoint.is_some() && !is_endpoint && !is_neighbour;
        let is_unlikely = is_alternative && AddressKind::of(to.ip()).is_local();
        let start = if is_unlikely { start + UNLIKELY_AFTER } else { start };
        if let (Some(socket), true) = (self.socket_for(to), candidate.is_usable()) {
            self.remotes.add(candidate, effort, socket, start);
        }
    }

    pub(super) fn socket_for(&self, to: SocketAddr) -> Option<SocketId> {
        if to.is_ipv4() {
            Some(SocketId::MAIN)
        } else {
            self.setting.has_v6.then_some(SocketId::MAIN_V6)
        }
    }

    /// The port of the host `ip` that the peer's checks come from, if it is not one that was told.
    pub(crate) fn observed(&self, ip: IpAddr) -> Option<SocketAddr> {
        self.remotes.observed_at(ip)
    }

    /// Takes another set of the peer's addresses: it has learnt more, or its network has changed.
    pub(crate) fn handle_candidates(
        &mut self,
        generation: u32,
        candidates: &[Candidate],
        proof: AddressProof,
        now: Instant,
    ) -> bool {
        if generation <= self.generation && self.generation != 0 {
            return false;
        }
        self.generation = generation;
        if let Some(reflexive) = reflexive(candidates) {
            self.endpoint = Some(reflexive.address());
            self.proof = proof;
        }
        self.candidates = bounded(candidates.to_vec());
        self.add_candidates(now);
        if let Phase::Linked(keep) = &mut self.phase {
            keep.ask_now(now);
        }
        true
    }
}
