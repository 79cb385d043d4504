//! The sub-protocol `holepunch.v1`: welcomes, sessions, plans.

use std::time::Instant;

use holepunch_wire::candidate::Candidate;
use holepunch_wire::check::IceRole;
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::session::{LinkState, RoomMode, RoomName, SessionId};
use holepunch_wire::signal::v1::{LinkReport, ServerV1, SessionDetails, Welcome, WorkerV1};
use holepunch_wire::stun::SOFTWARE;
use holepunch_wire::stun::proof::{AddressProof, ProofNonce};
use rand::RngExt;

use crate::connection::{Connection, V1};
use crate::doors::{Action, ConnectionId, Event, Transmit};
use crate::machine::Matchmaker;
use crate::queue::Place;
use crate::session::{
    End, MESH_WORKERS_MAX, PLANS_MAX, RESUME_WITHIN, SESSIONS_PER_WORKER_MAX, Session,
};

/// Why there is no direct path where a worker does not make the search that is planned.
const DECLINED: &str = "a search for ports would be needed, and one of the two makes none, or no more \
                        for now";

impl Matchmaker {
    pub(crate) fn welcome(&mut self, id: ConnectionId, now: Instant) {
        let nonce = ProofNonce(self.rng.random());
        let resume = format!("{:032x}", self.rng.random::<u128>());
        let challenge = format!("{:032x}", self.rng.random::<u128>());
        let Some(entry) = self.connections.get_mut(&id) else { return };
        entry.v1 = Some(Box::new(V1::new(nonce, resume.clone(), now)));
        let welcome = Welcome {
            server: SOFTWARE.to_owned(),
            observed_ip: entry.observed.ip,
            observed_port: entry.observed.port,
            stun: self.config.stun.clone(),
            proof_nonce: nonce.to_string(),
            challenge,
            resume,
            sessions_max: u32::try_from(SESSIONS_PER_WORKER_MAX).unwrap_or(u32::MAX),
        };
        self.send(id, ServerV1::Welcome(welcome).encode());
    }

    pub(crate) fn send_error(&mut self, id: ConnectionId, message: String) {
        self.send(id, ServerV1::Error { message }.encode());
    }

    fn v1(&mut self, id: ConnectionId) -> Option<&mut V1> {
        self.connections.get_mut(&id)?.v1.as_deref_mut()
    }

    pub(crate) fn v1_message(
        &mut self,
        id: ConnectionId,
        message: Result<WorkerV1, String>,
        now: Instant,
    ) {
        let Some(v1) = self.v1(id) else {
            return self
                .ignore(id, "a message of holepunch.v1 without the sub-protocol".to_owned());
        };
        if !v1.allows(now) {
            return self.ignore(id, "too many messages".to_owned());
        }
        match message {
            Err(why) => self.ignore(id, why),
            Ok(WorkerV1::Hello { room, mode, key, resume, .. }) => {
                v1.key = key;
                self.hello(id, room, mode);
                if let Some(token) = resume {
                    self.resume(id, &token);
                }
            }
            Ok(WorkerV1::Ready) => self.wants_peer(id, true, now),
            Ok(WorkerV1::NatProfile { profile }) => self.profile(id, profile, now),
            Ok(WorkerV1::Candidates { generation, candidates }) => {
                self.candidates(id, generation, candidates, now);
            }
            Ok(WorkerV1::AddressProof { udp_ip, udp_port, proof }) => {
                self.address_proof(id, (udp_ip, udp_port).into(), &proof, now);
            }
            Ok(WorkerV1::Call { peer }) => self.call(id, &peer, now),
            Ok(WorkerV1::PlanAccepted { session, number, ports }) => {
                self.accepted(id, session, number, ports);
            }
            Ok(WorkerV1::LinkState(report)) => self.link_state(id, &report, now),
            Ok(WorkerV1::Leave { session }) => {
                if self.end_of(id, session).is_some() {
                    self.end_session(session, Some(id), "the peer has left", now);
                }
            }
        }
    }

