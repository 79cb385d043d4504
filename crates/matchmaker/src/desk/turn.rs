//! TURN: what opens its servers.

use std::time::Duration;

use holepunch_wire::turn::TurnServer;

use super::{Desk, Surroundings};

/// Credentials that have lived this share of their life get company by fresh ones in the next offer, so that
/// those of a session have the other half before them.
const RENEWED_AFTER: u32 = 2;

impl Desk {
    /// What opens the TURN servers for this worker from now on.
    pub(super) fn turn_servers(&self, at: Surroundings<'_>) -> Vec<TurnServer> {
        let (Some(access), Some(unix)) = (&at.config.turn, at.unix) else { return Vec::new() };
        access.servers(&self.card.worker, unix.as_secs())
    }

    /// Fresh ones for an offer, where those that the connection has are too old.
    pub(super) fn renewed_turn(&mut self, at: Surroundings<'_>) -> Vec<TurnServer> {
        let (Some(v1), Some(access)) = (&mut self.v1, &at.config.turn) else { return Vec::new() };
        let age = at.now.saturating_duration_since(v1.turn_issued_at);
        if age < Duration::from_secs(access.lifetime_s) / RENEWED_AFTER {
            return Vec::new();
        }
        v1.turn_issued_at = at.now;
        self.turn_servers(at)
    }
}
