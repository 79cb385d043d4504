//! The parts of the machine that speak `holepunch.v1`: the NAT profile, candidates and sessions.

mod packets;
mod settle;
mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::{self, CANDIDATES_MAX, Candidate, CandidateKind};
use holepunch_wire::nat::SearchWish;
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, OFFERS, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionOffer, Welcome, WorkerV1};
use holepunch_wire::stun::proof::ProofNonce;

use crate::doors::{Event, OfferRefusal, SearchRefusal, Surroundings};
use crate::machine::Traversal;
use crate::session::{Prepared, SearchRun, Session, Setting, opener};

/// Sockets that come and go, open at once.
pub(crate) const SOCKETS_MAX: usize = 256;

/// Who asked for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Profiler,
    Session(SessionId),
}

impl Traversal {
    pub(crate) fn welcome(&mut self, welcome: &Welcome, now: Instant) {
        self.v1 = true;
        let usable = |server: &&SocketAddr| {
            server.port() != 0 && AddressKind::of(server.ip()).is_reachable_unicast()
        };
        let servers: Vec<SocketAddr> = welcome.stun.iter().filter(usable).copied().collect();
        self.profiler.add_servers(&servers);
        self.profiler.forget_told();
        self.candidates_told = None;
        if let Ok(nonce) = welcome.proof_nonce.parse::<ProofNonce>() {
            self.discovery.ask_proofs(nonce, now, &mut self.rng);
        }
        self.discovery.add_servers(&servers, now, &mut self.rng);
        if self.surroundings.main_v6.is_some() {
            self.ipv6.ask_named(&servers, now, &mut self.rng);
            self.conclude_ipv6();
        }
    }

    /// Whether an interface has an IPv4 address. As long as none is known, it may.
    pub(crate) fn has_ipv4(&self) -> bool {
        let interfaces = &self.surroundings.interfaces;
        interfaces.is_empty() || interfaces.iter().any(IpAddr::is_ipv4)
    }

    /// Whether an interface has an IPv6 address that is no local one.
    fn has_global_v6(&self) -> bool {
        let Surroundings { main_v6, interfaces, .. } = &self.surroundings;
        let is_global = |ip: &IpAddr| ip.is_ipv6() && AddressKind::of(*ip) == AddressKind::Ordinary;
        main_v6.is_some() && interfaces.iter().any(is_global)
    }

    /// An address alone is no proof that packets get out.
    pub(crate) fn conclude_ipv6(&mut self) {
        let is_global = |at: SocketAddr| AddressKind::of(at.ip()) == AddressKind::Ordinary;
        let has_global = self.has_global_v6() || self.ipv6.mapped().is_some_and(is_global);
        let works = has_global && self.ipv6.works() != Some(false);
        let gets_out =
            if self.ipv6.is_open() { None } else { Some(self.ipv6.gets_out() == Some(true)) };
        self.profiler.has_ipv6(works, gets_out);
    }

