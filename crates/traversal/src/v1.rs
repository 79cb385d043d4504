//! The parts of the machine that speak `holepunch.v1`: the NAT profile, candidates and sessions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::{self, Candidate, CandidateKind};
use holepunch_wire::check::{Check, ParsedCheck};
use holepunch_wire::nat::{SearchWish, UdpState};
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionOffer, Welcome, WorkerV1};
use holepunch_wire::stun::proof::ProofNonce;
use holepunch_wire::stun::{BindingOutcome, BindingResponse, TransactionId};

use crate::doors::{Event, OfferRefusal, SearchRefusal, SocketId, Surroundings};
use crate::machine::Traversal;
use crate::session::{PeerCheck, Prepared, SearchRun, Session, Setting};

/// Sessions of one worker at a time.
const SESSIONS_MAX: usize = 64;

/// Sockets that come and go, open at once.
const SOCKETS_MAX: usize = 256;

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
        self.ready_told = false;
        if let Ok(nonce) = welcome.proof_nonce.parse::<ProofNonce>() {
            self.discovery.ask_proofs(nonce, now, &mut self.rng);
        }
        self.discovery.add_servers(&servers, now, &mut self.rng);
    }

    pub(crate) fn signalled(&mut self, message: ServerV1, now: Instant) {
        match message {
            ServerV1::Welcome(welcome) => self.welcome(&welcome, now),
            ServerV1::PeerCandidates { session, generation, candidates, address_proof } => {
                let found = self.sessions.get_mut(&session);
                let is_news = found.is_some_and(|session| {
                    session.handle_candidates(generation, &candidates, address_proof, now)
                });
                if is_news && self.sessions.get(&session).is_some_and(Session::is_linked) {
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
            ServerV1::SessionEnded { session, reason } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.end(&reason);
                    self.reporting.lost();
                }
            }
            ServerV1::P2pConnectionOffer { .. } | ServerV1::Error { .. } => {}
        }
    }

    pub(crate) fn session_offer(&mut self, offer: SessionOffer, now: Instant) {
        let refusal = if offer.peer == self.config.own_id {
            Some(OfferRefusal::OwnId)
        } else if self.sessions.len() >= SESSIONS_MAX || !self.offers.allows(now) {
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
            replaced.end("the rendezvous has begun it anew");
            while let Some(event) = replaced.poll_event() {
                self.events.push_back(event);
            }
        }
        self.reporting.offered();
        let plan = offer.details.plan.clone();
        let setting = Setting {
            has_v6: self.surroundings.main_v6.is_some(),
            may_relay: false,
            public_ip: self.discovery.endpoint().map(|endpoint| endpoint.ip()),
        };
        let session = Session::new(offer, setting, now, &mut self.rng);
        self.sessions.insert(id, session);
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
                    opener: plan
                        .opener_ttl
                        .map(|ttl| (ttl, Duration::from_millis(u64::from(plan.delay_ms)))),
                };
                let run = SearchRun::new(plan.number, search, context, now, &mut self.rng);
                session.search = Some(run);
            }
            (refusal, _) => {
                let refusal = refusal.unwrap_or(SearchRefusal::NoEndpoint);
                session.search_refused(refusal, now);
            }
        }
    }

    pub(crate) fn leave(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.end("this worker has left");
            self.events.push_back(Event::Signal(WorkerV1::Leave { session: id }));
            self.reporting.lost();
        }
    }

    pub(crate) fn surroundings(&mut self, surroundings: Surroundings, now: Instant) {
        let before = std::mem::replace(&mut self.surroundings, surroundings);
        if let Some(main) = self.surroundings.main {
            self.profiler.bound(main.port());
        }
        let has_global_v6 = |surroundings: &Surroundings| {
            surroundings.main_v6.is_some()
                && surroundings
                    .interfaces
                    .iter()
                    .any(|ip| ip.is_ipv6() && AddressKind::of(*ip) == AddressKind::Ordinary)
        };
        self.profiler.has_ipv6(has_global_v6(&self.surroundings));
        let moved = before.interfaces != self.surroundings.interfaces;
        if moved && !before.interfaces.is_empty() {
            self.discovery.restart();
            self.profiler.restart();
            for session in self.sessions.values_mut() {
                session.network_changed(now);
            }
        }
    }

    /// A STUN message on any socket: an answer to one of our questions, or a check.
    pub(crate) fn stun(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> bool {
        if socket == SocketId::MAIN
            && self.discovery.handle_datagram(from, payload, now, &mut self.rng)
        {
            return true;
        }
        if let Ok(response) = BindingResponse::parse(payload)
            && (self.profiler.handle_response(socket, from, &response, now, &mut self.rng)
                || self.sampled(socket, &response, now))
        {
            return true;
        }
        if let Ok(check) = ParsedCheck::parse(payload) {
            return self.check(socket, from, &check, now);
        }
        // The bare request that was sent around to find out whether the NAT hairpins.
        socket == SocketId::MAIN
            && TransactionId::of(payload)
                .is_some_and(|transaction| self.profiler.handle_hairpin(transaction))
    }

    fn sampled(&mut self, socket: SocketId, response: &BindingResponse, now: Instant) -> bool {
        let BindingOutcome::Mapped(mapped) = response.outcome else { return false };
        let transaction = response.transaction;
        self.sessions.values_mut().any(|session| {
            session.handle_sample(socket, transaction, mapped.port(), now, &mut self.rng)
        })
    }

    fn check(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        parsed: &ParsedCheck<'_>,
        now: Instant,
    ) -> bool {
        let transaction = parsed.transaction;
        let owner = match parsed.check {
            Check::Request { username, .. } => self
                .sessions
                .values_mut()
                .find(|session| session.local_ufrag() == username.receiver()),
            Check::Success { .. } | Check::Error { .. } => {
                self.sessions.values_mut().find(|session| session.awaits(transaction))
            }
            Check::Indication => return true,
        };
        let Some(session) = owner else { return false };
        let is_request = matches!(parsed.check, Check::Request { .. });
        let key = if is_request { session.local_key() } else { session.remote_key() };
        if !parsed.verify(key) {
            self.dropped.unauthenticated += 1;
            return true;
        }
        let rng = &mut self.rng;
        match parsed.check {
            Check::Request { role, tie_breaker, use_candidate, .. } => {
                let check = PeerCheck { transaction, role, tie_breaker, nominates: use_candidate };
                if !session.handle_request(socket, from, check, now, rng) {
                    self.dropped.rate_limited += 1;
                }
            }
            Check::Success { .. } => session.handle_success(socket, transaction, now, rng),
            Check::Error { code } => session.handle_error(transaction, code, now, rng),
            Check::Indication => {}
        }
        true
    }

    /// Where the worker may be reached.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let sockets = [self.surroundings.main, self.surroundings.main_v6];
        for socket in sockets.into_iter().flatten().filter(|_| self.config.host_candidates) {
            let same_family =
                self.surroundings.interfaces.iter().filter(|ip| ip.is_ipv4() == socket.is_ipv4());
            let useful = same_family
                .filter(|ip| AddressKind::of(**ip) != AddressKind::LinkLocal || ip.is_ipv4());
            candidates.extend(useful.map(|ip| {
                Candidate::new(CandidateKind::Host, SocketAddr::new(*ip, socket.port()))
            }));
        }
        if let Some(mapped) = self.surroundings.port_mapped {
            candidates.push(Candidate::new(CandidateKind::PortMapped, mapped));
        }
        if let Some(endpoint) = self.discovery.endpoint() {
            candidates.push(Candidate::new(CandidateKind::ServerReflexive, endpoint));
        }
        candidate::bounded(candidates)
    }

    /// Lets the profiler and the sessions draw their conclusions, and drains them.
    pub(crate) fn settle_v1(&mut self, now: Instant) {
        while let Some(mut answered) = self.discovery.poll_answered() {
            answered.local = answered.local.or_else(|| self.own_address(answered.mapped));
            let asked = self.discovery.asked();
            self.profiler.mapped(&answered, &asked, now, &mut self.rng);
            if let (Some(proof), true) = (answered.proof, self.v1) {
                self.events.push_back(Event::Signal(WorkerV1::AddressProof {
                    udp_ip: answered.mapped.ip(),
                    udp_port: answered.mapped.port(),
                    proof: proof.to_string(),
                }));
            }
        }
        self.profiler.handle_timeout(now, &mut self.rng);
        let lifetime = self.profiler.profile().lifetime_s;
        self.discovery.lives_for(lifetime.map(|secs| Duration::from_secs(u64::from(secs))));
        for _ in 0..self.profiler.take_wanted_sockets() {
            self.open_socket(Owner::Profiler);
        }
        for socket in self.profiler.take_sockets_to_close() {
            self.close_socket(socket);
        }
        self.settle_sessions(now);
        while let Some(transmit) = self.profiler.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        self.tell_news(now);
    }

    /// The address, if it is one at which the own socket is bound: no NAT has changed it.
    fn own_address(&self, mapped: SocketAddr) -> Option<SocketAddr> {
        let port = self.surroundings.main.map(|main| main.port());
        let is_own = self.surroundings.interfaces.contains(&mapped.ip());
        (is_own && port == Some(mapped.port())).then_some(mapped)
    }

    fn settle_sessions(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.handle_timeout(now, &mut self.rng);
            if session.wants_to_leave(now) {
                session.end("no direct path came about");
                self.events.push_back(Event::Signal(WorkerV1::Leave { session: id }));
                self.reporting.failed(now, &mut self.rng);
            }
            let wanted = session.take_wanted_sockets();
            let alarm = session.take_alarm();
            while let Some(transmit) = session.poll_transmit() {
                self.transmits.push_back(transmit);
            }
            while let Some(event) = session.poll_event() {
                self.events.push_back(event);
            }
            if session.is_over() {
                self.sessions.remove(&id);
            }
            for _ in 0..wanted {
                self.open_socket_for(id, now);
            }
            if alarm {
                self.discovery.refresh_now(now, &mut self.rng);
                self.candidates_told = None;
            }
        }
        let unused: Vec<SocketId> = self
            .sockets
            .iter()
            .filter(|(socket, (owner, open))| *open && !self.is_used(**socket, *owner, now))
            .map(|(socket, _)| *socket)
            .collect();
        for socket in unused {
            self.close_socket(socket);
        }
    }

    fn is_used(&self, socket: SocketId, owner: Owner, now: Instant) -> bool {
        match owner {
            Owner::Profiler => true,
            Owner::Session(id) => {
                self.sessions.get(&id).is_some_and(|session| session.uses(socket, now))
            }
        }
    }

    /// Tells the rendezvous what it does not know yet.
    fn tell_news(&mut self, now: Instant) {
        let Some(profile) = self.profiler.take_news(now) else { return self.tell_candidates() };
        self.events.push_back(Event::Profile(Box::new(profile.clone())));
        self.tell_candidates();
        if self.v1 {
            let blocked = profile.udp == UdpState::Blocked;
            self.events.push_back(Event::Signal(WorkerV1::NatProfile { profile }));
            let free = self.sessions.is_empty() && self.discovery.endpoint().is_none();
            if blocked && free && !self.ready_told {
                // There is no endpoint to report; a peer is wanted all the same.
                self.ready_told = true;
                self.events.push_back(Event::Signal(WorkerV1::Ready));
            }
        }
    }

    fn tell_candidates(&mut self) {
        if !self.v1 {
            return;
        }
        let candidates = self.candidates();
        if !candidates.is_empty() && self.candidates_told.as_ref() != Some(&candidates) {
            self.generation += 1;
            let generation = self.generation;
            self.candidates_told = Some(candidates.clone());
            let message = WorkerV1::Candidates { generation, candidates };
            self.events.push_back(Event::Signal(message));
        }
    }

    /// Opens a socket for a session's search, or tells it that there are enough: those of a search that
    /// has just ended count as well.
    fn open_socket_for(&mut self, id: SessionId, now: Instant) {
        if self.sockets.len() < SOCKETS_MAX {
            self.open_socket(Owner::Session(id));
        } else if let Some(session) = self.sessions.get_mut(&id) {
            session.socket_failed(now, &mut self.rng);
        }
    }

    fn open_socket(&mut self, owner: Owner) {
        let socket = self.next_socket;
        self.next_socket = SocketId(socket.0.wrapping_add(1).max(SocketId::FRESH_FIRST.0));
        self.sockets.insert(socket, (owner, false));
        self.events.push_back(Event::OpenSocket(socket));
    }

    fn close_socket(&mut self, socket: SocketId) {
        if let Some((owner, _)) = self.sockets.remove(&socket) {
            if let Owner::Session(id) = owner
                && let Some(session) = self.sessions.get_mut(&id)
            {
                session.socket_closed(socket);
            }
            self.events.push_back(Event::CloseSocket(socket));
        }
    }

    pub(crate) fn socket_opened(&mut self, socket: SocketId, local: SocketAddr, now: Instant) {
        let Some((owner, open)) = self.sockets.get_mut(&socket) else { return };
        *open = true;
        match *owner {
            Owner::Profiler => self.profiler.socket_opened(socket, local, now, &mut self.rng),
            Owner::Session(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.socket_opened(socket, local, now, &mut self.rng);
                }
            }
        }
    }

    pub(crate) fn socket_failed(&mut self, socket: SocketId, now: Instant) {
        let Some((owner, _)) = self.sockets.remove(&socket) else { return };
        match owner {
            Owner::Profiler => self.profiler.socket_failed(now),
            Owner::Session(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.socket_failed(now, &mut self.rng);
                }
            }
        }
    }
}
