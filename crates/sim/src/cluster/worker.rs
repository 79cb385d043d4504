//! A worker as the rendezvous see it: it registers, asks for a peer, says what becomes of it, leaves, and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use holepunch_matchmaker::{ConnectionId, Permit, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::{HeldSession, ServerV1};

use super::Chance;

/// The rooms of a history: of pairs, with one of many, and with some from which others are called.
pub(super) const ROOMS: [[&str; 3]; 3] =
    [["", "r", "s"], ["", "mesh", "mesh"], ["r", "call", "call too"]];

/// Who is offered to whom in a worker's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pair,
    Mesh,
    Call,
}

/// One session, as one of its two workers sees it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) peer: WorkerId,
    pub(super) since: Instant,
    pub(super) number: u32,
    /// What it says of it when it takes it up.
    held: HeldSession,
    /// The worker has had another connection since: nobody has told it whether it has this session still.
    pub(super) is_unsure: bool,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) permit: Arc<Permit>,
    pub(super) protocol: Protocol,
    pub(super) room: &'static str,
    /// Its key, where it has one: digits.
    key: Option<String>,
    /// Since when its id has been bound to that.
    pub(super) bound_at: Option<Instant>,
    /// Where its WebSocket is.
    pub(super) at: Option<(usize, ConnectionId)>,
    /// When it has lost its last connection.
    pub(super) lost_at: Option<Instant>,
    /// The token with which it takes up its sessions, and that of its last welcome, which is good once the hello has been
    /// heard.
    resume: Option<String>,
    welcomed: Option<String>,
    pub(super) sessions: BTreeMap<SessionId, Seen>,
    /// Since when it has asked for a peer, and has none.
    pub(super) wants_since: Option<Instant>,
    /// Whom it has called, and since when it has not been told what becomes of that.
    pub(super) calls: Option<(usize, Instant)>,
}

/// What a frame means to a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It may say hello.
    Welcome,
    /// It is offered a peer, and gives up these for it.
    Offer(SessionId, WorkerId, Vec<SessionId>),
    /// A session is over.
    Ended(SessionId),
    Nothing,
}

impl Worker {
    pub(super) fn new(
        (number, permit): (usize, Arc<Permit>),
        rooms: [&'static str; 3],
        chance: &mut Chance,
    ) -> Self {
        let protocol = if chance.is(25) { Protocol::Baseline } else { Protocol::V1 };
        let is_v1 = protocol == Protocol::V1;
        Self {
            id: WorkerId::new(&format!("w{number}")).expect("invariant: a valid id"),
            permit,
            protocol,
            room: if is_v1 { rooms[chance.below(3) as usize] } else { "" },
            key: (is_v1 && chance.is(40)).then(|| format!("{:02x}", number + 1).repeat(32)),
            bound_at: None,
            at: None,
            lost_at: None,
            resume: None,
            welcomed: None,
            sessions: BTreeMap::new(),
            wants_since: None,
            calls: None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.room {
            "mesh" => Kind::Mesh,
            "call" | "call too" => Kind::Call,
            _ => Kind::Pair,
        }
    }

    /// What it says first.
    pub(super) fn hello(&mut self) -> String {
        let mut fields = String::new();
        if !self.room.is_empty() {
            fields += &format!(r#","room":"{}""#, self.room);
        }
        fields += match self.kind() {
            Kind::Pair => "",
            Kind::Mesh => r#","mode":"mesh""#,
            Kind::Call => r#","mode":"call","callable":true"#,
        };
        if let Some(key) = &self.key {
            fields += &format!(r#","key":"{key}""#);
        }
        match &self.resume {
            Some(token) => {
                let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
                let sessions = serde_json::to_string(&sessions).unwrap_or_default();
                let held: Vec<_> = self.sessions.values().map(|seen| &seen.held).collect();
                let held = serde_json::to_string(&held).unwrap_or_default();
                fields += &format!(r#","resume":"{token}","sessions":{sessions},"held":{held}"#);
            }
            None => self.sessions.clear(),
        }
        format!(r#"{{"type":"hello"{fields}}}"#)
    }

    pub(super) fn hear(&mut self, text: &str, now: Instant) -> Heard {
        match FromServer::parse(text) {
            Ok(FromServer::UdpEndpointAck(_)) => {
                self.resume = self.welcomed.take().or(self.resume.take());
                self.bound_at = self.bound_at.or(self.key.is_some().then_some(now));
            }
            Ok(FromServer::Offer(Ok(_))) => self.wants_since = None,
            Ok(FromServer::SessionOffer(Ok(offer))) => {
                let (session, peer) = (offer.details.session, offer.peer.clone());
                let number = offer.details.plan.number;
                // In a room of pairs, a peer takes the place of the one before.
                let is_pair = self.kind() == Kind::Pair;
                let unsure = self.sessions.extract_if(.., |_, seen| is_pair && seen.is_unsure);
                let unsure = unsure.map(|(session, _)| session).collect();
                let held = offer.held(true);
                let seen = Seen { peer: peer.clone(), since: now, number, held, is_unsure: false };
                self.sessions.insert(session, seen);
                self.wants_since = None;
                self.calls.take_if(|(called, _)| peer.as_str() == format!("w{called}"));
                return Heard::Offer(session, peer, unsure);
            }
            Ok(FromServer::V1(Ok(message))) => return self.hear_v1(*message, now),
            Ok(FromServer::Error(complaint)) if complaint.message.contains("cannot be called") => {
                self.calls = None;
            }
            Ok(_) | Err(_) => {}
        }
        Heard::Nothing
    }

    fn hear_v1(&mut self, message: ServerV1, now: Instant) -> Heard {
        match message {
            ServerV1::Welcome(welcome) => {
                self.welcomed = Some(welcome.resume);
                Heard::Welcome
            }
            ServerV1::SessionEnded { session, .. } => {
                self.sessions.remove(&session);
                if self.sessions.is_empty() {
                    self.wants_since.get_or_insert(now);
                }
                Heard::Ended(session)
            }
            ServerV1::Plan { session, plan } => {
                if let Some(seen) = self.sessions.get_mut(&session) {
                    (seen.number, seen.is_unsure) = (plan.number, false);
                    seen.held.planned(&plan);
                }
                Heard::Nothing
            }
            ServerV1::Error { call: Some(_), .. } => {
                self.calls = None;
                Heard::Nothing
            }
            ServerV1::P2pConnectionOffer { .. }
            | ServerV1::PeerCandidates { .. }
            | ServerV1::PeerAccepted { .. }
            | ServerV1::PeerTurnAddress { .. }
            | ServerV1::RelayToken { .. }
            | ServerV1::RoomEntered
            | ServerV1::Closing { .. }
            | ServerV1::Error { .. } => Heard::Nothing,
        }
    }
}
