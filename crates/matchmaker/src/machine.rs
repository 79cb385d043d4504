//! The machine: sessions in, offers out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::signal::{FromWorker, REPLACED_REASON, RawValue, ServerMessage};

use crate::doors::{
    Action, Config, Event, Input, LeaveReason, Observed, SessionId, Transmit, Worker,
};
use crate::liveness::{Liveness, WakeReason};
use crate::queue::{Place, ReadyQueue};
use crate::reach;

/// WebSocket close codes (RFC 6455 §7.4.1).
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_GOING_AWAY: u16 = 1001;
const CLOSE_INTERNAL: u16 = 1011;
const CLOSE_TRY_AGAIN: u16 = 1013;

const SHUTDOWN_REASON: &str = "server is shutting down";

#[derive(Debug)]
struct Session {
    worker: WorkerId,
    observed: Observed,
    http_ip: Option<IpAddr>,
    endpoint: Option<SocketAddr>,
    /// Its place in the queue; kept, but not in the queue, while a ping is overdue.
    place: Option<Place>,
    /// The last pairing: with whom, and from which place.
    paired: Option<(SessionId, Place)>,
    liveness: Liveness,
    ignored: u32,
}

impl Session {
    fn is_overdue(&self) -> bool {
        matches!(self.liveness, Liveness::Overdue { .. })
    }
}

/// The pairing machine of one rendezvous.
#[derive(Debug)]
pub struct Matchmaker {
    config: Config,
    sessions: BTreeMap<SessionId, Session>,
    current: BTreeMap<WorkerId, SessionId>,
    ready: ReadyQueue,
    deadlines: BTreeSet<(Instant, SessionId)>,
    /// The server stops: nobody registers any more.
    ended: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Matchmaker {
    /// A machine without sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            sessions: BTreeMap::new(),
            current: BTreeMap::new(),
            ready: ReadyQueue::default(),
            deadlines: BTreeSet::new(),
            ended: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether there is room for `worker`; an id that is connected replaces its own session.
    #[must_use]
    pub fn admits(&self, worker: &WorkerId) -> bool {
        self.sessions.len() < self.config.workers_max || self.current.contains_key(worker)
    }

    /// Takes what happened on a socket.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        self.handle_timeout(now);
        match input {
            Input::Connected { session, worker, observed } => {
                self.connected(session, worker, observed, now);
            }
            Input::Message { session, message } => self.message(session, message),
            Input::Pong { session } => self.pong(session, now),
            Input::Closed { session, offer_unsent } => {
                let paired = self.forget(session, LeaveReason::Closed).and_then(|gone| gone.paired);
                if let (true, Some((peer, _))) = (offer_unsent, paired) {
                    self.requeue(peer, session);
                }
            }
            Input::Shutdown => self.shutdown(),
        }
    }

