//! Sessions of two workers: their beginning, their end, and their taking up again.

use std::time::Instant;

use holepunch_wire::check::IceRole;
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::{RelayToken, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionDetails};
use rand::RngExt;

use crate::connection::Connection;
use crate::doors::{Action, ConnectionId, Event, News, RelayRefusal, Transmit};
use crate::machine::Matchmaker;
use crate::plan::Tried;
use crate::queue::Place;
use crate::session::{End, Session};

impl Matchmaker {
    /// A worker that has lost its connection takes its sessions with it to the new one.
    pub(super) fn resume(&mut self, id: ConnectionId, token: &str) {
        let Some(worker) = self.connections.get(&id).map(|entry| entry.worker.clone()) else {
            return;
        };
        let Some(v1) = self.v1(id) else { return };
        let next = v1.resume.clone();
        // It may have begun others before it asks for these.
        let room = SESSIONS_MAX.saturating_sub(v1.sessions.len());
        let mut resumed = Vec::new();
        // Those that have lost this worker, and no others.
        for (at, number) in self.waiting.of(&worker) {
            if resumed.len() == room {
                break;
            }
            let Some(session) = self.sessions.get_mut(&number) else { continue };
            let end = session.ends.iter_mut().find(|end| end.gone.is_some() && end.resume == token);
            if let Some(end) = end {
                (end.connection, end.gone) = (id, None);
                end.resume.clone_from(&next);
                resumed.push((at, number));
            }
        }
        for expiry in &resumed {
            self.waiting.remove(*expiry);
        }
        if let Some(v1) = self.v1(id) {
            v1.sessions.extend(resumed.into_iter().map(|(_, number)| number));
        }
    }

    /// A worker is there again: those of its sessions that it has not taken up, and that could not go on
    /// without it, are of a process that has ended.
    pub(super) fn end_abandoned(&mut self, id: ConnectionId, now: Instant) {
        let Some(worker) = self.connections.get(&id).map(|entry| &entry.worker) else { return };
        let is_abandoned = |session: &Session| {
            let own = session.ends.iter().position(|end| end.gone.is_some());
            own.is_some_and(|own| !session.is_linked() || session.is_lost(own))
        };
        let waiting = self.waiting.of(worker).map(|(_, number)| number);
        let abandoned: Vec<SessionId> =
            waiting.filter(|number| self.sessions.get(number).is_some_and(is_abandoned)).collect();
        for session in abandoned {
            self.end_session(session, None, "the peer has begun anew", now);
        }
    }

    /// A worker's connection to the relay of a session has been opened, or has ended.
    pub(crate) fn relay_changed(&mut self, id: SessionId, own: usize, is_open: bool, now: Instant) {
        let end = self.sessions.get_mut(&id).and_then(|session| session.ends.get_mut(own));
        if let Some(end) = end {
            end.unrelayed_since = (!is_open).then_some(now);
            self.wait_anew(id);
        }
    }

    /// Something has changed that decides how long a session waits for a worker that is gone.
    pub(super) fn wait_anew(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((before, until)) = session.wait() else { return };
        if let Some(gone) = session.ends.iter().find(|end| end.gone.is_some()) {
            self.waiting.remove((before, id));
            self.waiting.insert(&gone.worker, (until, id));
        }
    }

    pub(super) fn send_to_peer(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        message: &ServerV1,
    ) {
        let Some(own) = self.end_of(id, session) else { return };
        let Some(peer) = self.sessions.get(&session).map(|session| &session.ends[1 - own]) else {
            return;
        };
        if peer.gone.is_none() {
            self.send(peer.connection, message.encode());
        }
    }

    /// Likewise, in the place of older news of this kind that the peer has not been sent yet.
    pub(super) fn send_news_to_peer(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        news: News,
        message: &ServerV1,
    ) {
        let Some(own) = self.end_of(id, session) else { return };
        let peer = self.sessions.get(&session).map(|session| &session.ends[1 - own]);
        let connection = peer.filter(|peer| peer.gone.is_none()).map(|peer| peer.connection);
        if let Some(connection) = connection {
            self.send_update(connection, (session, news), message);
        }
    }

    /// Which end of a session a connection is.
    pub(super) fn end_of(&self, id: ConnectionId, session: SessionId) -> Option<usize> {
        self.sessions.get(&session)?.index(id)
    }

