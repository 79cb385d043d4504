//! One session: another worker, from the offer until one of the two leaves.
//!
//! Checks are STUN Binding requests in ICE's form (RFC 8445 §7), so that another ICE agent can be the
//! peer. What differs from ICE, and why:
//!
//! - All addresses are checked at once instead of one every 50 ms: there are few.
//! - An answer counts whatever address it comes from, if it proves itself: behind a NAT whose mapping
//!   depends on the destination, the ways of the two directions differ (RFC 8445 §7.2.5.2.1 would
//!   give such a path up).
//! - Each side sends on the best path that answers it; the controlling side's nomination is followed
//!   where it does.
//! - An idle path is checked every 9–10 s, which is keep-alive and consent (RFC 7675) at once.

mod addresses;
mod asymmetry;
mod checks;
mod follow;
#[cfg(debug_assertions)]
mod invariants;
mod keep;
mod paths;
mod peer;
mod remotes;
mod retry;
mod search;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::{Candidate, CandidateKind, bounded};
use holepunch_wire::check::{CheckKey, CheckRequest, IceRole};
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::plan::{PLANS_MAX, Plan, Strategy};
use holepunch_wire::rate::Bucket;
use holepunch_wire::session::{AddressProof, LinkState, SessionId};
use holepunch_wire::signal::v1::SessionOffer;
use holepunch_wire::stun::TransactionId;
use rand::RngExt;

use crate::doors::{
    Out, RelayState, SearchRefusal, SessionEvent, SessionFailure, SocketId, Transmit, Turn,
    WakeReason, WakeUp, earlier,
};
use checks::{Checks, SentCheck};
use keep::Keep;
use paths::Paths;
pub(crate) use paths::Route;
use peer::Nominating;
pub(crate) use peer::{PeerCheck, Source};
use remotes::Remotes;
use retry::Retry;
pub(crate) use search::{Prepared, SearchRun, opener};

/// An answer to the last check may take so long.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// Local addresses of a peer that is not behind the same NAT wait for so long: they hardly ever help,
/// and by then the rendezvous may know that nothing will.
const UNLIKELY_AFTER: Duration = Duration::from_millis(120);
/// Sockets on which the peer has been heard stay open for so long after that, whatever else has become
/// of the search that they were opened for: the peer may use a path to them.
const LINGER: Duration = Duration::from_secs(3);
/// How many of them do.
const LINGERING_MAX: usize = 16;

/// A plan that waits for a measurement does so for so long. The longest takes 1.3 s where timers are in time; one
/// of a busy machine, or one whose answers are lost, has ten times as much.
const MEASURED_WITHIN: Duration = Duration::from_secs(15);
/// Longest time that a plan holds packets back, in milliseconds.
const DELAY_MS_MAX: u32 = 1000;
/// How often all addresses are checked anew for a plan.
const RESTARTS_MAX: u32 = 2;

/// What the machine's other parts know when a session is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) has_v6: bool,
    /// The own public address.
    pub(crate) public_ip: Option<IpAddr>,
}

#[derive(Debug)]
enum Phase {
    /// No check has been answered yet.
    Checking,
    /// A path answers, or did so a moment ago.
    Linked(Keep),
    /// Nothing more is tried. The rendezvous may have another plan, but is not waited for beyond this.
    GaveUp { leave_at: Instant },
    /// It is over.
    Over,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) peer: WorkerId,
    role: IceRole,
    tie_breaker: u64,
    local: IceCredentials,
    remote: IceCredentials,
    pub(crate) local_key: CheckKey,
    pub(crate) remote_key: CheckKey,
    pub(crate) plan: Plan,
    pub(crate) proof: AddressProof,
    pub(crate) endpoint: Option<SocketAddr>,
    setting: Setting,
    generation: u32,
    started: Instant,
    /// When the first check was answered.
    linked_at: Option<Instant>,
    /// When the plan came that is followed now.
    planned: Instant,
    /// The peer's addresses, the newest set.
    candidates: Vec<Candidate>,
    remotes: Remotes,
    retry: Retry,
    checks: Checks,
    paths: Paths,
    phase: Phase,
    pub(crate) search: Option<SearchRun>,
    /// The route that the controlling peer has nominated and that has not answered yet.
    nominated: Option<Route>,
    /// The routes that the peer has nominated, and when last.
    nominations: BTreeMap<Route, Instant>,
    nominating: Option<Nominating>,
    answers: Bucket,
    triggered: Option<(Route, Instant)>,
    triggers: u32,
    conflicts: u32,
    /// How many new sources of checks are taken up.
    observations: Bucket,
    /// When the last packets of searches left, of whichever plan, and how many have in all.
    recent_shots: VecDeque<Instant>,
    shots: u32,
    probes: u32,
    plans: u32,
    restarts: u32,
    heard: u32,
    /// Fresh sockets on which the peer has been heard, and when last.
    heard_at: BTreeMap<SocketId, Instant>,
    /// The path has become suspect, and the machine has not been told yet.
    alarm: bool,
    /// What a relay does for the two.
    relay: RelayState,
    /// Why the search of a plan was not made, until the rendezvous is asked for another plan.
    pub(crate) refused: Option<SearchRefusal>,
    /// The plan that the peer is ready for, and what it announces.
    peer_accepted: Option<(u32, Vec<u16>)>,
    pub(crate) out: Out,
}