    /// Pings, holds back or ends the sessions whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, session)) = self.deadlines.first() {
            if at > now {
                return;
            }
            self.deadlines.pop_first();
            let Some(entry) = self.sessions.get_mut(&session) else { continue };
            match entry.liveness.deadline().1 {
                WakeReason::Ping => {
                    self.transmits.push_back(Transmit { session, action: Action::Ping });
                    let liveness = Liveness::pinged(now, self.config.ping_timeout);
                    self.set_liveness(session, liveness);
                }
                WakeReason::PingOverdue => self.hold_back(session),
                WakeReason::PingTimeout => {
                    let reason = "keepalive ping timeout";
                    self.close(session, CLOSE_INTERNAL, reason, LeaveReason::PingTimeout);
                }
            }
        }
    }

    /// The next thing to do.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let (_, session) = self.deadlines.first()?;
        self.sessions.get(session).map(|entry| entry.liveness.deadline())
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every registered worker, by session.
    pub fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        self.sessions.values().map(|session| Worker {
            id: &session.worker,
            observed: session.observed,
            http_ip: session.http_ip,
            endpoint: session.endpoint,
        })
    }

    /// The workers that wait for a peer, the longest waiter first.
    pub fn ready(&self) -> impl Iterator<Item = &WorkerId> {
        self.ready.sessions().filter_map(|session| Some(&self.sessions.get(&session)?.worker))
    }

    fn connected(&mut self, id: SessionId, worker: WorkerId, observed: Observed, now: Instant) {
        // Both may have changed since the WebSocket was asked for.
        if self.ended {
            return self.send_close(id, CLOSE_GOING_AWAY, SHUTDOWN_REASON);
        }
        if !self.admits(&worker) {
            return self.send_close(id, CLOSE_TRY_AGAIN, "too many workers");
        }
        if let Some(&old) = self.current.get(&worker) {
            self.close(old, CLOSE_NORMAL, REPLACED_REASON, LeaveReason::Replaced);
        }
        self.current.insert(worker.clone(), id);
        self.events.push_back(Event::Registered(worker.clone(), observed));
        let liveness = Liveness::quiet(now, self.config.ping_interval);
        self.deadlines.insert((liveness.deadline().0, id));
        let session = Session {
            worker,
            observed,
            http_ip: None,
            endpoint: None,
            place: None,
            paired: None,
            liveness,
            ignored: 0,
        };
        self.sessions.insert(id, session);
    }

    fn message(&mut self, id: SessionId, message: FromWorker<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match message {
            FromWorker::RegisterPublicIp(Some(ip)) => {
                if session.http_ip.replace(ip) != Some(ip) {
                    self.events.push_back(Event::PublicIp(session.worker.clone(), ip));
                }
            }
            FromWorker::RegisterPublicIp(None) => {
                self.ignore(id, "register_public_ip without a valid `ip`".to_owned());
            }
            FromWorker::UpdateUdpEndpoint(report) => {
                let checked = report.map_err(|error| error.to_string()).and_then(|endpoint| {
                    let allow = self.config.allow_private;
                    reach::check(endpoint, session.observed.ip, allow)
                        .map(|()| endpoint)
                        .map_err(|refusal| refusal.to_string())
                });
                self.report(id, checked);
            }
            FromWorker::EchoRequest(payload) => {
                let answer = echo_response(&session.worker, payload);
                self.send(id, answer);
            }
            FromWorker::GetMyDetails => self.details(id),
            FromWorker::Unknown(kind) => {
                let shown: String = kind.chars().take(40).collect();
                self.ignore(id, format!("unknown message type {shown:?}"));
            }
        }
    }

    fn report(&mut self, id: SessionId, checked: Result<SocketAddr, String>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let endpoint = match checked {
            Ok(endpoint) => endpoint,
            Err(detail) => {
                self.events.push_back(Event::ReportRefused(session.worker.clone(), detail.clone()));
                self.send(id, ServerMessage::ack(Some(detail)).encode());
                return;
            }
        };
        let is_news =
            session.endpoint.replace(endpoint) != Some(endpoint) || session.place.is_none();
        let place = *session.place.get_or_insert_with(|| self.ready.new_place());
        let worker = session.worker.clone();
        if !session.is_overdue() {
            self.ready.insert(place, id, endpoint);
        }
        if is_news {
            self.events.push_back(Event::Queued { worker, endpoint, waiting: self.ready.len() });
        }
        self.send(id, ServerMessage::ack(None).encode());
        self.pair(place, id);
    }

    /// Pairs the holder of `place` with the longest waiter that suits, if there is one.
    fn pair(&mut self, place: Place, id: SessionId) {
        let Some((other_place, other)) = self.ready.partner(place) else { return };
        let mut pair = [(place, id), (other_place, other)];
        pair.sort_unstable();
        let [(first_place, first), (second_place, second)] = pair;
        self.ready.remove(first_place);
        self.ready.remove(second_place);
        let (Some(first_id), Some(second_id)) =
            (self.offer(first, first_place, second), self.offer(second, second_place, first))
        else {
            return;
        };
        self.events.push_back(Event::Paired(first_id, second_id));
    }

    /// Offers `peer` to `to`, which leaves the queue. The id of `to`.
    fn offer(&mut self, to: SessionId, place: Place, peer: SessionId) -> Option<WorkerId> {
        let peer_session = self.sessions.get(&peer)?;
        let endpoint = peer_session.endpoint?;
        let offer = ServerMessage::P2pConnectionOffer {
            peer_worker_id: peer_session.worker.as_str(),
            peer_udp_ip: endpoint.ip(),
            peer_udp_port: endpoint.port(),
        };
        let action = Action::Offer(offer.encode());
        self.transmits.push_back(Transmit { session: to, action });
        let session = self.sessions.get_mut(&to)?;
        session.place = None;
        session.paired = Some((peer, place));
        Some(session.worker.clone())
    }

    /// Puts `id` back in its place, since the offer to its peer `lost` could not be sent.
    fn requeue(&mut self, id: SessionId, lost: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (Some((peer, place)), None) = (session.paired, session.place) else { return };
        let (true, Some(endpoint)) = (peer == lost, session.endpoint) else { return };
        session.place = Some(place);
        if session.is_overdue() {
            return;
        }
        let worker = session.worker.clone();
        self.ready.insert(place, id, endpoint);
        self.events.push_back(Event::Queued { worker, endpoint, waiting: self.ready.len() });
        self.pair(place, id);
    }

    fn pong(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        if matches!(session.liveness, Liveness::Quiet { .. }) {
            return; // Unasked: RFC 6455 §5.5.3 allows it, and it says nothing about our ping.
        }
        let was_overdue = session.is_overdue();
        let waits = session.place.zip(session.endpoint);
        self.set_liveness(id, Liveness::quiet(now, self.config.ping_interval));
        if let (true, Some((place, endpoint))) = (was_overdue, waits) {
            self.ready.insert(place, id, endpoint);
            self.pair(place, id);
        }
    }

    /// A ping is overdue: keeps the place, but nobody is paired with this session.
    fn hold_back(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Liveness::Pinged { gone_at, .. } = session.liveness else { return };
        if let Some(place) = session.place {
            self.ready.remove(place);
        }
        self.events.push_back(Event::PingOverdue(session.worker.clone()));
        self.set_liveness(id, Liveness::Overdue { gone_at });
    }

    fn set_liveness(&mut self, id: SessionId, liveness: Liveness) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.deadlines.remove(&(session.liveness.deadline().0, id));
        session.liveness = liveness;
        self.deadlines.insert((liveness.deadline().0, id));
    }

    fn details(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let answer = ServerMessage::MyDetailsResponse {
            worker_id: session.worker.as_str(),
            registered_ip: Some(session.http_ip.unwrap_or(session.observed.ip)),
            registered_port: session.observed.port,
            udp_ip: session.endpoint.map(|endpoint| endpoint.ip()),
            udp_port: session.endpoint.map(|endpoint| endpoint.port()),
            message: "These are the details that the rendezvous has of this worker.",
        };
        let answer = answer.encode();
        self.send(id, answer);
    }

    fn ignore(&mut self, id: SessionId, why: String) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let event = Event::MessageIgnored(session.worker.clone(), why, session.ignored);
        session.ignored = session.ignored.saturating_add(1);
        self.events.push_back(event);
    }

    fn send_close(&mut self, session: SessionId, code: u16, reason: &'static str) {
        self.transmits.push_back(Transmit { session, action: Action::Close { code, reason } });
    }

    fn send(&mut self, session: SessionId, text: String) {
        self.transmits.push_back(Transmit { session, action: Action::Send(text) });
    }

    fn close(&mut self, session: SessionId, code: u16, reason: &'static str, why: LeaveReason) {
        self.send_close(session, code, reason);
        self.forget(session, why);
    }

    /// Takes a session out of every table. The worker leaves the registry only if this session is
    /// still its current one; a replaced session is unknown here, so its late end changes nothing.
    fn forget(&mut self, id: SessionId, why: LeaveReason) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        self.deadlines.remove(&(session.liveness.deadline().0, id));
        if let Some(place) = session.place {
            self.ready.remove(place);
        }
        if self.current.get(&session.worker) == Some(&id) {
            self.current.remove(&session.worker);
        }
        self.events.push_back(Event::Left(session.worker.clone(), why));
        Some(session)
    }

    fn shutdown(&mut self) {
        self.ended = true;
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.close(session, CLOSE_GOING_AWAY, SHUTDOWN_REASON, LeaveReason::Shutdown);
        }
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
