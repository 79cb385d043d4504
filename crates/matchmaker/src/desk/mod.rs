//! The desk of one WebSocket: what needs nobody else. Whether the other end lives, what it may send, whether it is who it
//! says, and what it reports; the rest goes to the halls.

mod exchange;
mod liveness;
mod proof;
mod reach;
mod rooms;
mod turn;
mod v1;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_wire::signal::v1::{ServerV1, WorkerV1};
use holepunch_wire::signal::{EndpointError, FromWorker, RawValue, ServerMessage};
use holepunch_wire::stun::proof::ProofNonce;
use holepunch_wire::text::{start, truncate};
use rand::Rng;

use crate::card::{Card, CardV1};
use crate::cluster::ClaimError;
use crate::doors::{
    Action, Closing, DropReason, Event, LeaveReason, NotAdmitted, Observed, Protocol,
};
use crate::names::{Member, Room};
use crate::permit::Permit;
use crate::registry::Claimed;
use crate::seat::{Command, Held, Over, Resumes};
pub use exchange::{Answer, Arrival, Errand, Note, Out, Question, Surroundings};
use liveness::Liveness;
pub use liveness::WakeReason;
pub use reach::Unreachable;

/// A timer that is so late says that this process has stood still, and nothing of its peers.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// Longest detail of an ignored message, in bytes: it may quote the message.
const IGNORED_BYTES_MAX: usize = 200;

/// Public addresses of a worker that are told to whoever looks after the server: an honest one has a new one now and then,
/// and one that tells another one with each message would fill the log.
const TOLD: Rate = Rate { count: 1, per: Duration::from_secs(10), burst: 2 };
/// Messages of the sub-protocol that one worker may send at once, and in a second from then on.
const MESSAGES: Rate = Rate { count: 20, per: Duration::from_secs(1), burst: 60 };
/// Likewise of those that are passed on to all its peers.
const NEWS: Rate = Rate { count: 2, per: Duration::from_secs(1), burst: 24 };

/// What goes on when an answer has come.
#[derive(Debug)]
enum Open {
    /// The arrival: what a signature has to be over.
    Arrive(String),
    Register,
    Hello(Box<WorkerV1>),
    Call(WorkerId),
}

/// One connection of a worker.
#[derive(Debug)]
pub struct Desk {
    member: Member,
    permit: Arc<Permit>,
    card: Arc<Card>,
    /// The port that it comes from.
    port: Option<u16>,
    http_ip: Option<IpAddr>,
    /// The room that the worker is in; none where it was shown out of the one that it wanted, until it has named another.
    room: Option<Room>,
    /// How it wants to be there: the mode, whether only if nobody is, and whether the room has been its own.
    entry: (Option<RoomMode>, bool, bool),
    /// The room's mode, once it is in.
    entered: Option<RoomMode>,
    /// How often it has asked to be in a room, and has not been told: what the answer to all but the last one says is of before.
    entering: u8,
    /// Since when it has wanted a peer there.
    wants_since: Option<Instant>,
    liveness: Liveness,
    pinged_at: Option<Instant>,
    /// Until when a key has to be proved; `None`: the worker is registered.
    proof_until: Option<Instant>,
    ignored: u32,
    reports_refused: u32,
    told: Bucket,
    v1: Option<Box<V1>>,
    open: Option<Open>,
    /// Another connection may have taken its id meanwhile: until the registry has said that it has not, it tells no hall that
    /// it is there.
    is_doubtful: bool,
    /// What it has said to halls since, beside what it tells them anew.
    unsaid: Vec<(Room, Command)>,
    /// How often it has told the registry where its worker is.
    moves: u64,
    /// It is closed, or forgotten.
    is_gone: bool,
    outs: VecDeque<Out>,
}

/// What a desk keeps of a worker that speaks `holepunch.v1`.
#[derive(Debug)]
struct V1 {
    /// It has said hello: it means what it has said there.
    greeted: bool,
    nonce: ProofNonce,
    /// The token of its welcome, and those by which it has taken up its sessions: it may not know yet that it has.
    resume: Vec<String>,
    /// Its sessions, and where each of them is.
    sessions: BTreeMap<SessionId, (Room, Held)>,
    over: Over,
    /// It has lost a connection, and takes up its sessions with this one.
    resumes: Resumes,
    /// Rooms in which it has called somebody, and may wait for its turn.
    calls: BTreeSet<Room>,
    /// When it was told what opens the TURN servers.
    turn_issued_at: Instant,
    messages: Bucket,
    news: Bucket,
}

