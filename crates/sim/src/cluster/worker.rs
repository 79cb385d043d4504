//! A worker as the rendezvous see it: it registers, asks for a peer, says what becomes of it, leaves, and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use holepunch_matchmaker::{ConnectionId, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::ServerV1;

/// One session, as one of its two workers sees it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) peer: WorkerId,
    pub(super) since: Instant,
    pub(super) number: u32,
    /// The worker has had another connection since: nobody has told it whether it has this session still.
    pub(super) is_unsure: bool,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) protocol: Protocol,
    pub(super) room: &'static str,
    /// Where its WebSocket is.
    pub(super) at: Option<(usize, ConnectionId)>,
    /// When it has lost its last connection.
    pub(super) lost_at: Option<Instant>,
    /// The token with which it takes up its sessions, and that of its last welcome, which is good once the hello has been
    /// heard.
    pub(super) resume: Option<String>,
    pub(super) welcomed: Option<String>,
    pub(super) sessions: BTreeMap<SessionId, Seen>,
    /// Those that it has left: it says so again after each hello, since what it said may have been lost with its connection.
    pub(super) left: BTreeSet<SessionId>,
    /// Since when it has asked for a peer, and has none.
    pub(super) wants_since: Option<Instant>,
}

/// What a frame means to a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It may say hello.
    Welcome,
    /// It is offered a peer.
    Offer(SessionId, WorkerId),
    /// A session is over.
    Ended(SessionId),
    Nothing,
}

impl Worker {
    pub(super) fn new(number: usize, protocol: Protocol, room: &'static str) -> Self {
        Self {
            id: WorkerId::new(&format!("w{number}")).expect("invariant: a valid id"),
            protocol,
            room,
            at: None,
            lost_at: None,
            resume: None,
            welcomed: None,
            sessions: BTreeMap::new(),
            left: BTreeSet::new(),
            wants_since: None,
        }
    }

    pub(super) fn hear(&mut self, text: &str, now: Instant) -> Heard {
        let heard = FromServer::parse(text);
        if matches!(heard, Ok(FromServer::UdpEndpointAck(_))) {
            self.resume = self.welcomed.take().or(self.resume.take());
        }
        match heard {
            Ok(FromServer::Offer(Ok(_))) => {
                self.wants_since = None;
                Heard::Nothing
            }
            Ok(FromServer::SessionOffer(Ok(offer))) => {
                let (session, peer) = (offer.details.session, offer.peer.clone());
                let number = offer.details.plan.number;
                self.sessions.retain(|_, seen| !seen.is_unsure);
                let seen = Seen { peer: peer.clone(), since: now, number, is_unsure: false };
                self.sessions.insert(session, seen);
                self.wants_since = None;
                Heard::Offer(session, peer)
            }
            Ok(FromServer::V1(Ok(message))) => match *message {
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
                    }
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
            },
            Ok(_) | Err(_) => Heard::Nothing,
        }
    }
}
