//! The sub-protocol `holepunch.v1`: what a desk answers by itself, and what it passes on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::Candidate;
use holepunch_wire::check::IceRole;
use holepunch_wire::plan::Plan;
use holepunch_wire::rate::Bucket;
use holepunch_wire::reason::CallError;
use holepunch_wire::session::{LinkState, RoomMode, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ErrorCode, HeldSession, LinkReport, ServerV1, Welcome, WorkerV1};
use holepunch_wire::stun::SOFTWARE;
use holepunch_wire::stun::proof::{AddressProof, ProofNonce};
use rand::{Rng, RngExt};

use super::{Desk, MESSAGES, NEWS, Open, Out, Question, Surroundings, V1};
use crate::doors::{Action, DropReason, Event, News};
use crate::hall::refusal;
use crate::names::Room;
use crate::registry::Claimed;
use crate::seat::{Command, Held, Over, Resumes, Seat};

impl V1 {
    pub(super) fn new(rng: &mut impl Rng, now: Instant) -> Self {
        Self {
            greeted: false,
            nonce: ProofNonce(rng.random()),
            resume: vec![format!("{:032x}", rng.random::<u128>())],
            sessions: BTreeMap::new(),
            over: Over::default(),
            resumes: Resumes::Nothing,
            calls: BTreeSet::new(),
            turn_issued_at: now,
            messages: Bucket::default(),
            news: Bucket::default(),
        }
    }
}

impl Desk {
    /// Welcomes a connection.
    pub(super) fn welcome(&mut self, challenge: String, at: Surroundings<'_>) {
        let Some(v1) = &self.v1 else { return };
        let (nonce, resume) = (v1.nonce, v1.resume.concat());
        let welcome = Welcome {
            server: SOFTWARE.to_owned(),
            observed_ip: self.card.observed,
            observed_port: self.port,
            stun: at.config.stun.clone(),
            turn: self.turn_servers(at),
            proof_nonce: nonce.to_string(),
            challenge,
            resume,
            sessions_max: u32::try_from(SESSIONS_MAX).unwrap_or(u32::MAX),
            calls_from_anywhere: true,
        };
        self.send(ServerV1::Welcome(welcome).encode());
    }

    pub(super) fn v1_message(&mut self, message: Result<WorkerV1, String>, at: Surroundings<'_>) {
        let Some(v1) = &mut self.v1 else {
            return self.ignore(DropReason::Baseline, String::new());
        };
        let is_hello = matches!(message, Ok(WorkerV1::Hello { .. }));
        // A hello is counted when it is greeted.
        if !is_hello && !v1.messages.take(MESSAGES, at.now) {
            return self.ignore(DropReason::TooMany, String::new());
        }
        match message {
            Err(why) => self.ignore(DropReason::Malformed, why),
            Ok(hello @ WorkerV1::Hello { .. }) => self.greet(hello, None, at),
            Ok(WorkerV1::Ready) => self.want(at),
            Ok(WorkerV1::NatProfile { profile }) => {
                let known = self.card.v1.as_ref().map(|v1| &v1.profile);
                if known != Some(&profile)
                    && let Some(v1) = &mut self.card_mut().v1
                {
                    v1.profile = profile;
                    self.announce();
                }
            }
            Ok(WorkerV1::Candidates { generation, candidates }) => {
                self.candidates(generation, candidates, at);
            }
            Ok(WorkerV1::AddressProof { udp_ip, udp_port, proof }) => {
                self.address_proof((udp_ip, udp_port).into(), &proof, at);
            }
            Ok(WorkerV1::Call { peer }) => self.call(&peer),
            Ok(WorkerV1::TurnAddress { address, .. })
                if address.port() == 0 || !AddressKind::of(address.ip()).is_reachable_unicast() =>
            {
                self.ignore(DropReason::BadTurnAddress, String::new());
            }
            Ok(
                message @ (WorkerV1::PlanAccepted { session, .. }
                | WorkerV1::TurnAddress { session, .. }
                | WorkerV1::Leave { session }),
            ) => self.pass_on(session, message),
            Ok(WorkerV1::LinkState(report)) => {
                self.pass_on(report.session, WorkerV1::LinkState(report));
            }
        }
    }

    fn pass_on(&mut self, session: SessionId, message: WorkerV1) {
        if let (WorkerV1::Leave { .. }, Some(v1)) = (&message, &mut self.v1) {
            v1.over.add(session);
        }
        let found = self.v1.as_mut().and_then(|v1| v1.sessions.get_mut(&session));
        if let Some((room, held)) = found {
            if let WorkerV1::LinkState(LinkReport { state, .. }) = &message {
                held.direct |= *state == LinkState::Direct;
                held.relayed |= *state == LinkState::Relayed;
            }
            let room = room.clone();
            return self.command(room, Command::Say(message));
        }
        // It may be one that this worker takes up at this moment: the hall knows.
        for room in self.halls() {
            self.command(room, Command::Say(message.clone()));
        }
    }