impl Desk {
    /// The desk of a connection that wants to register, and asks whether it may.
    pub fn new(arrival: Arrival, rng: &mut impl Rng, at: Surroundings<'_>) -> Self {
        let Arrival { worker, observed, protocol, room, challenge, permit } = arrival;
        let is_v1 = protocol == Protocol::V1;
        let now = at.now;
        let card = Card {
            order: 0,
            version: 0,
            worker: worker.clone(),
            observed: observed.ip,
            endpoint: None,
            overdue: false,
            rtt: None,
            pinged: None,
            elsewhere: 0,
            relay_bytes: permit.relay_bytes,
            v1: is_v1.then(Box::<CardV1>::default),
        };
        let of_tenant = |name| Room { tenant: permit.tenant.clone(), name };
        let room = of_tenant(room.filter(|_| is_v1).unwrap_or_default());
        let mut desk = Self {
            member: Member { tenant: permit.tenant.clone(), name: worker },
            permit,
            card: Arc::new(card),
            port: observed.port,
            http_ip: None,
            room: Some(room),
            entry: (None, false, false),
            entered: None,
            entering: 0,
            wants_since: None,
            liveness: Liveness::quiet(now, at.config.ping_interval),
            pinged_at: None,
            proof_until: None,
            ignored: 0,
            reports_refused: 0,
            told: Bucket::default(),
            v1: is_v1.then(|| Box::new(V1::new(rng, now))),
            open: None,
            is_doubtful: false,
            unsaid: Vec::new(),
            moves: 0,
            is_gone: false,
            outs: VecDeque::new(),
        };
        desk.ask(Question::Arrive, Open::Arrive(challenge));
        desk
    }

    /// The registry has said whether there is a place, and whether the id is taken with the proof of a key alone.
    fn arrived(
        &mut self,
        challenge: String,
        needs_proof: Result<bool, NotAdmitted>,
        at: Surroundings<'_>,
    ) {
        let refusal = match needs_proof {
            Ok(true) if self.v1.is_none() => CloseReason::NeedsV1,
            Ok(needs_proof) => {
                self.welcome(challenge, at);
                if needs_proof {
                    self.proof_until = Some(at.now + proof::PROOF_WITHIN);
                    // The proof answers the welcome at once, as a pong answers a ping.
                    self.pinged_at = Some(at.now);
                } else {
                    self.ask(Question::Claim(None), Open::Register);
                }
                return;
            }
            Err(why) => why.close_reason(),
        };
        self.event(Event::Refused(self.card.worker.clone(), refusal));
        self.outs.push_back(Out::Act(Action::Close(refusal)));
        self.is_gone = true;
        if needs_proof.is_ok() {
            self.errand(Errand::Gone { outlives: false, has_sessions: false });
        }
    }

    /// The worker is registered now.
    fn register(&mut self, order: u64, at: Surroundings<'_>) {
        self.proof_until = None;
        let observed = Observed { ip: self.card.observed, port: self.port };
        self.event(Event::Registered(self.card.worker.clone(), observed));
        let rtt = self.pinged_at.take().map(|sent| at.now.saturating_duration_since(sent));
        self.liveness = Liveness::quiet(at.now, at.config.ping_interval);
        let card = self.card_mut();
        (card.rtt, card.pinged) = (rtt, card.v1.is_some().then_some(Duration::ZERO));
        card.order = card.order.max(order);
        self.tell_whereabouts();
        self.enter();
        if self.v1.is_some() {
            // The round-trip time is needed for the first plan.
            self.ping(at);
        }
    }