    fn hello(&mut self, id: ConnectionId, room: Option<RoomName>, mode: Option<RoomMode>) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let room = room.unwrap_or_else(|| entry.room.clone());
        if room != entry.room {
            let before = std::mem::replace(&mut entry.room, room.clone());
            if let (Some(place), Some(room)) = (entry.place.take(), self.rooms.find_mut(&before)) {
                room.ready.remove(place);
            }
            self.rooms.leave(&before, id);
        }
        let granted = self.rooms.enter(&room, id, mode);
        if mode.is_some_and(|mode| mode != granted) {
            self.send_error(
                id,
                format!("this room's mode is {granted:?}: the first worker that named one decided"),
            );
        }
        let members = self.rooms.find(&room).map_or(0, |room| room.members.len());
        if granted == RoomMode::Mesh && members > MESH_WORKERS_MAX {
            self.rooms.leave(&room, id);
            self.send_error(id, format!("this room is full: {MESH_WORKERS_MAX} workers"));
        }
    }

    /// A worker that has lost its connection takes its sessions with it to the new one.
    fn resume(&mut self, id: ConnectionId, token: &str) {
        let Some(worker) = self.connections.get(&id).map(|entry| entry.worker.clone()) else {
            return;
        };
        let mut resumed = Vec::new();
        for (number, session) in &mut self.sessions {
            let end = session.ends.iter_mut().find(|end| {
                end.gone_until.is_some() && end.worker == worker && end.resume == token
            });
            if let Some(end) = end {
                (end.connection, end.gone_until) = (id, None);
                resumed.push(*number);
            }
        }
        if let Some(v1) = self.v1(id) {
            v1.sessions.extend(resumed);
        }
    }

    fn candidates(
        &mut self,
        id: ConnectionId,
        generation: u32,
        candidates: Vec<Candidate>,
        now: Instant,
    ) {
        let is_mapped =
            |table: &Self| table.connections.get(&id).is_some_and(Connection::has_mapped_port);
        let was_mapped = is_mapped(self);
        let Some(v1) = self.v1(id) else { return };
        if generation <= v1.generation {
            return;
        }
        (v1.generation, v1.candidates) = (generation, candidates.clone());
        let sessions: Vec<SessionId> = v1.sessions.iter().copied().collect();
        let Some(address_proof) = self.connections.get(&id).map(Connection::proof) else { return };
        for session in sessions {
            let candidates = candidates.clone();
            let message =
                ServerV1::PeerCandidates { session, generation, candidates, address_proof };
            self.send_to_peer(id, session, &message);
            if is_mapped(self) && !was_mapped {
                self.replan(session, false, now);
            }
        }
    }

    fn send_to_peer(&mut self, id: ConnectionId, session: SessionId, message: &ServerV1) {
        let Some(own) = self.end_of(id, session) else { return };
        let Some(peer) = self.sessions.get(&session).map(|session| &session.ends[1 - own]) else {
            return;
        };
        if peer.gone_until.is_none() {
            let connection = peer.connection;
            self.send(connection, message.encode());
        }
    }

    /// Which end of a session a connection is.
    fn end_of(&self, id: ConnectionId, session: SessionId) -> Option<usize> {
        self.sessions.get(&session)?.index(id)
    }

    fn profile(&mut self, id: ConnectionId, profile: NatProfile, now: Instant) {
        let Some(v1) = self.v1(id) else { return };
        v1.profile = profile;
        let sessions: Vec<SessionId> = v1.sessions.iter().copied().collect();
        for session in sessions {
            self.replan(session, false, now);
        }
    }

    fn address_proof(
        &mut self,
        id: ConnectionId,
        address: std::net::SocketAddr,
        proof: &str,
        now: Instant,
    ) {
        let Some((key, moment, unix_s)) = &self.config.proofs else { return };
        let unix_s = unix_s + now.saturating_duration_since(*moment).as_secs();
        let Some(nonce) =
            self.connections.get(&id).and_then(|it| it.v1.as_ref()).map(|v1| v1.nonce)
        else {
            return;
        };
        let Ok(proof) = proof.parse::<AddressProof>() else {
            return self.ignore(id, "an address_proof that is none".to_owned());
        };
        match key.verify(nonce, address, &proof, unix_s) {
            Ok(()) => {
                if let Some(v1) = self.v1(id) {
                    v1.proven = Some(address.ip());
                }
            }
            Err(why) => self.ignore(id, why.to_string()),
        }
    }

    fn accepted(&mut self, id: ConnectionId, session: SessionId, number: u32, ports: Vec<u16>) {
        let current = self.sessions.get(&session).map(|session| session.number);
        if current == Some(number) {
            let message = ServerV1::PeerAccepted { session, number, ports };
            self.send_to_peer(id, session, &message);
        }
    }

    /// Offers two workers each other; the first one controls.
    pub(crate) fn begin_session(&mut self, pair: [(ConnectionId, Option<Place>); 2], now: Instant) {
        let [first, second] = pair.map(|(id, _)| self.connections.get(&id));
        let (Some(first), Some(second)) = (first, second) else { return };
        let sides = [first.side(now), second.side(now)];
        let plans = self.planner.plan([&sides[0], &sides[1]], 1, now);
        let id = SessionId(self.rng.random());
        let credentials = [(); 2].map(|()| IceCredentials::from_random(self.rng.random()));
        let end = |(connection, place): (ConnectionId, Option<Place>), entry: &Connection| End {
            connection,
            worker: entry.worker.clone(),
            place,
            direct: false,
            resume: entry.v1.as_ref().map(|v1| v1.resume.clone()).unwrap_or_default(),
            gone_until: None,
        };
        let ends = [end(pair[0], first), end(pair[1], second)];
        let workers = [first.worker.clone(), second.worker.clone()];
        let roles = [IceRole::Controlling, IceRole::Controlled];
        let offers = [(second, 0), (first, 1)].map(|(peer, own)| {
            let v1 = peer.v1.as_ref();
            ServerV1::P2pConnectionOffer {
                peer_worker_id: peer.worker.as_str().to_owned(),
                peer_udp_ip: peer.endpoint.map(|endpoint| endpoint.ip()),
                peer_udp_port: peer.endpoint.map(|endpoint| endpoint.port()),
                details: Box::new(SessionDetails {
                    session: id,
                    role: roles[own],
                    credentials: credentials[own].clone(),
                    peer_credentials: credentials[1 - own].clone(),
                    peer_key: v1.and_then(|v1| v1.key.clone()),
                    candidates: v1.map(|v1| v1.candidates.clone()).unwrap_or_default(),
                    address_proof: peer.proof(),
                    plan: plans[own].clone(),
                }),
            }
        });
        let Plan { strategy, reason, .. } = plans[0].clone();
        for ((connection, _), offer) in pair.iter().zip(&offers) {
            let action = Action::Offer(offer.encode());
            self.transmits.push_back(Transmit { connection: *connection, action });
            if let Some(v1) = self.v1(*connection) {
                v1.sessions.insert(id);
            }
        }
        self.sessions.insert(id, Session { ends, number: 1, plans, plain_failed: false });
        self.events.push_back(Event::SessionStarted(id, workers, strategy, reason));
    }

    /// Makes a better plan from what is known by now. One that only looks a little different is not
    /// worth beginning anew, unless the current one has failed.
    fn replan(&mut self, id: SessionId, failed: bool, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.is_direct() || session.number >= PLANS_MAX {
            return;
        }
        let entries = session.ends.each_ref().map(|end| self.connections.get(&end.connection));
        let [Some(first), Some(second)] = entries else { return };
        let mut sides = [first.side(now), second.side(now)];
        let before = &session.plans[0];
        let plain_failed = session.plain_failed || (failed && before.search.is_none());
        if plain_failed {
            // They went to IPv6 addresses and opened ports as well, in vain.
            for side in &mut sides {
                (side.profile.ipv6, side.port_mapped) = (None, false);
            }
        }
        let number = session.number + 1;
        let plans = self.planner.plan([&sides[0], &sides[1]], number, now);
        let is_same = plans[0].strategy == before.strategy && plans[0].search.is_none();
        if failed && is_same {
            // What needs no search was tried with every address there is: nothing else is left.
            return self.relay(id, "checks to every address of the peer were in vain");
        }
        let is_search = |plan: &Plan| (plan.search.is_some(), plan.opener_ttl.is_some());
        let differs = plans[0].strategy != before.strategy
            || (plans[0].search.is_some() && is_search(&plans[0]) != is_search(before));
        if let Some(session) = self.sessions.get_mut(&id) {
            session.plain_failed = plain_failed;
        }
        if failed || differs {
            self.send_plans(id, number, plans);
        }
    }

    /// Tells both that there will be no direct path, and why.
    fn relay(&mut self, id: SessionId, reason: &str) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.number >= PLANS_MAX {
            return;
        }
        let number = session.number + 1;
        let plan = || Plan { number, ..Plan::new(Strategy::Relay, reason) };
        self.send_plans(id, number, [plan(), plan()]);
    }

    fn send_plans(&mut self, id: SessionId, number: u32, plans: [Plan; 2]) {
        let Some(session) = self.sessions.get(&id) else { return };
        let to = session.ends.each_ref().map(|end| end.connection);
        for (connection, plan) in to.into_iter().zip(&plans) {
            let message = ServerV1::Plan { session: id, plan: plan.clone() };
            self.send(connection, message.encode());
        }
        let Plan { strategy, reason, .. } = plans[0].clone();
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.number, session.plans) = (number, plans);
        }
        self.events.push_back(Event::Replanned(id, strategy, reason));
    }

    fn link_state(&mut self, id: ConnectionId, report: &LinkReport, now: Instant) {
        let Some(own) = self.end_of(id, report.session) else { return };
        let Some(session) = self.sessions.get_mut(&report.session) else { return };
        let worker = session.ends[own].worker.clone();
        let reason = report.reason.clone();
        self.events.push_back(Event::LinkState(report.session, worker, report.state, reason));
        let is_current = report.number == session.number;
        match report.state {
            LinkState::Direct => {
                let was_direct = session.is_direct();
                session.ends[own].direct = true;
                if !was_direct {
                    self.record(report.session, report.strategy, true, now);
                }
            }
            LinkState::Failed if session.ends[own].direct => {
                self.end_session(report.session, Some(id), "the path is lost", now);
            }
            LinkState::Failed if is_current && !session.is_direct() => {
                if report.strategy != Strategy::Relay {
                    self.record(report.session, report.strategy, false, now);
                }
                self.replan(report.session, true, now);
            }
            LinkState::Declined if is_current && !session.is_direct() => {
                self.relay(report.session, DECLINED);
            }
            LinkState::Failed
            | LinkState::Declined
            | LinkState::Checking
            | LinkState::Relayed
            | LinkState::Repairing => {}
        }
    }

    fn record(&mut self, id: SessionId, strategy: Strategy, worked: bool, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        let entries = session.ends.each_ref().map(|end| self.connections.get(&end.connection));
        if let [Some(first), Some(second)] = entries {
            let sides = [first.side(now), second.side(now)];
            self.planner.record([&sides[0], &sides[1]], strategy, worked, now);
        }
    }

    /// Ends a session. `leaver` knows; the other one is told, and waits for the next peer in its old
    /// place.
    fn end_session(
        &mut self,
        id: SessionId,
        leaver: Option<ConnectionId>,
        reason: &'static str,
        now: Instant,
    ) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for end in &session.ends {
            if let Some(at) = end.gone_until {
                self.expiries.remove(&(at, id));
            }
            if let Some(v1) = self.v1(end.connection) {
                v1.sessions.remove(&id);
            }
        }
        self.events.push_back(Event::SessionEnded(id, reason));
        for (own, end) in session.ends.iter().enumerate() {
            if Some(end.connection) == leaver || end.gone_until.is_some() {
                continue;
            }
            let ended = ServerV1::SessionEnded { session: id, reason: reason.to_owned() };
            self.send(end.connection, ended.encode());
            let peer = session.ends[1 - own].worker.clone();
            let Some(entry) = self.connections.get_mut(&end.connection) else { continue };
            entry.remember(peer, now);
            if let (Some(place), None, false) = (end.place, entry.place, entry.is_engaged()) {
                entry.place = Some(place);
                self.enqueue(end.connection, true);
                self.pair(end.connection, now);
            }
        }
    }

    /// A connection is gone: its sessions end, but for those with a direct path, which outlives the
    /// rendezvous; they wait for the worker to come back.
    pub(crate) fn orphan(&mut self, gone: &Connection, id: ConnectionId, now: Instant) {
        let Some(v1) = &gone.v1 else { return };
        for session in &v1.sessions {
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            let direct = entry.is_direct();
            let until = now + RESUME_WITHIN;
            let other_is_gone = entry
                .index(id)
                .map(|own| {
                    entry.ends[own].gone_until = direct.then_some(until);
                    entry.ends[1 - own].gone_until.is_some()
                })
                .unwrap_or(true);
            if direct && !other_is_gone {
                self.expiries.insert((until, *session));
            } else {
                self.end_session(*session, Some(id), "the peer's connection has ended", now);
            }
        }
    }

    /// A session whose worker has not come back is over; its direct path may go on.
    pub(crate) fn expire(&mut self, id: SessionId, _now: Instant) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for end in &session.ends {
            if let Some(v1) = self.v1(end.connection) {
                v1.sessions.remove(&id);
            }
        }
        self.events.push_back(Event::SessionEnded(id, "its worker has not come back"));
    }
}
