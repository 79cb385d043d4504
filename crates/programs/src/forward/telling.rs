//! What is told of single connections, beside the counts.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::target::Target;

/// Who wanted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// A program on this side, which the peer was asked to connect.
    ThisSide,
    /// The peer, which this side was asked to connect.
    Peer,
}

/// A connection that did not come about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotMade {
    /// Who wanted it.
    pub asked_by: Asker,
    /// Where it was to lead; `None` where nobody has said so.
    pub target: Option<Target>,
    /// Why, in words that may be shown.
    pub reason: String,
    /// The same for programs, where nothing but the link, or the peer's version, is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
}

/// The peer listens for this side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemoteListening {
    /// Where it was to listen.
    pub listen: SocketAddr,
    /// Where what comes there leads to, from this side.
    pub to: Target,
    /// Where it does, as the peer says.
    pub address: SocketAddr,
}

/// The peer does not listen for this side, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotListening {
    /// Where it was to listen.
    pub listen: SocketAddr,
    /// Where what comes there would lead to, from this side.
    pub to: Target,
    /// Why: `not_allowed`, `in_use`, `peer_too_old`, …
    pub code: &'static str,
    /// The same in words that may be shown.
    pub reason: String,
}

/// This side does not listen for the peer, which has asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenRefused {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// Why: `not_allowed`, `in_use`, …
    pub code: &'static str,
    /// The same in words.
    pub reason: String,
}

/// What is told while connections are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A connection did not come about.
    NotMade(NotMade),
    /// The peer listens for this side.
    Listening(RemoteListening),
    /// It does not.
    NotListening(NotListening),
    /// This side listens for the peer.
    ListensForPeer(SocketAddr),
    /// It does not.
    ListenRefused(ListenRefused),
}

/// Who is told of each connection that did not come about, and of listeners on the peer's side and for the peer.
pub struct Listener(Box<dyn Fn(Told) + Send + Sync>);

impl Listener {
    /// Told from whatever task it happens in: it must not wait.
    pub fn new(listener: impl Fn(Told) + Send + Sync + 'static) -> Self {
        Self(Box::new(listener))
    }

    pub(super) fn not_made(&self, not_made: NotMade) {
        (self.0)(Told::NotMade(not_made));
    }

    pub(super) fn listening(&self, there: RemoteListening) {
        (self.0)(Told::Listening(there));
    }

    pub(super) fn not_listening(&self, why: NotListening) {
        (self.0)(Told::NotListening(why));
    }

    pub(super) fn listen_refused(&self, why: ListenRefused) {
        (self.0)(Told::ListenRefused(why));
    }

    pub(super) fn listens_for_peer(&self, address: SocketAddr) {
        (self.0)(Told::ListensForPeer(address));
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