    /// A message came; `proved`: the key that this connection has proved, by the signature in this message or in one before.
    pub fn message(
        &mut self,
        message: FromWorker<'_>,
        proved: Option<PublicKey>,
        at: Surroundings<'_>,
    ) {
        debug_assert!(self.open.is_none(), "messages wait while a question is open");
        if let FromWorker::V1(Ok(hello @ WorkerV1::Hello { key: Some(_), .. })) = &message
            && self.v1.is_some()
        {
            return self.prove(hello.clone(), proved, at);
        }
        if self.is_gone {
            return self.event(Event::Dropped(DropReason::Gone));
        }
        if self.proof_until.is_some() {
            return self.ignore(DropReason::BeforeProof, String::new());
        }
        match message {
            FromWorker::RegisterPublicIp(Some(ip)) => {
                if self.http_ip.replace(ip) != Some(ip) {
                    self.tell_whereabouts();
                    if self.told.take(TOLD, at.now) {
                        self.event(Event::PublicIp(self.card.worker.clone(), ip));
                    }
                }
            }
            FromWorker::RegisterPublicIp(None) => {
                self.ignore(DropReason::BadPublicIp, String::new());
            }
            FromWorker::UpdateUdpEndpoint(report) => {
                let bad = |error: EndpointError| ("bad_endpoint", error.to_string());
                let checked = report.map_err(bad).and_then(|endpoint| {
                    let proven = self.card.v1.as_ref().and_then(|v1| v1.proven);
                    let allow = at.config.allow_private;
                    let checked = reach::check(endpoint, self.card.observed, proven, allow);
                    checked.map(|()| endpoint).map_err(|why| (why.code(), why.to_string()))
                });
                self.report(checked, at);
            }
            FromWorker::EchoRequest(payload) => {
                let answer = echo_response(&self.card.worker, payload);
                self.send(answer);
            }
            FromWorker::GetMyDetails => self.details(),
            FromWorker::V1(message) => self.v1_message(message, at),
            FromWorker::Unknown(kind) => {
                self.ignore(DropReason::UnknownType, format!("{:?}", start(&kind, 40)));
            }
        }
    }

    /// The answer to a ping came.
    pub fn pong(&mut self, at: Surroundings<'_>) {
        if self.is_gone || matches!(self.liveness, Liveness::Quiet { .. }) {
            // RFC 6455 §5.5.3 allows it, and it says nothing about our ping.
            return self.event(Event::Dropped(DropReason::UnaskedPong));
        }
        if let Some(sent) = self.pinged_at.take() {
            self.card_mut().rtt = Some(at.now.saturating_duration_since(sent));
        }
        self.liveness = Liveness::quiet(at.now, at.config.ping_interval);
        let card = self.card_mut();
        (card.overdue, card.pinged) = (false, None);
        self.announce();
    }

    /// What is told by others.
    pub fn note(&mut self, note: Note, at: Surroundings<'_>) {
        match note {
            Note::Answer(answer) => self.answer(answer, at),
            Note::Effect(room, effect) => self.effect(&room, effect, at),
            Note::Rejoin(room) => self.rejoin(&room),
            Note::WantAgain(room) => self.want_again(&room, at),
            Note::SayAgain(room, command) => self.say_again(room, command),
            Note::Expelled(_) if self.is_gone => {}
            // It may come back with another one, and its sessions wait for it.
            Note::Expelled(why @ CloseReason::TokenExpired) => {
                self.event(Event::Refused(self.card.worker.clone(), why));
                self.close(why, LeaveReason::TokenExpired);
            }
            Note::Expelled(why) => self.refuse(why),
            Note::Replaced => self.close(CloseReason::Replaced, LeaveReason::Replaced),
            Note::Reclaim(before) => self.reclaim(before),
            Note::Shutdown => self.close(CloseReason::ShuttingDown, LeaveReason::Shutdown),
            Note::Move => self.close(CloseReason::Moving, LeaveReason::Shutdown),
        }
    }

    /// What the registry says.
    fn answer(&mut self, answer: Answer, at: Surroundings<'_>) {
        if self.is_gone {
            return;
        }
        if let Answer::Reclaim(claimed) = answer {
            return self.reclaimed(claimed, at);
        }
        match (self.open.take(), answer) {
            (_, Answer::Claim(Err(ClaimError::Replaced))) => {
                self.close(CloseReason::Replaced, LeaveReason::Replaced);
            }
            (Some(Open::Arrive(challenge)), Answer::Arrived(needs_proof)) => {
                self.arrived(challenge, needs_proof, at);
            }
            (Some(Open::Register), Answer::Claim(Ok(claimed))) => self.register(claimed.order, at),
            (Some(Open::Register), Answer::Claim(Err(_))) => self.refuse(CloseReason::OtherKey),
            (Some(Open::Hello(hello)), Answer::Claim(claimed)) => {
                self.claimed(*hello, claimed, at);
            }
            (Some(Open::Call(called)), Answer::Found(found)) => self.found(&called, found),
            (open, _) => self.open = open,
        }
    }