    /// A hello whose key is proved, where it has one.
    pub(super) fn hello(&mut self, hello: WorkerV1, claimed: Claimed) {
        let WorkerV1::Hello { room, mode, resume, sessions, held, fresh, own, callable, .. } =
            hello
        else {
            return;
        };
        if let Some(v1) = &mut self.card_mut().v1 {
            v1.callable = callable;
        }
        self.v1.iter_mut().for_each(|v1| v1.greeted = true);
        let room = room.map(|name| Room { tenant: self.member.tenant.clone(), name });
        match room.or_else(|| self.room.clone()) {
            Some(room) => {
                let before = self.room.replace(room.clone());
                if before.as_ref() != Some(&room) {
                    (self.entered, self.wants_since) = (None, None);
                    if let Some(before) = before {
                        self.command(before, Command::Exit);
                    }
                    self.tell_whereabouts();
                }
                self.entry = (mode, fresh, own);
                self.enter();
            }
            // It means the room of its URL still, which is not to be had, and has been told so.
            None if fresh => {
                let message = "somebody is in this room already".to_owned();
                self.send(ServerV1::error(ErrorCode::RoomTaken, message).encode());
            }
            None => {}
        }
        if !self.whereabouts().visits.is_empty() {
            self.announce();
        }
        let (resumes, held) = match resume.filter(|token| claimed.resume.contains(token)) {
            Some(token) => (self.resumes(token, sessions), held),
            None => (Resumes::Nothing, Vec::new()),
        };
        // Where only another token has let it in, nothing is taken up.
        let mut left = claimed.left;
        left.retain(|room| self.permit.allows_room(&room.name));
        self.recover(held, &left);
        for room in left {
            if let (true, Some(v1)) = (self.room.as_ref() != Some(&room), &mut self.v1) {
                v1.calls.insert(room.clone());
            }
            let card = self.card_for(&room);
            let resumes = resumes.clone();
            let v1 = self.v1.iter().flat_map(|v1| v1.sessions.values());
            let sessions = v1.filter(|it| it.0 == room).map(|(_, held)| held.clone()).collect();
            self.command(room, Command::Return { card, resumes, sessions });
        }
    }

    /// What the worker says of its sessions counts as what this desk knows, until a hall has said what it knows. It does not
    /// know their rooms: those of a guest are in the one that it has visited, if that is one.
    fn recover(&mut self, held: Vec<HeldSession>, left: &[Room]) {
        if held.is_empty() {
            return;
        }
        let home = self.room.clone();
        let may_wait = matches!(self.entry.0, None | Some(RoomMode::Pair));
        let mut visited = left.iter().filter(|room| Some(*room) != home.as_ref());
        let visited = visited.next().filter(|_| visited.next().is_none()).cloned();
        let room_of = |is_guest| if is_guest { visited.clone() } else { home.clone() };
        let held = held.into_iter().filter_map(|it| {
            let room = room_of(it.guest).filter(|room| left.contains(room))?;
            let plan = Plan { number: it.number, ..Plan::new(it.strategy, "") };
            let held = Held {
                session: it.session,
                own: usize::from(it.role == IceRole::Controlling),
                peer: it.peer,
                plan,
                was_waiting: !it.guest && may_wait,
                direct: it.direct,
                relayed: !it.direct,
                is_recovered: true,
            };
            Some((it.session, (room, held)))
        });
        self.with_sessions(|own| own.extend(held));
    }

    /// The worker has proved that it is the one that has lost a connection.
    fn resumes(&mut self, token: String, sessions: Option<Vec<SessionId>>) -> Resumes {
        let resumes = sessions.map_or(Resumes::Everything, Resumes::These);
        if let Some(v1) = &mut self.v1 {
            v1.resumes = resumes.clone();
            v1.resume.truncate(1);
            v1.resume.push(token);
        }
        self.tell_whereabouts();
        resumes
    }

    pub(super) fn enter(&mut self) {
        let (mode, fresh, own) = self.entry;
        if let Some(room) = self.room.clone() {
            let card = self.card_for(&room);
            self.entering = self.entering.saturating_add(1);
            self.command(room, Command::Enter { card, mode, fresh, own });
        }
    }

    fn candidates(&mut self, generation: u32, candidates: Vec<Candidate>, at: Surroundings<'_>) {
        if !self.v1.as_mut().is_some_and(|v1| v1.news.take(NEWS, at.now)) {
            return self.ignore(DropReason::TooManyCandidates, String::new());
        }
        let known = self.card.v1.as_ref().map_or(0, |v1| v1.generation);
        if generation > known
            && let Some(v1) = &mut self.card_mut().v1
        {
            (v1.generation, v1.candidates) = (generation, candidates);
            self.announce();
        } else {
            self.event(Event::Dropped(DropReason::OldCandidates));
        }
    }

