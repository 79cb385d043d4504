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
/// Sockets that it asks from, the own one included.
pub(super) const REUSE_SOCKETS: usize = 4;
/// Mappings that are enough to call ports not reused: a block of 64 that reuses its ports shows no
/// port twice among so many in 1 of 2,000 cases.
const REUSE_SAMPLES: usize = 32;
/// Mappings that are made even after reuse has been seen: they narrow the block.
const REUSE_SAMPLES_MIN: usize = 12;
/// Fewer answers than this are no proof that ports are not reused.
const REUSE_PROOF_MIN: usize = 24;
/// Between two of its packets.
const REUSE_EVERY: Duration = Duration::from_millis(10);

/// A test for reuse of ports.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    pub(super) sockets: Vec<(SocketId, u16)>,
    pub(super) queue: VecDeque<(SocketId, u16, SocketAddr)>,
    pub(super) next_at: Option<Instant>,
    pub(super) started: bool,
}

impl Profiler {
    /// Finds out whether the NAT reuses ports, unless that is known.
    pub(crate) fn test_reuse(&mut self) {
        let is_block = matches!(self.profile.allocation, Allocation::Block { .. });
        if self.reuse.is_some() || self.profile.reuses_ports.is_some() || !is_block {
            return;
        }
        self.sockets_wanted += u16::try_from(REUSE_SOCKETS - 1).unwrap_or(0);
        let sockets = vec![(SocketId::MAIN, self.main_port)];
        self.reuse = Some(Reuse { sockets, ..Reuse::default() });
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
        let enough = samples >= REUSE_SAMPLES || (seen && samples >= REUSE_SAMPLES_MIN);
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
            if !seen && samples >= REUSE_PROOF_MIN {
                self.profile.reuses_ports = Some(false);
            }
            let sockets = reuse.sockets.iter().map(|(socket, _)| *socket);
            self.to_close.extend(sockets.filter(|socket| *socket != SocketId::MAIN));
            reuse.sockets.clear();
            reuse.started = false;
        }
    }
}