    /// Whether the id is its own again.
    fn reclaimed(&mut self, claimed: Result<Claimed, ClaimError>, at: Surroundings<'_>) {
        let Ok(claimed) = claimed else {
            return self.close(CloseReason::Replaced, LeaveReason::Replaced);
        };
        self.is_doubtful = false;
        self.card_mut().order = claimed.order;
        self.tell_whereabouts();
        self.halls().iter().for_each(|room| self.rejoin(room));
        for (room, command) in std::mem::take(&mut self.unsaid) {
            self.command(room, command);
        }
        self.halls().iter().for_each(|room| self.want_again(room, at));
    }

    /// Whether it waits for an answer of the registry: what comes from the worker has to wait, too.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.open.is_some()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, at: Surroundings<'_>) {
        while let Some((due, why)) = self.poll_timeout().filter(|(due, _)| *due <= at.now) {
            let late = at.now.saturating_duration_since(due);
            if late > STOOD_STILL && why != WakeReason::Ping {
                // This process has stood still, and what has come meanwhile is yet to be read.
                self.liveness = self.liveness.later(late);
                self.proof_until = self.proof_until.map(|until| until + late);
                continue;
            }
            match why {
                WakeReason::Ping => self.ping(at),
                WakeReason::PingOverdue => self.hold_back(),
                WakeReason::PingTimeout => {
                    self.close(CloseReason::PingTimeout, LeaveReason::PingTimeout);
                }
                WakeReason::ProofTimeout => self.refuse(CloseReason::ProofLate),
                WakeReason::Rematch
                | WakeReason::CallerTurn
                | WakeReason::SessionExpiry
                | WakeReason::RelayRenewal
                | WakeReason::Switch => {}
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        if self.is_gone {
            return None;
        }
        let proof = self.proof_until.map(|at| (at, WakeReason::ProofTimeout));
        Some(proof.unwrap_or_else(|| self.liveness.deadline()))
    }

    /// The next thing to do.
    pub fn poll_out(&mut self) -> Option<Out> {
        let out = self.outs.pop_front();
        if self.outs.is_empty() {
            self.outs.shrink_to(0); // Thousands of idle connections keep no buffer each.
        }
        out
    }

    /// Whether nothing is left to be done for it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Closes the connection, and forgets it.
    fn close(&mut self, reason: CloseReason, why: LeaveReason) {
        if !self.is_gone {
            if self.v1.is_some() {
                self.send(ServerV1::Closing { code: reason }.encode());
            }
            self.outs.push_back(Out::Act(Action::Close(reason)));
            self.forget(why, false);
        }
    }

    /// The WebSocket has ended.
    pub fn closed(&mut self, closing: Closing) {
        match closing {
            Closing::Broken => self.forget(LeaveReason::Closed, false),
            Closing::Goodbye => self.forget(LeaveReason::Goodbye, false),
            Closing::OfferUnsent => self.forget(LeaveReason::Goodbye, true),
        }
    }

    fn forget(&mut self, why: LeaveReason, unsent: bool) {
        let is_registered = self.is_registered();
        if std::mem::replace(&mut self.is_gone, true) {
            return;
        }
        // The one that takes its place has proved the key as well.
        let outlives = why != LeaveReason::Replaced;
        let has_sessions = self.v1.as_ref().is_some_and(|v1| !v1.sessions.is_empty());
        self.errand(Errand::Gone { outlives, has_sessions });
        if !is_registered {
            return; // No hall knows it.
        }
        self.event(Event::Left(self.card.worker.clone(), why));
        let leaves = matches!(why, LeaveReason::Goodbye | LeaveReason::Refused);
        for room in self.halls() {
            self.command(room, Command::Depart { leaves, unsent });
        }
    }

    /// Its worker's id.
    #[must_use]
    pub fn worker(&self) -> &WorkerId {
        &self.card.worker
    }

    /// The same, in its tenant.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Where its WebSocket comes from.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.card.observed
    }