    fn address_proof(&mut self, address: SocketAddr, proof: &str, at: Surroundings<'_>) {
        let (Some((key, clock)), Some(v1)) = (&at.config.proofs, &self.v1) else {
            return self.event(Event::Dropped(DropReason::ProofUnasked));
        };
        let Ok(proof) = proof.parse::<AddressProof>() else {
            return self.ignore(DropReason::NoProof, String::new());
        };
        match key.verify(v1.nonce, address, &proof, clock.unix_s(at.now)) {
            Ok(()) => {
                if let Some(v1) = &mut self.card_mut().v1 {
                    v1.proven = Some(address.ip());
                    self.announce();
                }
            }
            Err(why) => self.ignore(DropReason::BadProof, why.to_string()),
        }
    }

    /// A call by id.
    fn call(&mut self, peer: &str) {
        let why = match WorkerId::new(peer) {
            Ok(called) if called == self.card.worker => CallError::OwnId,
            Ok(_) if !self.permit.allows_mode(RoomMode::Call) => CallError::NotAllowed,
            Ok(called) => return self.ask(Question::Find(called.clone()), Open::Call(called)),
            Err(_) => CallError::NoId,
        };
        self.refuse_call(peer, why);
    }

    fn refuse_call(&mut self, called: &str, why: CallError) {
        self.event(Event::CallRefused(self.card.worker.clone(), why));
        self.send(refusal(called, why).encode());
    }

    pub(super) fn found(&mut self, called: &WorkerId, found: Option<(Seat, Room)>) {
        match found.filter(|_| self.room.is_some()) {
            Some((_, room)) if !self.permit.allows_room(&room.name) => {
                self.refuse_call(called.as_str(), CallError::NotAllowed);
            }
            Some((seat, room)) => {
                if let (true, Some(v1)) = (self.room.as_ref() != Some(&room), &mut self.v1) {
                    v1.calls.insert(room.clone());
                }
                let (card, worker) = (self.card_for(&room), called.clone());
                self.command(room, Command::Call { card, worker, seat });
            }
            None => self.refuse_call(called.as_str(), CallError::NotRegistered),
        }
    }

    /// What a hall says to the worker.
    pub(super) fn say(&mut self, message: ServerV1, at: Surroundings<'_>) {
        let text = message.encode();
        let action = match message {
            ServerV1::SessionEnded { session, .. } => {
                self.v1.iter_mut().for_each(|v1| v1.over.add(session));
                let mut ended = None;
                self.with_sessions(|own| ended = own.remove(&session));
                // Said at once: what the hall says of this may never come.
                if ended.is_some_and(|(_, held)| held.was_waiting) {
                    self.wants_since.get_or_insert(at.now);
                }
                Action::Send(text)
            }
            ServerV1::PeerCandidates { session, .. } => {
                Action::Update(session, News::Candidates, text)
            }
            ServerV1::Plan { session, plan } => {
                let found = self.v1.as_mut().and_then(|v1| v1.sessions.get_mut(&session));
                found.into_iter().for_each(|(_, held)| held.plan.clone_from(&plan));
                Action::Update(session, News::Plan, text)
            }
            ServerV1::PeerTurnAddress { session, .. } => {
                Action::Update(session, News::TurnAddress, text)
            }
            ServerV1::RelayToken { session, .. } => Action::Update(session, News::RelayToken, text),
            ServerV1::Welcome(_)
            | ServerV1::P2pConnectionOffer { .. }
            | ServerV1::PeerAccepted { .. }
            | ServerV1::RoomEntered
            | ServerV1::Closing { .. }
            | ServerV1::Error { .. } => Action::Send(text),
        };
        self.outs.push_back(Out::Act(action));
    }

    /// A hall offers the worker a session.
    pub(super) fn begin(
        &mut self,
        room: &Room,
        mut offer: ServerV1,
        was_waiting: bool,
        at: Surroundings<'_>,
    ) {
        let turn = self.renewed_turn(at);
        let ServerV1::P2pConnectionOffer { details, peer_worker_id, .. } = &mut offer else {
            return;
        };
        let Ok(peer) = WorkerId::new(peer_worker_id) else { return };
        details.turn = turn;
        details.guest = self.room.as_ref() != Some(room);
        if was_waiting {
            self.wants_since = None;
        }
        let (session, plan) = (details.session, details.plan.clone());
        let own = usize::from(details.role == IceRole::Controlling);
        self.outs.push_back(Out::Act(Action::Offer(offer.encode())));
        let (direct, relayed, is_recovered) = Default::default();
        let held = Held { session, own, peer, plan, was_waiting, direct, relayed, is_recovered };
        self.with_sessions(|own| drop(own.insert(session, (room.clone(), held))));
    }

    /// Changes which sessions there are. Those in other rooms count in each: it is told, where these are more or fewer.
    pub(super) fn with_sessions(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<SessionId, (Room, Held)>),
    ) {
        let before = self.whereabouts();
        let Some(v1) = &mut self.v1 else { return };
        change(&mut v1.sessions);
        let after = self.whereabouts();
        if !before.visits.is_empty() || !after.visits.is_empty() {
            self.announce();
        }
        if before != after {
            self.tell(after);
        }
    }
}
