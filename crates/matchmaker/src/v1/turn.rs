//! TURN: what opens its servers, and the relayed addresses that the two of a session tell each other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::turn::TurnServer;

use crate::doors::{ConnectionId, News};
use crate::machine::Matchmaker;

/// Credentials that have lived this share of their life get company by fresh ones in the next offer, so that
/// those of a session have the other half before them.
const RENEWED_AFTER: u32 = 2;

impl Matchmaker {
    /// What opens the TURN servers for `worker` from now on.
    pub(super) fn turn_servers(&self, worker: &WorkerId, now: Instant) -> Vec<TurnServer> {
        let (Some(access), Some((told_at, unix))) = (&self.config.turn, self.wall_clock) else {
            return Vec::new();
        };
        access.servers(worker, (unix + now.saturating_duration_since(told_at)).as_secs())
    }

    /// Fresh ones for an offer, where those that the connection has are too old.
    pub(super) fn renewed_turn(&mut self, id: ConnectionId, now: Instant) -> Vec<TurnServer> {
        let Some(entry) = self.connections.get_mut(&id) else { return Vec::new() };
        let worker = entry.worker.clone();
        let (Some(v1), Some(access)) = (&mut entry.v1, &self.config.turn) else {
            return Vec::new();
        };
        let age = now.saturating_duration_since(v1.turn_issued_at);
        if age < Duration::from_secs(access.lifetime_s) / RENEWED_AFTER {
            return Vec::new();
        }
        v1.turn_issued_at = now;
        self.turn_servers(&worker, now)
    }

    pub(super) fn turn_address(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        address: SocketAddr,
    ) {
        if address.port() == 0 || !AddressKind::of(address.ip()).is_reachable_unicast() {
            return self.ignore(id, "a turn_address that nothing can be sent to".to_owned());
        }
        let message = ServerV1::PeerTurnAddress { session, address };
        self.send_news_to_peer(id, session, News::TurnAddress, &message);
    }
}