    /// The room that it is in, where it is registered and in one.
    #[cfg(debug_assertions)]
    pub(crate) fn home(&self) -> Option<&Room> {
        self.room.as_ref().filter(|_| self.is_registered())
    }

    /// What the hall of a room knows of it, and that it is one of its sessions.
    #[cfg(debug_assertions)]
    pub(crate) fn is_known_as(&self, room: &Room, card: &Card) -> bool {
        let known = Card { elsewhere: 0, ..card.clone() };
        let elsewhere = self.elsewhere(room);
        known == Card { elsewhere: 0, ..(*self.card).clone() } && card.elsewhere == elsewhere
    }

    #[cfg(debug_assertions)]
    pub(crate) fn has_session(&self, room: &Room, session: SessionId) -> bool {
        self.v1.as_ref().and_then(|v1| v1.sessions.get(&session)).is_some_and(|it| it.0 == *room)
    }

    /// Whether the worker has its id, and halls know it.
    fn is_registered(&self) -> bool {
        let is_on_its_way = matches!(self.open, Some(Open::Arrive(_) | Open::Register));
        !self.is_gone && self.proof_until.is_none() && !is_on_its_way
    }

    fn report(
        &mut self,
        checked: Result<SocketAddr, (&'static str, String)>,
        at: Surroundings<'_>,
    ) {
        match checked {
            Ok(endpoint) => {
                if self.card.endpoint != Some(endpoint) {
                    self.card_mut().endpoint = Some(endpoint);
                    self.tell_whereabouts();
                }
                self.send(ServerMessage::ack(None).encode());
                self.want(at);
            }
            Err((code, detail)) => {
                let before = self.reports_refused;
                self.reports_refused = before.saturating_add(1);
                let worker = self.card.worker.clone();
                self.event(Event::ReportRefused(worker, code, detail.clone(), before));
                self.send(ServerMessage::ack(Some(detail)).encode());
            }
        }
    }

    fn ping(&mut self, at: Surroundings<'_>) {
        self.pinged_at = Some(at.now);
        self.outs.push_back(Out::Act(Action::Ping));
        self.liveness = Liveness::pinged(at.now, at.config.ping_timeout);
    }

    /// A ping is overdue: keeps the place, but nobody is paired with this worker.
    fn hold_back(&mut self) {
        let Liveness::Pinged { gone_at, .. } = self.liveness else { return };
        self.liveness = Liveness::Overdue { gone_at };
        self.event(Event::PingOverdue(self.card.worker.clone()));
        self.card_mut().overdue = true;
        self.announce();
    }

    fn details(&mut self) {
        let answer = ServerMessage::MyDetailsResponse {
            worker_id: self.card.worker.as_str(),
            registered_ip: Some(self.http_ip.unwrap_or(self.card.observed)),
            registered_port: self.port,
            udp_ip: self.card.endpoint.map(|endpoint| endpoint.ip()),
            udp_port: self.card.endpoint.map(|endpoint| endpoint.port()),
            message: "These are the details that the rendezvous has of this worker.",
        };
        let answer = answer.encode();
        self.send(answer);
    }

    fn ask(&mut self, question: Question, then: Open) {
        self.open = Some(then);
        self.errand(Errand::Ask(question));
    }

    fn ignore(&mut self, why: DropReason, mut detail: String) {
        truncate(&mut detail, IGNORED_BYTES_MAX);
        let event = Event::MessageIgnored(self.card.worker.clone(), why, detail, self.ignored);
        self.ignored = self.ignored.saturating_add(1);
        self.event(event);
    }

    fn command(&mut self, room: Room, command: Command) {
        self.errand(Errand::Command(room, command));
    }

    fn errand(&mut self, errand: Errand) {
        self.outs.push_back(Out::Errand(errand));
    }

    fn event(&mut self, event: Event) {
        self.outs.push_back(Out::Event(event.told(self.room.clone())));
    }

    fn send(&mut self, text: String) {
        self.outs.push_back(Out::Act(Action::Send(text)));
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