impl Session {
    pub(crate) fn new(
        mut offer: Box<SessionOffer>,
        setting: Setting,
        (now, rng): Turn<'_>,
    ) -> Self {
        be_patient(&mut offer.details.plan);
        let details = &offer.details;
        let mut session = Self {
            id: details.session,
            peer: offer.peer.clone(),
            role: details.role,
            tie_breaker: rng.random(),
            local_key: details.credentials.check_key(),
            remote_key: details.peer_credentials.check_key(),
            local: details.credentials.clone(),
            remote: details.peer_credentials.clone(),
            plan: details.plan.clone(),
            proof: details.address_proof,
            endpoint: offer.endpoint.filter(|endpoint| is_usable(*endpoint)),
            setting,
            generation: 0,
            started: now,
            linked_at: None,
            planned: now,
            candidates: bounded(details.candidates.clone()),
            remotes: Remotes::default(),
            retry: Retry::new(now),
            checks: Checks::default(),
            paths: Paths::default(),
            phase: Phase::Checking,
            search: None,
            nominated: None,
            nominations: BTreeMap::new(),
            nominating: None,
            answers: Bucket::default(),
            triggered: None,
            triggers: 0,
            conflicts: 0,
            observations: Bucket::default(),
            recent_shots: VecDeque::new(),
            shots: 0,
            probes: 0,
            plans: 1,
            restarts: 0,
            heard: 0,
            heard_at: BTreeMap::new(),
            alarm: false,
            relay: RelayState::Absent,
            refused: None,
            peer_accepted: None,
            out: Out::default(),
        };
        session.tell(SessionEvent::Started(offer));
        session.begin((now, rng));
        session
    }

    pub(crate) fn local_ufrag(&self) -> &str {
        self.local.ufrag().as_str()
    }

