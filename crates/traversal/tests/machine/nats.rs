//! Two NATs that give each destination another port and let everybody in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_traversal::SocketId;

/// A mapping that nothing has left by for so long is forgotten: what comes in does not count.
const LIFETIME: Duration = Duration::from_secs(30);
/// Ports of new mappings, beside the first, which keeps the worker's.
const FIRST_PORT: u16 = 30_000;

/// Whose socket, and to where.
type Flow = (usize, SocketId, SocketAddr);

#[derive(Debug, Default)]
pub(crate) struct HardNats {
    /// The port outside, and when a packet last left by it.
    mappings: BTreeMap<Flow, (SocketAddr, Instant)>,
    /// How many there have been.
    pub(crate) made: u16,
}

impl HardNats {
    /// Where a packet seems to come from.
    pub(crate) fn outward(&mut self, flow: Flow, local: SocketAddr, now: Instant) -> SocketAddr {
        let is_alive = |at: Instant| now.saturating_duration_since(at) < LIFETIME;
        let known = self.mappings.get(&flow).filter(|(_, at)| is_alive(*at));
        let outside = known.map(|(outside, _)| *outside).unwrap_or_else(|| {
            let is_first = !self.mappings.keys().any(|(index, ..)| *index == flow.0);
            self.made += 1;
            let port = if is_first { local.port() } else { FIRST_PORT + self.made };
            SocketAddr::new(local.ip(), port)
        });
        self.mappings.insert(flow, (outside, now));
        outside
    }

    /// Whose socket a packet to there comes to.
    pub(crate) fn inward(&self, to: SocketAddr, now: Instant) -> Option<(usize, SocketId)> {
        let is_it = |(outside, at): &(SocketAddr, Instant)| {
            *outside == to && now.saturating_duration_since(*at) < LIFETIME
        };
        let found = self.mappings.iter().find(|(_, mapping)| is_it(mapping));
        found.map(|((index, socket, _), _)| (*index, *socket))
    }

    /// Where packets of this flow come from.
    pub(crate) fn outside(&self, flow: Flow) -> Option<SocketAddr> {
        self.mappings.get(&flow).map(|(outside, _)| *outside)
    }
}
