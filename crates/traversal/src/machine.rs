//! The machine of one UDP socket: it hands each input to the part that it is for, and settles what
//! follows.

use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::address::AddressKind;
use holepunch_wire::check::ParsedCheck;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::rate::Bucket;
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{OFFERS, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::{ServerV1, SessionOffer, WorkerV1};
use holepunch_wire::stun::{self, BindingResponse, TransactionId};
use rand::rngs::StdRng;

use crate::baseline::Baseline;
use crate::doors::{
    Config, Dropped, Event, Input, OfferRefusal, Out, SessionStatus, SocketId, Transmit,
    WakeReason, earlier,
};
use crate::reporting::{Reporting, Wish};
use crate::session::{Route, Session};
use crate::sessions::{SearchSetting, Sessions};
use crate::sockets::{Owner, Sockets};
use crate::whereabouts::Whereabouts;

/// Discovery, punching and keep-alive for one UDP socket.
#[derive(Debug)]
pub struct Traversal {
    config: Config,
    rng: StdRng,
    whereabouts: Whereabouts,
    reporting: Reporting,
    baseline: Baseline,
    offers: Bucket,
    sessions: Sessions,
    sockets: Sockets,
    dropped: Dropped,
    out: Out,
}

impl Traversal {
    /// A machine that starts with discovery. `rng` makes transaction ids, so it must be seeded from
    /// the operating system outside of tests.
    #[must_use]
    pub fn new(config: Config, rng: StdRng) -> Self {
        let mut machine = Self {
            whereabouts: Whereabouts::new(&config),
            baseline: Baseline::new(config.own_id.clone()),
            config,
            rng,
            reporting: Reporting::default(),
            offers: Bucket::default(),
            sessions: Sessions::default(),
            sockets: Sockets::new(),
            dropped: Dropped::default(),
            out: Out::default(),
        };
        machine.whereabouts.drain_discovery(&mut machine.out);
        machine
    }

    /// Takes what happened.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Datagram { socket, from, payload } => self.datagram(socket, from, payload, now),
            Input::Resolved(servers) => self.whereabouts.resolved(servers, (now, &mut self.rng)),
            Input::Registered => {
                self.reporting.registered();
                self.whereabouts.discovery.revive();
            }
            Input::Unregistered => {
                self.reporting.unregistered();
                self.whereabouts.v1 = false;
            }
            Input::Offer(offer) => self.offer(offer, now),
            Input::BadOffer(why) => self.refuse(OfferRefusal::Malformed(why), now),
            Input::Surroundings(surroundings) => {
                if self.whereabouts.surroundings(surroundings, (now, &mut self.rng)) {
                    self.sessions.network_changed(now);
                }
            }
            Input::SocketOpened(socket, local) => self.socket_opened(socket, local, now),
            Input::SocketFailed(socket) => self.socket_failed(socket, now),
            Input::SessionOffer(offer) => self.session_offer(offer, now),
            Input::V1(message) => self.signalled(*message, now),
            Input::Leave(id) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.end(EndReason::OwnLeave, EndReason::OwnLeave.text());
                    self.signal(WorkerV1::Leave { session: id });
                    self.reporting.lost();
                }
            }
            Input::Relayed(session, relay) => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.relayed(relay, now);
                }
            }
            Input::Doubt(session) => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.doubt(now);
                }
            }
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.whereabouts.discovery.handle_timeout((now, &mut self.rng));
        self.settle(now);
        // A driver that is told to call again at once never gets to anything else.
        debug_assert!(self.poll_timeout().is_none_or(|(at, _)| at > now), "nothing is left to do");
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        // A report that waits is due when the pairing ends and there is something to say, not before.
        let may_report = self.is_free() && self.whereabouts.wish().is_some();
        let report = self.reporting.poll_timeout().filter(|_| may_report);
        let sessions = self.sessions.iter().filter_map(Session::poll_timeout).min();
        let peers = earlier(sessions, self.baseline.poll_timeout());
        earlier(self.whereabouts.poll_timeout(), earlier(peers, report))
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// The NAT profile as far as it is known.
    #[must_use]
    pub fn profile(&self) -> &NatProfile {
        self.whereabouts.profiler.profile()
    }

    /// Whether the profile holds all that can be learnt within a second: for somebody who waits for it
    /// once the servers have answered.
    #[must_use]
    pub fn profile_is_settled(&self) -> bool {
        self.whereabouts.profile_is_settled()
    }

    /// How every session stands.
    pub fn sessions(&self, now: Instant) -> impl Iterator<Item = SessionStatus> + '_ {
        self.sessions.iter().map(move |session| session.status(now))
    }

    /// Datagrams dropped so far, by reason.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// What holds of the whole machine, whatever has happened: looked at after every step of a test or a
    /// simulation. Only with debug assertions.
    ///
    /// # Panics
    /// Two parts do not agree, something is larger than it may be, or what a part has to say has not been
    /// passed on.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        self.whereabouts.check_invariants();
        self.sessions.check_invariants(&self.sockets);
        let profilers = self.whereabouts.profiler.check_invariants();
        self.sockets.check_invariants(|socket, owner| match owner {
            Owner::Profiler => profilers.contains(&socket),
            Owner::Session(id) => self.sessions.get(id).is_some(),
        });
    }

    /// Whether the worker has no peer.
    fn is_free(&self) -> bool {
        !self.baseline.has_peer() && self.sessions.len() == 0
    }

    fn signal(&mut self, message: WorkerV1) {
        self.out.events.push_back(Event::Signal(message));
    }

    fn datagram(&mut self, socket: SocketId, from: SocketAddr, payload: &[u8], now: Instant) {
        let owner = self.sockets.owner(socket);
        if socket >= SocketId::FRESH_FIRST && owner.is_none() {
            // It was read before the socket was closed.
            self.dropped.unknown += 1;
        } else if stun::looks_like_stun(payload) {
            let expected = self.stun((Route { socket, to: from }, owner), payload, now);
            self.dropped.stray_stun += u64::from(!expected);
        } else if socket != SocketId::MAIN {
            self.dropped.unknown += 1;
        } else {
            let told = (&mut self.dropped, &mut self.out);
            self.baseline.handle_datagram((from, payload), told, (now, &mut self.rng));
        }
    }

    /// A STUN message on any socket: an answer to one of our questions, or a check.
    fn stun(&mut self, source: (Route, Option<Owner>), payload: &[u8], now: Instant) -> bool {
        let Route { socket, to: from } = source.0;
        let rng = &mut self.rng;
        if socket == SocketId::MAIN && self.whereabouts.handle_datagram(from, payload, (now, rng)) {
            return true;
        }
        if let Ok(response) = BindingResponse::parse(payload)
            && (self.whereabouts.handle_response(socket, from, &response, (now, rng))
                || self.sessions.sampled(socket, &response, (now, rng)))
        {
            return true;
        }
        if let Ok(check) = ParsedCheck::parse(payload) {
            return self.sessions.check(source, &check, &mut self.dropped, (now, rng));
        }
        // The bare request that was sent around to find out whether the NAT hairpins.
        let profiler = &mut self.whereabouts.profiler;
        socket == SocketId::MAIN
            && TransactionId::of(payload).is_some_and(|it| profiler.handle_hairpin(it))
    }

    fn signalled(&mut self, message: ServerV1, now: Instant) {
        match message {
            ServerV1::Welcome(welcome) => {
                self.whereabouts.welcome(&welcome, (now, &mut self.rng));
            }
            ServerV1::PeerCandidates { session, generation, candidates, address_proof } => {
                let Some(session) = self.sessions.get_mut(session) else { return };
                let is_news =
                    session.handle_candidates(generation, &candidates, address_proof, now);
                if is_news && session.is_linked() {
                    // The peer sees the path in trouble: perhaps it is this side that has moved.
                    self.whereabouts.discovery.refresh_now((now, &mut self.rng));
                }
            }
            ServerV1::Plan { session: id, plan } => {
                let Some(session) = self.sessions.get_mut(id) else { return };
                let before = session.plan.number;
                session.handle_plan(plan.clone(), now);
                if session.plan.number != before {
                    self.follow(id, &plan, now);
                }
            }
            ServerV1::PeerAccepted { session, number, ports } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.handle_accepted(number, ports, (now, &mut self.rng));
                }
            }
            ServerV1::SessionEnded { session, code, reason } => {
                if let Some(session) = self.sessions.get_mut(session) {
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

    fn offer(&mut self, offer: Offer, now: Instant) {
        let refusal = self.refusal(&offer);
        let too_many = || (!self.offers.take(OFFERS, now)).then_some(OfferRefusal::TooMany);
        if let Some(refusal) = refusal.or_else(too_many) {
            return self.refuse(refusal, now);
        }
        self.reporting.offered();
        self.baseline.begin(offer, &mut self.out, now);
    }

    fn refusal(&self, offer: &Offer) -> Option<OfferRefusal> {
        let ip = offer.endpoint.ip();
        let kind = AddressKind::of(ip);
        if offer.peer == self.config.own_id {
            Some(OfferRefusal::OwnId)
        } else if !ip.is_ipv4() {
            Some(OfferRefusal::NotIpv4(ip))
        } else if !kind.is_reachable_unicast() {
            Some(OfferRefusal::NotUnicast { ip, kind })
        } else if self.whereabouts.endpoint().is_none() {
            Some(OfferRefusal::NotReady { why: self.whereabouts.discovery.failure.clone() })
        } else {
            None
        }
    }

    /// An offer is not followed; a worker that is free asks for another.
    fn refuse(&mut self, refusal: OfferRefusal, now: Instant) {
        self.out.events.push_back(Event::OfferIgnored(refusal));
        if !self.baseline.has_peer() {
            self.reporting.failed((now, &mut self.rng));
        }
    }

    fn session_offer(&mut self, offer: Box<SessionOffer>, now: Instant) {
        let refusal = if offer.peer == self.config.own_id {
            Some(OfferRefusal::OwnId)
        } else if self.sessions.len() >= SESSIONS_MAX || !self.offers.take(OFFERS, now) {
            Some(OfferRefusal::TooMany)
        } else {
            None
        };
        let id = offer.details.session;
        if let Some(refusal) = refusal {
            self.out.events.push_back(Event::OfferIgnored(refusal));
            return self.signal(WorkerV1::Leave { session: id });
        }
        self.reporting.offered();
        let (plan, setting) = (offer.details.plan.clone(), self.whereabouts.setting());
        self.sessions.begin(offer, setting, &mut self.out.events, (now, &mut self.rng));
        self.follow(id, &plan, now);
    }

    /// Does what a plan wants beside checks.
    fn follow(&mut self, id: SessionId, plan: &Plan, now: Instant) {
        let profiler = &mut self.whereabouts.profiler;
        if plan.strategy == Strategy::TestReuse {
            profiler.test_reuse();
            // What is known already is told again: the rendezvous waits for it.
            profiler.forget_told();
        }
        let setting = SearchSetting {
            wish: self.config.search,
            allocation: profiler.profile().allocation,
            stun: profiler.server,
        };
        self.sessions.search(id, plan, setting, (now, &mut self.rng));
    }

    fn socket_opened(&mut self, socket: SocketId, local: SocketAddr, now: Instant) {
        let (profiler, rng) = (&mut self.whereabouts.profiler, &mut self.rng);
        match self.sockets.opened(socket) {
            Some(Owner::Profiler) => profiler.socket_opened(socket, local, (now, rng)),
            Some(Owner::Session(id)) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.socket_opened(socket, local, (now, rng));
                }
            }
            None => {}
        }
    }

    fn socket_failed(&mut self, socket: SocketId, now: Instant) {
        match self.sockets.remove(socket) {
            Some(Owner::Profiler) => {
                self.whereabouts.profiler.socket_failed((now, &mut self.rng));
            }
            Some(Owner::Session(id)) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.socket_failed((now, &mut self.rng));
                }
            }
            None => {}
        }
    }

    fn close_socket(&mut self, socket: SocketId) {
        let Some(owner) = self.sockets.remove(socket) else { return };
        if let Owner::Session(id) = owner
            && let Some(session) = self.sessions.get_mut(id)
        {
            session.socket_closed(socket);
        }
        self.out.events.push_back(Event::CloseSocket(socket));
    }

    /// Lets every part draw its conclusions, and drains them.
    fn settle(&mut self, now: Instant) {
        self.whereabouts.drain_discovery(&mut self.out);
        for event in self.baseline.settle(&mut self.out, (now, &mut self.rng)) {
            if let Event::LinkEstablished { .. } = event {
                self.reporting.linked();
            } else if let Event::LinkFailed { .. } = event {
                self.reporting.failed((now, &mut self.rng));
            } else if let Event::PeerLost(..) = event {
                self.reporting.lost();
            }
            self.out.events.push_back(event);
        }
        self.whereabouts.conclude(&mut self.out, (now, &mut self.rng));
        for _ in 0..self.whereabouts.profiler.take_wanted_sockets() {
            self.out.events.push_back(self.sockets.open(Owner::Profiler));
        }
        for socket in self.whereabouts.profiler.take_sockets_to_close() {
            self.close_socket(socket);
        }
        self.settle_sessions(now);
        self.whereabouts.tell_news(&mut self.out, now);
        self.whereabouts.drain_discovery(&mut self.out);
        if self.reporting.registered {
            self.whereabouts.tell_no_endpoint(&mut self.out, now);
        }
        if self.is_free()
            && let Some(wish) = self.reporting.due(self.whereabouts.wish(), now)
        {
            self.out.events.push_back(match wish {
                Wish::At(endpoint) => Event::Report(endpoint),
                Wish::Anywhere => Event::Signal(WorkerV1::Ready),
            });
        }
    }

    fn settle_sessions(&mut self, now: Instant) {
        for id in self.sessions.ids() {
            let rng = &mut self.rng;
            let settled = self.sessions.settle(id, &mut self.sockets, &mut self.out, (now, rng));
            if settled.in_vain {
                self.reporting.failed((now, rng));
            }
            if settled.alarm {
                self.whereabouts.discovery.refresh_now((now, rng));
                self.whereabouts.candidates_told = None;
            }
        }
        let uses = |socket, id| self.sessions.get(id).is_some_and(|it| it.uses(socket, now));
        let unused = self.sockets.iter().filter(|(socket, owner, is_open)| match owner {
            Owner::Profiler => false,
            Owner::Session(id) => *is_open && !uses(*socket, *id),
        });
        let unused: Vec<SocketId> = unused.map(|(socket, ..)| socket).collect();
        for socket in unused {
            self.close_socket(socket);
        }
    }
}
