//! The machine: connections in, offers out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::plan::truncate;
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::signal::{FromWorker, RawValue, ServerMessage};
use rand::rngs::StdRng;

use crate::bindings::Bindings;
use crate::connection::Connection;
use crate::doors::{
    Action, Closing, Config, ConnectionId, Event, Input, LeaveReason, News, Transmit, Worker,
};
use crate::liveness::{Liveness, WakeReason};
use crate::places::Places;
use crate::plan::Planner;
use crate::proof::Pending;
use crate::queue::Place;
use crate::reach;
use crate::registry::Arrival;
use crate::room::Rooms;
use crate::session::Session;
use crate::waiting::Waiting;

/// WebSocket close code (RFC 6455 §7.4.1).
const CLOSE_INTERNAL: u16 = 1011;

/// Longest reason for an ignored message, in bytes: it may quote the message.
const IGNORED_BYTES_MAX: usize = 200;

/// The pairing machine of one rendezvous.
#[derive(Debug)]
pub struct Matchmaker {
    pub(crate) config: Config,
    pub(crate) rng: StdRng,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) current: BTreeMap<WorkerId, ConnectionId>,
    pub(crate) pending: Pending,
    pub(crate) bindings: Bindings,
    pub(crate) places: Places,
    pub(crate) rooms: Rooms,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) planner: Planner,
    next_place: u64,
    pub(crate) deadlines: BTreeSet<(Instant, ConnectionId)>,
    /// Those who wait, and may be matched with a former peer again from then on.
    pub(crate) rematches: BTreeSet<(Instant, ConnectionId)>,
    /// Workers that others wait for who have called them from other rooms, and when it is the next one's turn.
    pub(crate) lines: BTreeSet<(Instant, ConnectionId)>,
    /// Sessions with an end that is gone, and until when it may come back.
    pub(crate) waiting: Waiting,
    /// When the machine was told what the wall clock shows, and that.
    pub(crate) wall_clock: Option<(Instant, Duration)>,
    /// The server stops: nobody registers any more.
    pub(crate) ended: bool,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
}

