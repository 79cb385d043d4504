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
/// It makes mappings for half of the block, as large as that seems by then, within bounds. A block of `n` ports
/// that reuses them shows none twice among `k` mappings with a probability of about `e^(-k²/2n)`: 32 of 64 ports,
/// 1 in 3,000 cases.
const REUSE_MAPPINGS_MIN: usize = 32;
const REUSE_MAPPINGS_MAX: usize = 128;
/// Sockets that it asks from, the own one included: each asks every destination.
const REUSE_SOCKETS_MIN: usize = 4;
const REUSE_SOCKETS_MAX: usize = 16;
/// Mappings that are made even after reuse has been seen: they narrow the block.
const REUSE_SAMPLES_MIN: usize = 12;
/// Between two of its packets, ...
const REUSE_EVERY: Duration = Duration::from_millis(10);
/// ... where the machine is called in time. One that is called late makes up for so much at once.
const REUSE_CATCH_UP: Duration = Duration::from_millis(500);

/// A test for reuse of ports.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    pub(super) sockets: Vec<(SocketId, u16)>,
    pub(super) queue: VecDeque<(SocketId, u16, SocketAddr)>,
    pub(super) next_at: Option<Instant>,
    pub(super) started: bool,
    /// How many sockets there are to be.
    pub(super) sockets_wanted: usize,
    /// How many mappings can be made.
    mappings: usize,
}

impl Reuse {
    pub(super) fn is_over(&self) -> bool {
        !self.started && self.sockets.is_empty()
    }
}

/// Mappings that are enough to call the ports of a block not reused. A few ports in order may be a block as well.
fn mappings_of(allocation: Allocation) -> Option<usize> {
    match allocation {
        Allocation::Block { size, .. } => {
            Some(usize::from(size / 2).clamp(REUSE_MAPPINGS_MIN, REUSE_MAPPINGS_MAX))
        }
        Allocation::Sequential { .. } => Some(REUSE_MAPPINGS_MIN),
        Allocation::Preserving | Allocation::Random | Allocation::Unknown => None,
    }
}

impl Profiler {
    /// Finds out whether the NAT reuses ports, unless that is known.
    pub(crate) fn test_reuse(&mut self) {
        let Some(mappings) = mappings_of(self.profile.allocation) else { return };
        if self.reuse.is_some() || self.profile.reuses_ports.is_some() {
            return;
        }
        let sockets_wanted = mappings.div_ceil(self.servers.len().max(1));
        let sockets_wanted = sockets_wanted.clamp(REUSE_SOCKETS_MIN, REUSE_SOCKETS_MAX);
        self.sockets_wanted += u16::try_from(sockets_wanted - 1).unwrap_or(0);
        let sockets = vec![(SocketId::MAIN, self.main_port)];
        self.reuse = Some(Reuse { sockets, sockets_wanted, ..Reuse::default() });
    }

    pub(super) fn start_reuse(&mut self, now: Instant) {
        let Some(reuse) = &mut self.reuse else { return };
        reuse.started = true;
        reuse.next_at = Some(now);
        reuse.mappings = reuse.sockets.len() * self.servers.len();
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

    fn samples(&self) -> usize {
        self.main.len() + self.fresh_samples.len()
    }

    /// Whether the test has shown something that is to be told before it has ended, or none is under way. Each of
    /// its samples makes the profile a little better, and would be one of many messages.
    pub(super) fn reuse_may_be_told(&self) -> bool {
        let was_told = self.told.as_ref().is_some_and(|told| told.reuses_ports == Some(true));
        let is_seen = self.profile.reuses_ports == Some(true) && !was_told;
        self.reuse.as_ref().is_none_or(Reuse::is_over)
            || is_seen && self.samples() >= REUSE_SAMPLES_MIN
    }

    /// Sends the packets of the test for reuse that are due, or ends it.
    pub(super) fn run_reuse(&mut self, now: Instant, rng: &mut StdRng) {
        let samples = self.samples();
        let seen = self.profile.reuses_ports == Some(true);
        let Some(reuse) = &mut self.reuse else { return };
        // A block that turns out to be smaller needs fewer.
        let wanted = mappings_of(self.profile.allocation).unwrap_or(REUSE_MAPPINGS_MIN);
        let samples_max = wanted.min(reuse.mappings);
        if samples >= samples_max || (seen && samples >= REUSE_SAMPLES_MIN) {
            reuse.queue.clear();
        }
        while let Some(reuse) = &mut self.reuse
            && let Some(at) = reuse.next_at.filter(|at| *at <= now)
        {
            let Some((socket, _, server)) = reuse.queue.pop_front() else {
                reuse.next_at = None;
                break;
            };
            let late = now.saturating_duration_since(at).saturating_sub(REUSE_CATCH_UP);
            reuse.next_at = Some(at + late + REUSE_EVERY);
            self.ask(Purpose::Reuse, socket, server, now, rng);
        }
        let waiting = self.is_out(&[Purpose::Reuse]);
        let Some(reuse) = &mut self.reuse else { return };
        if reuse.started && reuse.next_at.is_none() && !waiting {
            // Fewer answers than these are no proof.
            if !seen && samples >= samples_max * 3 / 4 {
                self.profile.reuses_ports = Some(false);
            }
            let sockets = reuse.sockets.iter().map(|(socket, _)| *socket);
            self.to_close.extend(sockets.filter(|socket| *socket != SocketId::MAIN));
            reuse.sockets.clear();
            reuse.started = false;
        }
    }
}
