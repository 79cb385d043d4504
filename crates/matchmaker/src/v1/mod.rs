//! The sub-protocol `holepunch.v1`: welcomes, sessions, plans.

mod plans;
mod sessions;
mod turn;

use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{self, Candidate};
use holepunch_wire::nat::NatProfile;
use holepunch_wire::session::{RoomMode, RoomName, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ErrorCode, ServerV1, Welcome, WorkerV1};
use holepunch_wire::stun::SOFTWARE;
use holepunch_wire::stun::proof::{AddressProof, ProofNonce};
use rand::RngExt;

use crate::connection::{Connection, V1};
use crate::doors::{ConnectionId, News, Observed};
use crate::machine::Matchmaker;
use crate::queue::Place;
use crate::room::Room;
use crate::session::MESH_WORKERS_MAX;

/// What a worker is told that wants a room for itself.
const ROOM_TAKEN: &str = "somebody is in this room already";

/// The room that a worker wants.
struct Wanted {
    /// That of the URL without it.
    room: Option<RoomName>,
    mode: Option<RoomMode>,
    /// Only if nobody is there.
    fresh: bool,
    /// It has been this worker's own.
    own: bool,
}

impl Matchmaker {
    /// Welcomes a connection: what is known of it from then on.
    pub(crate) fn welcome(
        &mut self,
        id: ConnectionId,
        (worker, observed): (&WorkerId, Observed),
        challenge: String,
        now: Instant,
    ) -> Box<V1> {
        let nonce = ProofNonce(self.rng.random());
        let resume = format!("{:032x}", self.rng.random::<u128>());
        let welcome = Welcome {
            server: SOFTWARE.to_owned(),
            observed_ip: observed.ip,
            observed_port: observed.port,
            stun: self.config.stun.clone(),
            turn: self.turn_servers(worker, now),
            proof_nonce: nonce.to_string(),
            challenge,
            resume: resume.clone(),
            sessions_max: u32::try_from(SESSIONS_MAX).unwrap_or(u32::MAX),
            calls_from_anywhere: true,
        };
        self.send(id, ServerV1::Welcome(welcome).encode());
        Box::new(V1::new(nonce, resume, now))
    }

    pub(crate) fn send_error(&mut self, id: ConnectionId, code: ErrorCode, message: String) {
        self.send(id, ServerV1::Error { code: Some(code), message }.encode());
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
            Ok(WorkerV1::Hello { room, mode, resume, fresh, own, callable, .. }) => {
                if let Some(v1) = self.v1(id) {
                    v1.callable = callable;
                }
                self.hello(id, Wanted { room, mode, fresh, own }, now);
                if let Some(token) = resume {
                    self.resume(id, &token);
                }
                self.end_abandoned(id, now);
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
            Ok(WorkerV1::TurnAddress { session, address }) => {
                self.turn_address(id, session, address);
            }
            Ok(WorkerV1::LinkState(report)) => self.link_state(id, &report, now),
            Ok(WorkerV1::Leave { session }) => {
                if self.end_of(id, session).is_some() {
                    self.end_session(session, Some(id), "the peer has left", now);
                }
            }
        }
    }

