//! Whether a NAT with dependent mapping uses one external port for several destinations. That decides
//! whether two blocks can be searched, and costs ports, so it is found out only when a plan needs it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::Allocation;
use rand::rngs::StdRng;

use super::Profiler;
use super::exchange::Purpose;
use crate::doors::SocketId;

/// Destinations that a test for reuse asks.
pub(super) const REUSE_DESTINATIONS_MAX: usize = 8;
/// Sockets that it asks from, the own one included: one for so many ports of the block, within bounds.
/// Each makes eight mappings. A block of `n` ports that reuses them shows none twice among `k` mappings
/// with a probability of about `e^(-k²/2n)`: 32 of 64 ports, 1 in 3,000 cases.
const PORTS_PER_SOCKET: usize = 16;
const REUSE_SOCKETS_MIN: usize = 4;
const REUSE_SOCKETS_MAX: usize = 16;
/// Mappings that are made even after reuse has been seen: they narrow the block.
const REUSE_SAMPLES_MIN: usize = 12;
/// Between two of its packets.
const REUSE_EVERY: Duration = Duration::from_millis(10);

/// A test for reuse of ports.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    pub(super) sockets: Vec<(SocketId, u16)>,
    pub(super) queue: VecDeque<(SocketId, u16, SocketAddr)>,
    pub(super) next_at: Option<Instant>,
    pub(super) started: bool,
    /// How many sockets there are to be.
    pub(super) sockets_wanted: usize,
}

impl Reuse {
    /// Mappings that are enough to call ports not reused.
    fn samples_max(&self) -> usize {
        self.sockets_wanted * REUSE_DESTINATIONS_MAX
    }

    /// Fewer answers than this are no proof of it.
    fn proof_min(&self) -> usize {
        self.samples_max() * 3 / 4
    }
}

impl Profiler {
    /// Finds out whether the NAT reuses ports, unless that is known.
    pub(crate) fn test_reuse(&mut self) {
        let Allocation::Block { size, .. } = self.profile.allocation else { return };
        if self.reuse.is_some() || self.profile.reuses_ports.is_some() {
            return;
        }
        let sockets_wanted = usize::from(size) / PORTS_PER_SOCKET;
        let sockets_wanted = sockets_wanted.clamp(REUSE_SOCKETS_MIN, REUSE_SOCKETS_MAX);
        self.sockets_wanted += u16::try_from(sockets_wanted - 1).unwrap_or(0);
        let sockets = vec![(SocketId::MAIN, self.main_port)];
        self.reuse = Some(Reuse { sockets, sockets_wanted, ..Reuse::default() });
    }

    pub(super) fn start_reuse(&mut self, now: Instant) {
        let Some(reuse) = &mut self.reuse else { return };
        reuse.started = true;
        reuse.next_at = Some(now);
        for server in &self.servers {
            for (socket, port) in &reuse.sockets {
                let known = *socket == SocketId::MAIN
                    && self.main.iter().any(|(_, sample)| sample.server == *server);
                if !known {
                    reuse.queue.push_back((*socket, *port, *server));
                }
            }
        }
    }

    /// Sends the next packet of the test for reuse, or ends it.
    pub(super) fn run_reuse(&mut self, now: Instant, rng: &mut StdRng) {
        let samples = self.main.len() + self.fresh_samples.len();
        let waiting = self.is_out(&[Purpose::Reuse]);
        let Some(reuse) = &mut self.reuse else { return };
        let seen = self.profile.reuses_ports == Some(true);
        let enough = samples >= reuse.samples_max() || (seen && samples >= REUSE_SAMPLES_MIN);
        if enough {
            reuse.queue.clear();
        }
        if reuse.next_at.is_some_and(|at| at <= now) {
            reuse.next_at = Some(now + REUSE_EVERY);
            if let Some((socket, _, server)) = reuse.queue.pop_front() {
                return self.ask(Purpose::Reuse, socket, server, now, rng);
            }
            reuse.next_at = None;
        }
        if reuse.started && reuse.next_at.is_none() && !waiting {
            if !seen && samples >= reuse.proof_min() {
                self.profile.reuses_ports = Some(false);
            }
            let sockets = reuse.sockets.iter().map(|(socket, _)| *socket);
            self.to_close.extend(sockets.filter(|socket| *socket != SocketId::MAIN));
            reuse.sockets.clear();
            reuse.started = false;
        }
    }
}
