//! The machine of one UDP socket: it hands each input to the part that it is for, and settles what
//! follows.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::Candidate;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::probe::{Ping, Pong, Probe, ProbeError};
use holepunch_wire::rate::Bucket;
use holepunch_wire::session::{OFFERS, SessionId};
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::WorkerV1;
use holepunch_wire::stun;
use rand::rngs::StdRng;

use crate::answers::{EarlyPings, STRANGERS};
use crate::budget::{SearchHistory, Unproven};
use crate::discovery::{Discovery, RetryBounds};
use crate::doors::{
    Config, Dropped, Event, Input, OfferRefusal, SessionStatus, SocketId, StunServer, Surroundings,
    Transmit, WakeReason, earlier,
};
use crate::ipv6::Ipv6;
use crate::no_endpoint::Missing;
use crate::pairing::Pairing;
use crate::profile::Profiler;
use crate::reporting::{Reporting, Wish};
use crate::session::Session;
use crate::v1::Owner;

/// Why there is nobody to ask for an endpoint where servers have been found.
const NONE_BY_IPV4: &str = "no STUN server can be asked by IPv4";

/// Discovery, punching and keep-alive for one UDP socket.
#[derive(Debug)]
pub struct Traversal {
    pub(crate) config: Config,
    pub(crate) rng: StdRng,
    pub(crate) discovery: Discovery,
    pub(crate) reporting: Reporting,
    pairing: Option<Pairing>,
    strangers: Bucket,
    pub(crate) offers: Bucket,
    early: EarlyPings,
    /// Whether the rendezvous speaks `holepunch.v1`.
    pub(crate) v1: bool,
    pub(crate) surroundings: Surroundings,
    pub(crate) profiler: Profiler,
    pub(crate) ipv6: Ipv6,
    /// The candidates that the rendezvous knows, and the number of their set.
    pub(crate) candidates_told: Option<Vec<Candidate>>,
    pub(crate) generation: u32,
    /// What has been told last of the want of an endpoint, and when.
    pub(crate) told_no_endpoint: Option<(Missing, Instant)>,
    /// Boxed: a node of the map has room for eleven.
    pub(crate) sessions: BTreeMap<SessionId, Box<Session>>,
    pub(crate) searches: SearchHistory,
    /// What has been sent to addresses without proof.
    pub(crate) unproven: Unproven,
    /// The session whose search was counted last, and its target: further plans are the same search.
    pub(crate) searched: Option<(SessionId, IpAddr)>,
    /// The sockets that come and go: whose they are, and whether they are open.
    pub(crate) sockets: BTreeMap<SocketId, (Owner, bool)>,
    pub(crate) next_socket: SocketId,
    pub(crate) dropped: Dropped,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
}