    pub(crate) fn is_linked(&self) -> bool {
        matches!(self.phase, Phase::Linked(_))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// What a relay does for the two, from now on.
    pub(crate) fn relayed(&mut self, relay: RelayState, now: Instant) {
        let begins = relay == RelayState::Serves && self.relay != RelayState::Serves;
        self.relay = relay;
        if begins && !self.is_linked() && !self.is_over() {
            // The rendezvous keeps what is in use for a worker that loses its connection.
            self.report(LinkState::Relayed, "the two talk through the relay".to_owned(), now);
        }
        if let Phase::GaveUp { leave_at } = &mut self.phase {
            *leave_at = (*leave_at).max(now + follow::LEAVE_AFTER_VERDICT);
        }
    }

    fn has_relay(&self) -> bool {
        self.relay != RelayState::Absent
    }

    /// Whether nothing has come of it, and has not been for long: the worker is to leave.
    pub(crate) fn wants_to_leave(&self, now: Instant) -> bool {
        !self.has_relay() && matches!(self.phase, Phase::GaveUp { leave_at } if leave_at <= now)
    }

    /// A socket is closed.
    pub(crate) fn socket_closed(&mut self, socket: SocketId) {
        self.heard_at.remove(&socket);
        self.paths.forget(socket);
        self.remotes.forget(socket);
        // A nomination is said again until it is answered, and no answer can come here any more.
        self.nominating.take_if(|nominating| nominating.route.socket == socket);
        self.nominated.take_if(|route| route.socket == socket);
    }

    /// Whether the path in use needs `socket`, or the search does, or the peer has just been heard on
    /// it: to the peer it may be the path.
    pub(crate) fn uses(&self, socket: SocketId, now: Instant) -> bool {
        let is_heard = self
            .heard_at
            .get(&socket)
            .is_some_and(|at| now.saturating_duration_since(*at) < LINGER);
        let is_path = self.paths.selected().is_some_and(|path| path.route.socket == socket);
        let searching = self.search.as_ref().is_some_and(|search| search.uses(socket));
        is_path || searching || is_heard
    }

    /// Takes note of the socket and the port of the peer's that a verified check has come by.
    fn hear(&mut self, route: Route, now: Instant) {
        self.heard = self.heard.saturating_add(1);
        if route.socket >= SocketId::FRESH_FIRST {
            self.heard_at.retain(|_, at| now.saturating_duration_since(*at) < LINGER);
            if self.heard_at.len() < LINGERING_MAX || self.heard_at.contains_key(&route.socket) {
                self.heard_at.insert(route.socket, now);
            }
        }
        if let Some(search) = &mut self.search {
            search.observe(route.to, now);
        }
    }

    /// Whether the peer is surely there: somebody vouches for it, or it has answered from there.
    pub(crate) fn vouches_for(&self, ip: IpAddr) -> bool {
        let is_proven = self.proof != AddressProof::None
            && self.endpoint.is_some_and(|endpoint| endpoint.ip() == ip);
        is_proven || self.paths.iter().any(|path| path.route.to.ip() == ip)
    }

    /// Whether a check with this number is out.
    pub(crate) fn awaits(&self, transaction: TransactionId) -> bool {
        self.checks.find(transaction).is_some()
    }

    fn send_check(
        &mut self,
        route: Route,
        nominating: bool,
        ttl: Option<u8>,
        (now, rng): Turn<'_>,
    ) {
        let transaction = TransactionId::from(rng.random::<u128>());
        let request = CheckRequest {
            transaction,
            remote_ufrag: self.remote.ufrag(),
            local_ufrag: self.local.ufrag(),
            priority: CandidateKind::PeerReflexive.priority(route.to.ip()),
            role: self.role,
            tie_breaker: self.tie_breaker,
            use_candidate: nominating && self.role == IceRole::Controlling,
        };
        let payload = request.encode(&self.remote_key);
        self.checks.sent(transaction, SentCheck { route, at: now, role: self.role, nominating });
        self.probes = self.probes.saturating_add(1);
        let ttl = ttl.map(|ttl| ttl.max(1));
        self.out.transmits.push_back(Transmit { socket: route.socket, to: route.to, payload, ttl });
    }

    pub(crate) fn handle_timeout(&mut self, (now, rng): Turn<'_>) {
        self.keep((now, rng));
        self.repeat_nomination((now, rng));
        self.retry(now);
        if matches!(self.phase, Phase::Checking | Phase::GaveUp { .. }) || self.is_suspect() {
            for route in self.remotes.due((now, rng)) {
                self.send_check(route, false, None, (now, rng));
            }
        }
        self.run_search((now, rng));
        if matches!(self.phase, Phase::Checking) && self.gives_up_at().is_some_and(|at| at <= now) {
            let failure = match (&self.search, self.heard) {
                (Some(search), _) if !search.has_begun() => SessionFailure::SearchUnready,
                (Some(_), _) => SessionFailure::SearchExhausted,
                (None, 0) => SessionFailure::Silence,
                (None, _) => SessionFailure::Unanswered,
            };
            self.fail(failure, now);
        }
    }

    /// When nothing more can come of what has been sent.
    fn gives_up_at(&self) -> Option<Instant> {
        match &self.search {
            Some(search) => search.ends_at(),
            None => {
                let checked = schedule_end(self.planned, self.plan.delay_ms);
                let measures = self.plan.strategy == Strategy::TestReuse;
                let measured = measures.then_some(self.planned + MEASURED_WITHIN);
                Some(measured.map_or(checked, |at| at.max(checked)))
            }
        }
    }

    fn is_suspect(&self) -> bool {
        matches!(&self.phase, Phase::Linked(keep) if keep.is_suspect())
    }

    pub(crate) fn poll_timeout(&self) -> Option<WakeUp> {
        let checks = self.remotes.poll_timeout().map(|at| (at, WakeReason::Check));
        let search = self.search.as_ref().and_then(SearchRun::poll_timeout);
        let search = search.map(|at| (at, WakeReason::Search));
        match &self.phase {
            Phase::Checking => {
                let end = self.gives_up_at().map(|at| (at, WakeReason::Check));
                earlier(checks, earlier(search, end))
            }
            Phase::GaveUp { leave_at } => {
                let leave = (!self.has_relay()).then_some((*leave_at, WakeReason::Check));
                let retry = self.retry_at().map(|at| (at, WakeReason::Check));
                earlier(checks, earlier(leave, retry))
            }
            Phase::Linked(keep) => {
                let nomination = self.nominating.map(|it| it.next_at);
                let consent = keep.poll_timeout(self.has_relay());
                let consent = nomination.map_or(consent, |at| at.min(consent));
                let consent = Some((consent, WakeReason::Consent));
                let checks = checks.filter(|_| keep.is_suspect());
                earlier(checks, earlier(search, consent))
            }
            Phase::Over => None,
        }
    }
}

/// Takes an unreasonable delay from a plan: a session that waits keeps the worker from other peers.
fn be_patient(plan: &mut Plan) {
    plan.delay_ms = plan.delay_ms.min(DELAY_MS_MAX);
}

/// Whether one single host could be at an endpoint.
fn is_usable(endpoint: SocketAddr) -> bool {
    endpoint.port() != 0 && AddressKind::of(endpoint.ip()).is_reachable_unicast()
}

/// When an answer to the last check of the schedule has had its time.
fn schedule_end(started: Instant, delay_ms: u32) -> Instant {
    started
        + Duration::from_millis(u64::from(delay_ms))
        + crate::schedule::PING_UNTIL
        + ANSWER_GRACE
}