    fn hello(&mut self, id: ConnectionId, Wanted { room, mode, fresh, own }: Wanted, now: Instant) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if entry.is_shown_out() && room.is_none() {
            // It means the room of its URL still, which is not to be had, and has been told so.
            if fresh {
                self.send_error(id, ErrorCode::RoomTaken, ROOM_TAKEN.to_owned());
            }
            return;
        }
        if let Some(v1) = &mut entry.v1 {
            v1.shown_out = false;
        }
        let room = room.unwrap_or_else(|| entry.room.clone());
        if room != entry.room {
            let before = std::mem::replace(&mut entry.room, room.clone());
            if let (Some(place), Some(room)) = (entry.place.take(), self.rooms.find_mut(&before)) {
                room.ready.remove(place);
            }
            self.rooms.leave(&before, id);
        }
        let mode_before = self.rooms.find(&room).map(Room::mode);
        let has_others = |room: &Room| room.members.iter().any(|member| *member != id);
        let has_owner = |room: &Room| room.owner.is_some_and(|owner| owner != id);
        let found = self.rooms.find(&room).filter(|_| !room.is_default());
        if found.is_some_and(|room| fresh && has_others(room) || own && has_owner(room)) {
            return self.show_out(id, ErrorCode::RoomTaken, ROOM_TAKEN.to_owned());
        }
        // Whoever has a room of its own decides of what kind it is, also where it says nothing: else a stranger who comes
        // next could make it one in which nobody is offered to anybody.
        let decided = if fresh || own { Some(mode.unwrap_or_default()) } else { mode };
        let granted = self.rooms.enter(&room, id, decided);
        if let (true, Some(room)) = (fresh || own, self.rooms.find_mut(&room)) {
            room.owner = Some(id);
        }
        if fresh {
            self.send(id, ServerV1::RoomEntered.encode());
        }
        if mode.is_some_and(|mode| mode != granted) {
            self.send_error(
                id,
                ErrorCode::RoomMode,
                format!("this room's mode is {granted:?}: the first worker that named one decided"),
            );
        }
        self.turn_away(id);
        // Once, by the hello that decides: it looks at everybody in the room.
        if mode_before.is_some_and(|before| before != granted) {
            self.disband_queue(&room, now);
        }
    }

    /// Those who wait in a room for one peer each want all others, once somebody has decided that the room
    /// is of many: nobody would ever pair them, and they do not ask twice.
    fn disband_queue(&mut self, name: &RoomName, now: Instant) {
        let Some(room) = self.rooms.find(name).filter(|room| room.mode() != RoomMode::Pair) else {
            return;
        };
        let place = |id: &ConnectionId| self.connections.get(id).and_then(|entry| entry.place);
        let mut waiting: Vec<(Place, ConnectionId)> =
            room.members.iter().filter_map(|id| Some((place(id)?, *id))).collect();
        waiting.sort_unstable();
        for (place, id) in &waiting {
            self.dequeue(*place, *id);
        }
        for (place, id) in waiting {
            self.wait_again(id, place, now);
        }
    }

    /// A worker that is one too many in its room goes to the room of all that name none.
    pub(crate) fn turn_away(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get(&id) else { return };
        let is_full = self.rooms.find(&entry.room).is_some_and(|room| {
            room.mode() == RoomMode::Mesh && room.members.len() > MESH_WORKERS_MAX
        });
        if is_full {
            let message = format!("this room is full: {MESH_WORKERS_MAX} workers");
            self.show_out(id, ErrorCode::RoomFull, message);
        }
    }

    /// Puts a worker into the room of all that name none, where it waits for nobody.
    fn show_out(&mut self, id: ConnectionId, code: ErrorCode, message: String) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let room = std::mem::take(&mut entry.room);
        let place = entry.place.take();
        if let Some(v1) = &mut entry.v1 {
            (v1.wants_peers, v1.shown_out) = (false, true);
        }
        if let (Some(place), Some(room)) = (place, self.rooms.find_mut(&room)) {
            room.ready.remove(place);
        }
        self.rooms.leave(&room, id);
        self.rooms.enter(&RoomName::default(), id, None);
        self.send_error(id, code, message);
    }

    fn candidates(
        &mut self,
        id: ConnectionId,
        generation: u32,
        candidates: Vec<Candidate>,
        now: Instant,
    ) {
        if !self.v1(id).is_some_and(|v1| v1.allows_news(now)) {
            return self.ignore(id, "too many sets of candidates".to_owned());
        }
        let was_mapped = self.connections.get(&id).is_some_and(Connection::has_mapped_port);
        let Some(v1) = self.v1(id) else { return };
        if generation <= v1.generation {
            return;
        }
        (v1.generation, v1.candidates) = (generation, candidates.clone());
        let sessions: Vec<SessionId> = v1.sessions.iter().copied().collect();
        let Some(entry) = self.connections.get(&id) else { return };
        // What the worker says of itself is not what is proved of the endpoint that it has reported.
        let address_proof = match candidate::reflexive(&candidates) {
            Some(reflexive) => entry.proof_of(reflexive.address().ip()),
            None => entry.proof(),
        };
        let has_opened = entry.has_mapped_port() && !was_mapped;
        for session in sessions {
            let candidates = candidates.clone();
            let message =
                ServerV1::PeerCandidates { session, generation, candidates, address_proof };
            self.send_news_to_peer(id, session, News::Candidates, &message);
            if has_opened {
                self.replan(session, false, now);
            }
        }
    }

    fn profile(&mut self, id: ConnectionId, profile: NatProfile, now: Instant) {
        let Some(v1) = self.v1(id) else { return };
        if v1.profile == profile {
            return;
        }
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
        let Some((key, clock)) = &self.config.proofs else { return };
        let Some(nonce) =
            self.connections.get(&id).and_then(|it| it.v1.as_ref()).map(|v1| v1.nonce)
        else {
            return;
        };
        let Ok(proof) = proof.parse::<AddressProof>() else {
            return self.ignore(id, "an address_proof that is none".to_owned());
        };
        match key.verify(nonce, address, &proof, clock.unix_s(now)) {
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
            if let (Some(own), Some(entry)) =
                (self.end_of(id, session), self.sessions.get_mut(&session))
            {
                entry.accepted[own] = Some(number);
            }
        }
    }
}
