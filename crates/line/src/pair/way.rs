//! A route between the two sides, and what becomes of packets on it.

use std::time::Duration;

use bytes::Bytes;

use super::scenario::{Fault, Kind, Outage, Scenario};
use crate::line::{Fate, Line, LineConfig, Loss};

/// Retransmissions of TCP after a first loss: this, doubling.
const TCP_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A relay that is silent for so long is asked, and another connection is tried beside the silent one from then on
/// (`worker::relay::liveness`) ...
pub(crate) const RENEW_AFTER: Duration = Duration::from_millis(1500);
/// ... which is closed after so long.
pub(crate) const DOWN_AFTER: Duration = Duration::from_millis(5750);
/// What waits for a relay (`link::mux::relay`), in bytes.
const HELD_BYTES_MAX: usize = 160 * 1024;
/// What was under way on a connection of TCP that is given up, in bytes.
const UNDER_WAY_BYTES: usize = 64 * 1024;
/// A queue of a line, as time, and what it holds at least, in bytes.
const QUEUE: (Duration, u64) = (Duration::from_millis(100), 64_000);

/// One of the two routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Direct,
    Relay,
}

impl holepunch_paths::Route for By {
    fn is_direct(&self) -> bool {
        *self == Self::Direct
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// A datagram of QUIC.
    Quic(Bytes),
    /// A check, and when it was sent.
    Check(Duration),
    /// The answer to one that was sent then.
    Answer(Duration),
}

impl Load {
    fn bytes(&self) -> usize {
        match self {
            Self::Quic(datagram) => datagram.len(),
            Self::Check(_) | Self::Answer(_) => 100,
        }
    }
}

/// The direct route: a line each way.
#[derive(Debug)]
pub(crate) struct Direct {
    lines: [Line; 2],
    outages: Vec<Outage>,
}

fn lines(bits_per_second: u64, delay: Duration, loss: f64, seed: u64) -> [Line; 2] {
    let queue_bytes = (bits_per_second as f64 / 8.0 * QUEUE.0.as_secs_f64()) as u64;
    let queue_bytes = queue_bytes.max(QUEUE.1);
    let config = LineConfig { bits_per_second, delay, queue_bytes, loss: Loss(loss) };
    [seed, seed ^ 0x5eed].map(|seed| Line::new(config, seed))
}

impl Direct {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let delay = scenario.direct_rtt / 2;
        let lines = lines(scenario.bits_per_second, delay, scenario.loss, scenario.seed);
        Self { lines, outages: scenario.outages.clone() }
    }

    /// When a packet of the side `from` arrives. `batch`: it left the system together with others, by segmentation offload.
    pub(crate) fn send(
        &mut self,
        from: usize,
        load: &Load,
        batch: bool,
        now: Duration,
    ) -> Option<Duration> {
        let is_lost = self.outages.iter().filter(|outage| outage.is_at(now)).any(|outage| {
            match outage.fault {
                Fault::Direct | Fault::Both => true,
                Fault::OneWay(side) => side == from,
                Fault::Narrow(bytes) => load.bytes() > bytes,
                Fault::Batches => batch,
                Fault::Relay => false,
            }
        });
        match self.lines[from].send(load.bytes(), now) {
            Fate::Arrives(at) if !is_lost => Some(at),
            Fate::Arrives(_) | Fate::Dropped | Fate::Lost => None,
        }
    }
}

/// The relay: TCP, which loses nothing and is late, until one of its connections is given up.
#[derive(Debug)]
pub(crate) struct Relay {
    lines: [Line; 2],
    outages: Vec<Outage>,
    held: [Vec<Load>; 2],
    /// Its connections end when it fails.
    resets: bool,
    /// What is under way when it fails is lost with the connection, at once or later.
    loses_under_way: bool,
}

/// The moments of an outage of the relay at which something happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// The connection is closed, if it comes to that.
    pub(crate) down: Option<Duration>,
    /// Packets pass again.
    pub(crate) up: Duration,
    /// By another connection.
    pub(crate) is_renewed: bool,
}

impl Relay {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let delay = scenario.relay_rtt / 2;
        let lines = lines(scenario.bits_per_second, delay, 0.0, scenario.seed ^ 0x0e1a);
        let is_cut = |outage: &&Outage| matches!(outage.fault, Fault::Relay | Fault::Both);
        let outages = scenario.outages.iter().filter(is_cut).copied().collect();
        let loses_under_way = scenario.kind == Kind::DeadRelay;
        let (held, resets) = ([Vec::new(), Vec::new()], scenario.relay_resets);
        Self { lines, outages, held, resets, loses_under_way }
    }

    /// Whether what would arrive now is lost.
    pub(crate) fn loses(&self, now: Duration) -> bool {
        self.loses_under_way && self.outages.iter().any(|outage| outage.is_at(now))
    }

    /// What becomes of the connection in each outage. `tries`: so long after its end another attempt begins.
    pub(crate) fn turns(&self, rtt: Duration, tries: Duration) -> Vec<Turn> {
        let turn = |outage: &Outage| {
            let (from, to) = (outage.from, outage.to);
            if self.resets {
                let up = to + tries + rtt * 3;
                return Turn { down: Some(from), up, is_renewed: true };
            }
            let mut again = TCP_AGAIN_AFTER.max(rtt);
            let mut tcp = from + again;
            while tcp < to {
                again *= 2;
                tcp += again;
            }
            // TCP, TLS and the WebSocket take a round trip each.
            let renewed = (from + RENEW_AFTER).max(to + tries) + rtt * 3;
            let down = Some(from + DOWN_AFTER).filter(|down| *down < renewed && *down < tcp);
            Turn { down, up: tcp.min(renewed), is_renewed: renewed < tcp }
        };
        self.outages.iter().map(turn).collect()
    }

    /// When a packet of the side `from` arrives; one that is held is told by [`release`](Self::release).
    pub(crate) fn send(
        &mut self,
        from: usize,
        load: Load,
        (now, is_up): (Duration, bool),
    ) -> Option<(Duration, Load)> {
        if is_up && !self.outages.iter().any(|outage| outage.is_at(now)) {
            return self.pass(from, load, now);
        }
        let held: usize = self.held[from].iter().map(Load::bytes).sum();
        if held < HELD_BYTES_MAX {
            self.held[from].push(load);
        }
        None
    }

    fn pass(&mut self, from: usize, load: Load, now: Duration) -> Option<(Duration, Load)> {
        match self.lines[from].send(load.bytes(), now) {
            Fate::Arrives(at) => Some((at, load)),
            Fate::Dropped | Fate::Lost => None,
        }
    }

    /// Packets pass again.
    pub(crate) fn release(
        &mut self,
        from: usize,
        is_renewed: bool,
        now: Duration,
    ) -> Vec<(Duration, Load)> {
        let mut lost = if is_renewed { UNDER_WAY_BYTES } else { 0 };
        let held = std::mem::take(&mut self.held[from]);
        let held = held.into_iter().filter(|load| {
            let is_lost = lost > 0;
            lost = lost.saturating_sub(load.bytes());
            !is_lost
        });
        let held: Vec<Load> = held.collect();
        held.into_iter().filter_map(|load| self.pass(from, load, now)).collect()
    }
}
