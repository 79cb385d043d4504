//! A worker without the feature `turn`: it uses no TURN server, whichever it is told.

use std::net::SocketAddr;

use holepunch_link::RelayEnd;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::SessionDetails;
use holepunch_wire::turn::TurnServer;

/// The TURN relays of all sessions: none.
#[derive(Debug)]
pub(crate) struct Turns;

impl Turns {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn renewed(&self, _: Vec<TurnServer>) {}

    /// No session may use TURN.
    pub(crate) fn begin(&mut self, _: &SessionDetails, _: impl FnOnce() -> Option<RelayEnd>) {}

    pub(crate) fn peer_at(&self, _: SessionId, _: SocketAddr) {}

    /// Never returns: there is no own address.
    pub(crate) async fn next(&mut self) -> (SessionId, SocketAddr) {
        std::future::pending().await
    }

    pub(crate) fn own(&self) -> Vec<(SessionId, SocketAddr)> {
        Vec::new()
    }

    #[expect(clippy::unused_async, reason = "as the one of the feature has it")]
    pub(crate) async fn close(self) {}
}