impl Traversal {
    /// A machine that starts with discovery. `rng` makes transaction ids, so it must be seeded from
    /// the operating system outside of tests.
    #[must_use]
    pub fn new(config: Config, rng: StdRng) -> Self {
        let bounds =
            RetryBounds { retries_max: config.stun_retries_max, delay: config.stun_retry_delay };
        let profiler = Profiler::new(config.profile, config.search);
        let mut machine = Self {
            config,
            rng,
            discovery: Discovery::new(bounds),
            reporting: Reporting::default(),
            pairing: None,
            strangers: Bucket::default(),
            offers: Bucket::default(),
            early: EarlyPings::default(),
            v1: false,
            surroundings: Surroundings::default(),
            ipv6: Ipv6::default(),
            profiler,
            candidates_told: None,
            generation: 0,
            told_no_endpoint: None,
            sessions: BTreeMap::new(),
            searches: SearchHistory::default(),
            unproven: Unproven::default(),
            searched: None,
            sockets: BTreeMap::new(),
            next_socket: SocketId::FRESH_FIRST,
            dropped: Dropped::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        machine.drain_discovery();
        machine
    }

    /// Takes what happened.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Datagram { socket, from, payload } => {
                self.datagram(socket, from, payload, now);
            }
            Input::Resolved(servers) => {
                self.resolved(servers, now);
            }
            Input::Registered => {
                self.reporting.registered();
                self.discovery.revive();
            }
            Input::Unregistered => {
                self.reporting.unregistered();
                self.v1 = false;
            }
            Input::Offer(offer) => self.offer(offer, now),
            Input::BadOffer(why) => self.refuse(OfferRefusal::Malformed(why), now),
            Input::Surroundings(surroundings) => self.surroundings(surroundings, now),
            Input::SocketOpened(socket, local) => self.socket_opened(socket, local, now),
            Input::SocketFailed(socket) => self.socket_failed(socket, now),
            Input::SessionOffer(offer) => self.session_offer(*offer, now),
            Input::V1(message) => self.signalled(*message, now),
            Input::Leave(session) => self.leave(session),
            Input::Relayed(session, relay) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.relayed(relay, now);
                }
            }
            Input::Doubt(session) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.doubt(now);
                }
            }
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.discovery.handle_timeout(now, &mut self.rng);
        self.settle(now);
        // A driver that is told to call again at once never gets to anything else.
        debug_assert!(self.poll_timeout().is_none_or(|(at, _)| at > now), "nothing is left to do");
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let pairing = self.pairing.as_ref().and_then(Pairing::poll_timeout);
        // A report that waits is due when the pairing ends and there is something to say, not before.
        let may_report = self.is_free() && self.wish().is_some();
        let report = self.reporting.poll_timeout().filter(|_| may_report);
        let profile =
            self.profiler.poll_timeout().into_iter().chain(self.ipv6.poll_timeout()).min();
        let profile = profile.map(|at| (at, WakeReason::Profile));
        let sessions = self.sessions.values().filter_map(|session| session.poll_timeout()).min();
        let v1 = earlier(profile, sessions);
        earlier(v1, earlier(self.discovery.poll_timeout(), earlier(pairing, report)))
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The NAT profile as far as it is known.
    #[must_use]
    pub fn profile(&self) -> &NatProfile {
        self.profiler.profile()
    }

    /// Whether the profile holds all that can be learnt within a second: for somebody who waits for it
    /// once the servers have answered.
    #[must_use]
    pub fn profile_is_settled(&self) -> bool {
        self.profiler.is_settled() && !self.ipv6.is_asking()
    }

    /// How every session stands.
    pub fn sessions(&self, now: Instant) -> impl Iterator<Item = SessionStatus> + '_ {
        self.sessions.values().map(move |session| session.status(now))
    }

    /// Datagrams dropped so far, by reason.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Whether the worker has no peer.
    fn is_free(&self) -> bool {
        self.pairing.is_none() && self.sessions.is_empty()
    }

    fn datagram(&mut self, socket: SocketId, from: SocketAddr, payload: &[u8], now: Instant) {
        let is_own = socket < SocketId::FRESH_FIRST;
        if !is_own && !self.sockets.contains_key(&socket) {
            // It was read before the socket was closed.
            self.dropped.unknown += 1;
            return;
        }
        if stun::looks_like_stun(payload) {
            let expected = self.stun(socket, from, payload, now);
            self.dropped.stray_stun += u64::from(!expected);
            return;
        }
        if socket != SocketId::MAIN {
            self.dropped.unknown += 1;
            return;
        }
        match Probe::parse(payload) {
            Ok(Probe::Ping(ping)) => self.ping(from, &ping, now),
            Ok(Probe::Pong(pong)) => self.pong(from, &pong, now),
            Err(ProbeError::NotAProbe) => self.dropped.unknown += 1,
            Err(ProbeError::NotUtf8 | ProbeError::IdTooLong | ProbeError::NumberTooLong) => {
                self.dropped.malformed_probe += 1;
            }
        }
    }

    fn ping(&mut self, from: SocketAddr, ping: &Ping<'_>, now: Instant) {
        if let Some(pairing) = &mut self.pairing
            && pairing.peer().as_str() == ping.from
            && pairing.handle_ping(from, ping, now)
        {
            return;
        }
        self.early.remember(ping.from, from, now);
        if !self.strangers.take(STRANGERS, now) {
            self.dropped.rate_limited += 1;
            return;
        }
        let payload = ping.answer(self.config.own_id.as_str());
        self.transmits.push_back(Transmit::new(from, payload));
        self.events.push_back(Event::StrangerPing(ping.from.to_owned(), from));
    }

    fn pong(&mut self, from: SocketAddr, pong: &Pong<'_>, now: Instant) {
        let pairing = self.pairing.as_mut();
        let counts =
            pairing.is_some_and(|pairing| pairing.handle_pong(from, pong, now, &mut self.rng));
        self.dropped.stray_pong += u64::from(!counts);
    }

    fn offer(&mut self, offer: Offer, now: Instant) {
        let refusal = self.refusal(&offer);
        let too_many = || (!self.offers.take(OFFERS, now)).then_some(OfferRefusal::TooMany);
        if let Some(refusal) = refusal.or_else(too_many) {
            return self.refuse(refusal, now);
        }
        if let Some(replaced) = self.pairing.as_mut().and_then(Pairing::replace) {
            self.events.push_back(replaced);
        }
        self.reporting.offered();
        let early = self.early.take(offer.peer.as_str(), now);
        self.pairing = Some(Pairing::new(self.config.own_id.clone(), offer, &early, now));
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
        } else if self.discovery.endpoint().is_none() {
            let why = self.discovery.last_failure().map(str::to_owned);
            Some(OfferRefusal::NotReady { why })
        } else {
            None
        }
    }

    /// An offer is not followed; a worker that is free asks for another.
    fn refuse(&mut self, refusal: OfferRefusal, now: Instant) {
        self.events.push_back(Event::OfferIgnored(refusal));
        if self.pairing.is_none() {
            self.reporting.failed(now, &mut self.rng);
        }
    }

    /// Servers of IPv4 show the endpoint; those of IPv6 whether UDP gets out by it, and a candidate.
    fn resolved(&mut self, resolved: Result<Vec<StunServer>, String>, now: Instant) {
        let resolved = resolved.and_then(|servers| {
            let is_ipv6 = |server: &StunServer| server.address.is_ipv6();
            let (of_ipv6, of_ipv4): (Vec<_>, Vec<_>) = servers.into_iter().partition(is_ipv6);
            let is_missing = of_ipv4.is_empty() && !of_ipv6.is_empty();
            if self.surroundings.main_v6.is_some() {
                self.ipv6.configure(of_ipv6, now, &mut self.rng);
                self.conclude_ipv6();
            }
            if is_missing { Err(NONE_BY_IPV4.to_owned()) } else { Ok(of_ipv4) }
        });
        self.discovery.handle_resolved(resolved, now, &mut self.rng);
    }

    /// Lets every part draw its conclusions, and drains them.
    fn settle(&mut self, now: Instant) {
        self.drain_discovery();
        if let Some(pairing) = &mut self.pairing {
            pairing.handle_timeout(now, &mut self.rng);
            while let Some(transmit) = pairing.poll_transmit() {
                self.transmits.push_back(transmit);
            }
            while let Some(event) = pairing.poll_event() {
                if let Event::LinkEstablished { .. } = event {
                    self.reporting.linked();
                } else if let Event::LinkFailed { .. } = event {
                    self.reporting.failed(now, &mut self.rng);
                } else if let Event::PeerLost(..) = event {
                    self.reporting.lost();
                }
                self.events.push_back(event);
            }
        }
        self.pairing.take_if(|pairing| pairing.is_over());
        self.settle_v1(now);
        self.drain_discovery();
        self.tell_no_endpoint(now);
        if self.is_free()
            && let Some(wish) = self.reporting.due(self.wish(), now)
        {
            self.events.push_back(match wish {
                Wish::At(endpoint) => Event::Report(endpoint),
                Wish::Anywhere => Event::Signal(WorkerV1::Ready),
            });
        }
    }

    fn drain_discovery(&mut self) {
        while let Some(transmit) = self.discovery.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        while let Some(mut event) = self.discovery.poll_event() {
            // The first attempt may fail for want of a server alone; the rendezvous may name one, unless
            // its welcome has been here.
            let is_silent = matches!(
                event,
                Event::StunSilent(..)
                    | Event::DiscoveryFailed { attempt: 2.., .. }
                    | Event::DiscoveryFailed { retry_in: None, .. }
            ) || self.v1 && matches!(event, Event::DiscoveryFailed { .. });
            if is_silent && self.discovery.endpoint().is_none() {
                self.profiler.silent_by_ipv4();
            }
            if let Event::DiscoveryFailed { ipv6, .. } = &mut event {
                *ipv6 = self.ipv6.is_open() || self.ipv6.gets_out() == Some(true);
            }
            self.events.push_back(event);
        }
    }
}