impl Matchmaker {
    /// A machine without connections. `rng` makes credentials, so it must be seeded from the operating
    /// system outside of tests.
    #[must_use]
    pub fn new(config: Config, rng: StdRng) -> Self {
        Self {
            config,
            rng,
            connections: BTreeMap::new(),
            current: BTreeMap::new(),
            pending: Pending::default(),
            bindings: Bindings::default(),
            places: Places::default(),
            rooms: Rooms::default(),
            sessions: BTreeMap::new(),
            planner: Planner::default(),
            next_place: 0,
            deadlines: BTreeSet::new(),
            rematches: BTreeSet::new(),
            lines: BTreeSet::new(),
            waiting: Waiting::default(),
            wall_clock: None,
            ended: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes what happened on a socket.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        if let Input::WallClock { unix } = input {
            // Before what is due, which may need it; it comes with every call, which sees to what is due by itself.
            self.wall_clock = Some((now, unix));
            return;
        }
        self.handle_timeout(now);
        match input {
            Input::Connected { connection, worker, observed, protocol, room, challenge } => {
                let arrival = Arrival { worker, observed, protocol, room, challenge };
                self.connected(connection, arrival, now);
            }
            Input::Message { connection, message, proved } => {
                if self.check_key(connection, &message, proved, now) {
                    self.message(connection, message, now);
                }
            }
            Input::Pong { connection } => self.pong(connection, now),
            Input::Relay { session, end, is_open } => {
                self.relay_changed(session, end, is_open, now);
            }
            Input::Closed { connection, closing } => {
                let why = match closing {
                    Closing::Broken => LeaveReason::Closed,
                    Closing::Goodbye | Closing::OfferUnsent => LeaveReason::Goodbye,
                };
                let paired = self.forget(connection, why, now).and_then(|gone| gone.paired);
                if let (Closing::OfferUnsent, Some((peer, _))) = (closing, paired) {
                    self.requeue(peer, connection, now);
                }
            }
            Input::WallClock { .. } => {}
            Input::Shutdown => self.shutdown(now),
        }
    }

    /// Pings, holds back or ends the connections whose time has come, and matches those who wait for a
    /// former peer.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_proofs(now);
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(entry) = self.connections.get_mut(&id) else { continue };
            match entry.liveness.deadline().1 {
                WakeReason::Ping => self.ping(id, now),
                WakeReason::PingOverdue => self.hold_back(id),
                WakeReason::PingTimeout => {
                    let reason = "keepalive ping timeout";
                    self.close(id, CLOSE_INTERNAL, reason, LeaveReason::PingTimeout, now);
                }
                WakeReason::Rematch
                | WakeReason::CallerTurn
                | WakeReason::SessionExpiry
                | WakeReason::ProofTimeout => {}
            }
        }
        while let Some(&(at, id)) = self.rematches.first()
            && at <= now
        {
            self.rematches.pop_first();
            self.pair(id, now);
            self.mesh(id, now);
        }
        while let Some(&(at, called)) = self.lines.first()
            && at <= now
        {
            self.lines.pop_first();
            self.serve_line(called, now);
        }
        while let Some(session) = self.waiting.pop_due(now) {
            self.expire(session, now);
        }
        // A driver that is told to call again at once never gets to anything else.
        debug_assert!(self.poll_timeout().is_none_or(|(at, _)| at > now), "nothing is left to do");
    }

    /// The next thing to do.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let due = self.deadlines.first().and_then(|(_, id)| self.connections.get(id));
        let due = due.map(|entry| entry.liveness.deadline());
        let rematch = self.rematches.first().map(|(at, _)| (*at, WakeReason::Rematch));
        let turn = self.lines.first().map(|(at, _)| (*at, WakeReason::CallerTurn));
        let expiry = self.waiting.first().map(|at| (at, WakeReason::SessionExpiry));
        let proof = self.pending.first().map(|(at, _)| (at, WakeReason::ProofTimeout));
        due.into_iter()
            .chain(rematch)
            .chain(turn)
            .chain(expiry)
            .chain(proof)
            .min_by_key(|(at, _)| *at)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every registered worker, by connection.
    pub fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        self.connections.values().map(Connection::seen)
    }

    /// Every registered worker behind this id, or every one at all, by id.
    pub fn workers_after(&self, id: Option<&WorkerId>) -> impl Iterator<Item = Worker<'_>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let current = self.current.range::<WorkerId, _>((from, Bound::Unbounded));
        current.filter_map(|(_, id)| self.connections.get(id)).map(Connection::seen)
    }

    /// How many workers are registered, and how many of them wait for a peer.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.connections.len(), self.rooms.ready_count())
    }

    /// The workers that wait for a peer, room by room, the longest waiter first.
    pub fn ready(&self) -> impl Iterator<Item = &WorkerId> {
        self.rooms.ready().filter_map(|id| Some(&self.connections.get(&id)?.worker))
    }

    fn message(&mut self, id: ConnectionId, message: FromWorker<'_>, now: Instant) {
        if self.pending.get(id).is_some() {
            return self.ignore(id, "a message before the proof of the key".to_owned());
        }
        let Some(entry) = self.connections.get_mut(&id) else { return };
        match message {
            FromWorker::RegisterPublicIp(Some(ip)) => {
                if entry.http_ip.replace(ip) != Some(ip) && entry.is_told(now) {
                    self.events.push_back(Event::PublicIp(entry.worker.clone(), ip));
                }
            }
            FromWorker::RegisterPublicIp(None) => {
                self.ignore(id, "register_public_ip without a valid `ip`".to_owned());
            }
            FromWorker::UpdateUdpEndpoint(report) => {
                let checked = report.map_err(|error| error.to_string()).and_then(|endpoint| {
                    let allow = self.config.allow_private;
                    let proven = entry.v1.as_ref().and_then(|v1| v1.proven);
                    reach::check(endpoint, entry.observed.ip, proven, allow)
                        .map(|()| endpoint)
                        .map_err(|refusal| refusal.to_string())
                });
                self.report(id, checked, now);
            }
            FromWorker::EchoRequest(payload) => {
                let answer = echo_response(&entry.worker, payload);
                self.send(id, answer);
            }
            FromWorker::GetMyDetails => self.details(id),
            FromWorker::V1(message) => self.v1_message(id, message, now),
            FromWorker::Unknown(kind) => {
                let shown: String = kind.chars().take(40).collect();
                self.ignore(id, format!("unknown message type {shown:?}"));
            }
        }
    }

    fn report(&mut self, id: ConnectionId, checked: Result<SocketAddr, String>, now: Instant) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let endpoint = match checked {
            Ok(endpoint) => endpoint,
            Err(detail) => {
                let before = entry.reports_refused;
                entry.reports_refused = before.saturating_add(1);
                let worker = entry.worker.clone();
                self.events.push_back(Event::ReportRefused(worker, detail.clone(), before));
                self.send(id, ServerMessage::ack(Some(detail)).encode());
                return;
            }
        };
        let is_news = entry.endpoint.replace(endpoint) != Some(endpoint) || entry.place.is_none();
        self.send(id, ServerMessage::ack(None).encode());
        self.wants_peer(id, is_news, now);
    }

    /// The worker asks for a peer: it gets a place in the queue, unless it has one.
    pub(crate) fn wants_peer(&mut self, id: ConnectionId, is_news: bool, now: Instant) {
        let next = Place(self.next_place + 1);
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if entry.is_shown_out() {
            // Its report comes after the hello by which it was shown out: those in the room without a name are not
            // whom it wants.
            return;
        }
        if entry.is_engaged() && entry.place.is_none() {
            // It tells where it is to be found now, and has a peer.
            return self.mesh(id, now);
        }
        if self.rooms.find(&entry.room).is_some_and(|room| room.mode() != RoomMode::Pair) {
            if let Some(v1) = &mut entry.v1 {
                v1.wants_peers = true;
            }
            return self.mesh(id, now);
        }
        if entry.place.is_none() {
            self.next_place = next.0;
            entry.place = Some(next);
        }
        let is_told = is_news && entry.is_told(now);
        self.enqueue(id, is_told);
        self.pair(id, now);
    }

    pub(crate) fn ping(&mut self, id: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        entry.pinged_at = Some(now);
        self.transmits.push_back(Transmit { connection: id, action: Action::Ping });
        let liveness = Liveness::pinged(now, self.config.ping_timeout);
        self.set_liveness(id, liveness);
    }

    fn pong(&mut self, id: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if matches!(entry.liveness, Liveness::Quiet { .. }) {
            return; // Unasked: RFC 6455 §5.5.3 allows it, and it says nothing about our ping.
        }
        if let Some(at) = entry.pinged_at.take() {
            entry.rtt = Some(now.saturating_duration_since(at));
        }
        let (was_overdue, waits) = (entry.is_overdue(), entry.place.is_some());
        self.set_liveness(id, Liveness::quiet(now, self.config.ping_interval));
        if was_overdue && waits {
            self.enqueue(id, false);
            self.pair(id, now);
        }
    }

    /// A ping is overdue: keeps the place, but nobody is paired with this worker.
    fn hold_back(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let Liveness::Pinged { gone_at, .. } = entry.liveness else { return };
        let (place, room) = (entry.place, entry.room.clone());
        self.events.push_back(Event::PingOverdue(entry.worker.clone()));
        if let (Some(place), Some(room)) = (place, self.rooms.find_mut(&room)) {
            room.ready.remove(place);
        }
        self.set_liveness(id, Liveness::Overdue { gone_at });
    }

    fn set_liveness(&mut self, id: ConnectionId, liveness: Liveness) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        self.deadlines.remove(&(entry.liveness.deadline().0, id));
        entry.liveness = liveness;
        self.deadlines.insert((liveness.deadline().0, id));
    }

    fn details(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get(&id) else { return };
        let answer = ServerMessage::MyDetailsResponse {
            worker_id: entry.worker.as_str(),
            registered_ip: Some(entry.http_ip.unwrap_or(entry.observed.ip)),
            registered_port: entry.observed.port,
            udp_ip: entry.endpoint.map(|endpoint| endpoint.ip()),
            udp_port: entry.endpoint.map(|endpoint| endpoint.port()),
            message: "These are the details that the rendezvous has of this worker.",
        };
        let answer = answer.encode();
        self.send(id, answer);
    }

    pub(crate) fn ignore(&mut self, id: ConnectionId, mut why: String) {
        let entry = self.connections.get_mut(&id).or_else(|| self.pending.get_mut(id));
        let Some(entry) = entry else { return };
        truncate(&mut why, IGNORED_BYTES_MAX);
        let event = Event::MessageIgnored(entry.worker.clone(), why, entry.ignored);
        entry.ignored = entry.ignored.saturating_add(1);
        self.events.push_back(event);
    }

    pub(crate) fn send_update(
        &mut self,
        connection: ConnectionId,
        about: (SessionId, News),
        message: &ServerV1,
    ) {
        let action = Action::Update(about.0, about.1, message.encode());
        self.transmits.push_back(Transmit { connection, action });
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, text: String) {
        self.transmits.push_back(Transmit { connection, action: Action::Send(text) });
    }
}

/// The answer of the rendezvous to an `echo_request` of `worker`. It needs nothing of the machine's
/// state, so a server may answer without it.
#[must_use]
pub fn echo_response(worker: &WorkerId, payload: Option<&RawValue>) -> String {
    let answer = ServerMessage::EchoResponse {
        original_payload: payload,
        processed_by_rendezvous: format!("echo for worker {worker}"),
    };
    answer.encode()
}
