//! What links are made with, and what they tell.

use holepunch_traversal::RelayState;
use holepunch_wire::WorkerId;
use holepunch_wire::session::SessionId;
use tokio::sync::mpsc;

use super::hello::{Guesses, RoomSecret};
use crate::identity::Identity;
use crate::link::{Link, LinkError};
use crate::protocol::Protocols;

/// How links are made.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The worker's key.
    pub identity: Identity,
    /// What both sides of every link have to know.
    pub secret: Option<RoomSecret>,
    /// How often all peers together may guess it.
    pub guesses: Guesses,
    /// Whether relays may be used.
    pub relay: bool,
    /// What is spoken over the links.
    pub protocols: Protocols,
}

/// What happened to a link.
#[derive(Debug)]
pub enum LinkEvent {
    /// It is there.
    Established(Link),
    /// It has ended, or has not come about.
    Ended {
        /// Its session.
        session: SessionId,
        /// The peer.
        peer: WorkerId,
        /// Why.
        error: LinkError,
    },
    /// Data goes unanswered on its direct path.
    Doubt(SessionId),
    /// What the relay does for it.
    Relayed(SessionId, RelayState),
}

impl LinkEvent {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Established(link) => link.session(),
            Self::Ended { session, .. } | Self::Doubt(session) | Self::Relayed(session, _) => {
                *session
            }
        }
    }
}

/// How a session's task tells what has happened.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    /// A session that is begun anew has another task, which is not to end for what the first one says.
    pub(super) number: u64,
    pub(super) sender: mpsc::Sender<(u64, LinkEvent)>,
}

impl Teller {
    /// `false` when the worker has ended.
    pub(super) async fn tell(&self, event: LinkEvent) -> bool {
        self.sender.send((self.number, event)).await.is_ok()
    }
}