    pub(crate) fn signalled(&mut self, message: ServerV1, now: Instant) {
        match message {
            ServerV1::Welcome(welcome) => self.welcome(&welcome, now),
            ServerV1::PeerCandidates { session, generation, candidates, address_proof } => {
                let found = self.sessions.get_mut(&session);
                let is_news = found.is_some_and(|session| {
                    session.handle_candidates(generation, &candidates, address_proof, now)
                });
                if is_news && self.sessions.get(&session).is_some_and(|session| session.is_linked())
                {
                    // The peer sees the path in trouble: perhaps it is this side that has moved.
                    self.discovery.refresh_now(now, &mut self.rng);
                }
            }
            ServerV1::Plan { session, plan } => self.planned(session, plan, now),
            ServerV1::PeerAccepted { session, number, ports } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.handle_accepted(number, ports, now, &mut self.rng);
                }
            }
            ServerV1::SessionEnded { session, code, reason } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.end(code, &reason);
                    self.reporting.lost();
                }
            }
            // Relays are the worker's.
            ServerV1::P2pConnectionOffer { .. }
            | ServerV1::PeerTurnAddress { .. }
            | ServerV1::RelayToken { .. }
            | ServerV1::RoomEntered
            | ServerV1::Closing { .. }
            | ServerV1::Error { .. } => {}
        }
    }

    pub(crate) fn session_offer(&mut self, offer: SessionOffer, now: Instant) {
        let refusal = if offer.peer == self.config.own_id {
            Some(OfferRefusal::OwnId)
        } else if self.sessions.len() >= SESSIONS_MAX || !self.offers.take(OFFERS, now) {
            Some(OfferRefusal::TooMany)
        } else {
            None
        };
        let id = offer.details.session;
        if let Some(refusal) = refusal {
            self.events.push_back(Event::OfferIgnored(refusal));
            return self.events.push_back(Event::Signal(WorkerV1::Leave { session: id }));
        }
        // What it searches is counted anew.
        self.searched.take_if(|(searched, _)| *searched == id);
        if let Some(mut replaced) = self.sessions.remove(&id) {
            replaced.end(EndReason::OfferedAnew, EndReason::OfferedAnew.text());
            while let Some(event) = replaced.poll_event() {
                self.events.push_back(event);
            }
        }
        self.reporting.offered();
        let plan = offer.details.plan.clone();
        let setting = Setting {
            has_v6: self.surroundings.main_v6.is_some(),
            public_ip: self.discovery.endpoint().map(|endpoint| endpoint.ip()),
        };
        let session = Session::new(offer, setting, now, &mut self.rng);
        self.sessions.insert(id, Box::new(session));
        self.follow(id, &plan, now);
    }

    fn planned(&mut self, id: SessionId, plan: Plan, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let before = session.plan.number;
        session.handle_plan(plan.clone(), now);
        if session.plan.number != before {
            self.follow(id, &plan, now);
        }
    }

    /// Does what a plan wants beside checks.
    fn follow(&mut self, id: SessionId, plan: &Plan, now: Instant) {
        if plan.strategy == Strategy::TestReuse {
            self.profiler.test_reuse();
            // What is known already is told again: the rendezvous waits for it.
            self.profiler.forget_told();
        }
        let search = plan.search.clone().filter(|_| plan.strategy != Strategy::Relay);
        let Some(search) = search else { return };
        let is_under_way =
            |session: &Session| session.search.as_ref().is_some_and(|run| run.is_by(plan.number));
        if self.sessions.get(&id).map(Box::as_ref).is_some_and(is_under_way) {
            return;
        }
        let searching = self.sessions.iter().any(|(other, session)| {
            *other != id && session.search.is_some() && !session.is_linked()
        });
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let endpoint = session.endpoint.filter(SocketAddr::is_ipv4);
        let refusal = if self.config.search == SearchWish::Never {
            Some(SearchRefusal::Unwanted)
        } else if session.proof == AddressProof::None {
            Some(SearchRefusal::Unproven)
        } else if endpoint.is_none() {
            Some(SearchRefusal::NoEndpoint)
        } else if searching {
            Some(SearchRefusal::Busy)
        } else {
            let target = session.search_target();
            // A better plan for the same pair is the same search, as long as it has packets left.
            let again = target.is_some_and(|ip| self.searched == Some((id, ip)));
            let allowed = again || target.is_some_and(|ip| self.searches.allows(ip, now));
            let refused = !allowed || session.has_searched_enough();
            refused.then_some(SearchRefusal::TooMany)
        };
        match (refusal, endpoint) {
            (None, Some(endpoint)) => {
                self.searched = Some((id, endpoint.ip()));
                let context = Prepared {
                    endpoint,
                    observed: session.observed(endpoint.ip()),
                    allocation: self.profiler.profile().allocation,
                    stun: self.profiler.any_server(),
                    opener: opener(plan),
                };
                let run = SearchRun::new(plan.number, search, context, now, &mut self.rng);
                (session.search, session.refused) = (Some(run), None);
            }
            (refusal, _) => {
                let refusal = refusal.unwrap_or(SearchRefusal::NoEndpoint);
                session.search_refused(refusal, now);
            }
        }
    }

    pub(crate) fn leave(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.end(EndReason::OwnLeave, EndReason::OwnLeave.text());
            self.events.push_back(Event::Signal(WorkerV1::Leave { session: id }));
            self.reporting.lost();
        }
    }

    pub(crate) fn surroundings(&mut self, surroundings: Surroundings, now: Instant) {
        let before = std::mem::replace(&mut self.surroundings, surroundings);
        if let Some(main) = self.surroundings.main {
            self.profiler.bound(main.port());
        }
        self.discovery.has_ipv4(self.has_ipv4());
        let moved = before.interfaces != self.surroundings.interfaces;
        if moved && !before.interfaces.is_empty() {
            self.discovery.restart();
            self.profiler.restart();
            self.ipv6.restart(now, &mut self.rng);
            for session in self.sessions.values_mut() {
                session.network_changed(now);
            }
        }
        self.conclude_ipv6();
    }

    /// Where the worker may be reached. A host with many interfaces has more addresses than can be told: the last ones
    /// of those are left out, and none of what servers and routers have said.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = self.host_candidates();
        let seen_from_outside = [
            self.surroundings.port_mapped.map(|at| (CandidateKind::PortMapped, at)),
            self.ipv6.mapped().map(|at| (CandidateKind::ServerReflexive, at)),
            self.discovery.endpoint().map(|at| (CandidateKind::ServerReflexive, at)),
        ];
        candidates.truncate(CANDIDATES_MAX - seen_from_outside.len());
        let seen_from_outside = seen_from_outside.into_iter().flatten();
        candidates.extend(seen_from_outside.map(|(kind, at)| Candidate::new(kind, at)));
        candidate::bounded(candidates)
    }

    /// The addresses of the interfaces, in their order, where they are told at all.
    fn host_candidates(&self) -> Vec<Candidate> {
        let Surroundings { main, main_v6, interfaces, .. } = &self.surroundings;
        let told = interfaces.iter().filter(|_| self.config.host_candidates);
        let useful =
            told.filter(|ip| AddressKind::of(**ip) != AddressKind::LinkLocal || ip.is_ipv4());
        let addresses = useful.filter_map(|ip| {
            let mut sockets = [main, main_v6].into_iter().flatten();
            let socket = sockets.find(|socket| socket.is_ipv4() == ip.is_ipv4())?;
            Some(SocketAddr::new(*ip, socket.port()))
        });
        addresses.map(|at| Candidate::new(CandidateKind::Host, at)).collect()
    }
}