    /// Offers two workers each other. The second one controls, which is the one that has come last: the side
    /// that controls has a link half a round trip before the other one, and this one is in a hurry.
    pub(crate) fn begin_session(&mut self, pair: [(ConnectionId, Option<Place>); 2], now: Instant) {
        let mut turn = pair.map(|(id, _)| self.renewed_turn(id, now));
        let [first, second] = pair.map(|(id, _)| self.connections.get(&id));
        let (Some(first), Some(second)) = (first, second) else { return };
        let sides = [first.side(now), second.side(now)];
        let plans = self.planner.plan([&sides[0], &sides[1]], 1, &Tried::default(), now);
        let id = SessionId(self.rng.random());
        let credentials = [(); 2].map(|()| IceCredentials::from_random(self.rng.random()));
        // What is relayed is encrypted for the peer's key: without both, there is nothing to relay.
        let have_keys = [first, second]
            .iter()
            .all(|entry| entry.v1.as_ref().is_some_and(|v1| v1.key.is_some()));
        let relay = (self.config.relay && have_keys)
            .then(|| [(); 2].map(|()| RelayToken::from_random(self.rng.random())));
        let end = |(connection, place): (ConnectionId, Option<Place>), entry: &Connection| End {
            connection,
            worker: entry.worker.clone(),
            place,
            direct: false,
            relayed: false,
            resume: entry.v1.as_ref().map(|v1| v1.resume.clone()).unwrap_or_default(),
            gone: None,
            repairing: false,
            unrelayed_since: None,
        };
        let ends = [end(pair[0], first), end(pair[1], second)];
        let workers = [first.worker.clone(), second.worker.clone()];
        let roles = [IceRole::Controlled, IceRole::Controlling];
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
                    peer_key: v1.and_then(|v1| v1.key),
                    relay_token: relay.as_ref().map(|tokens| tokens[own].clone()),
                    candidates: v1.map(|v1| v1.candidates.clone()).unwrap_or_default(),
                    address_proof: peer.proof(),
                    turn: std::mem::take(&mut turn[own]),
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
        self.sessions.insert(id, Session::new(ends, plans, relay));
        self.events.push_back(Event::SessionStarted(id, workers, strategy, reason));
    }

    /// Which of the two workers of a session opens its relay with this token.
    ///
    /// # Errors
    /// There is no such session, or the token is not one of it.
    pub fn relay_end(&self, id: SessionId, token: &RelayToken) -> Result<usize, RelayRefusal> {
        let session = self.sessions.get(&id).ok_or(RelayRefusal::UnknownSession)?;
        let tokens = session.relay.as_ref().ok_or(RelayRefusal::UnknownSession)?;
        tokens.iter().position(|own| own.matches(token)).ok_or(RelayRefusal::WrongToken)
    }

    /// Ends a session. `leaver` knows; the other one is told, and waits for the next peer in its old
    /// place.
    pub(super) fn end_session(
        &mut self,
        id: SessionId,
        leaver: Option<ConnectionId>,
        reason: &'static str,
        now: Instant,
    ) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for end in &session.ends {
            if let Some(gone) = end.gone {
                self.waiting.remove((gone.until, id));
            }
            if let Some(v1) = self.v1(end.connection) {
                v1.sessions.remove(&id);
            }
        }
        self.events.push_back(Event::SessionEnded(id, reason));
        for (own, end) in session.ends.iter().enumerate() {
            if Some(end.connection) == leaver || end.gone.is_some() {
                let peer = session.ends[1 - own].worker.clone();
                if let Some(entry) = self.connections.get_mut(&end.connection) {
                    entry.remember(peer, now);
                }
                continue;
            }
            let ended = ServerV1::SessionEnded { session: id, reason: reason.to_owned() };
            self.send(end.connection, ended.encode());
            let peer = session.ends[1 - own].worker.clone();
            let Some(entry) = self.connections.get_mut(&end.connection) else { continue };
            entry.remember(peer, now);
            if let (Some(place), None, false) = (end.place, entry.place, entry.is_engaged()) {
                self.wait_again(end.connection, place, now);
            }
        }
    }

    /// A connection is gone. Its sessions wait for the worker to come back, unless it `leaves`: then those
    /// end in which the two do not talk yet.
    pub(crate) fn orphan(
        &mut self,
        gone: &Connection,
        id: ConnectionId,
        leaves: bool,
        now: Instant,
    ) {
        let Some(v1) = &gone.v1 else { return };
        for session in &v1.sessions {
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            let waits = !leaves || entry.is_linked();
            let own = entry.index(id).filter(|own| waits && entry.ends[1 - own].gone.is_none());
            if let Some(own) = own {
                entry.goes(own, now);
                self.wait_anew(*session);
            } else {
                self.end_session(*session, Some(id), "the peer's connection has ended", now);
            }
        }
        while let Some(surplus) = self.waiting.pop_surplus(&gone.worker) {
            self.expire(surplus, now);
        }
    }

    /// A session whose worker has not come back is over. Its direct path may go on; where there is only
    /// the relay, which ends with the session, the other one is told.
    pub(crate) fn expire(&mut self, id: SessionId, now: Instant) {
        if self.sessions.get(&id).is_some_and(|session| !session.outlives_a_worker()) {
            return self.end_session(id, None, "the peer has not come back", now);
        }
        let Some(session) = self.sessions.remove(&id) else { return };
        for end in &session.ends {
            if let Some(v1) = self.v1(end.connection) {
                v1.sessions.remove(&id);
            }
        }
        self.events.push_back(Event::SessionEnded(id, "its worker has not come back"));
    }
}
