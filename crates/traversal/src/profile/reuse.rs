//! Whether a NAT with dependent mapping uses one external port for several destinations. That decides
//! whether two blocks can be searched, and costs ports, so it is found out only when a plan needs it.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::{Allocation, Mapping};

use super::Profiler;
use super::classify::{self, Sample};
use super::exchange::Purpose;
use crate::doors::{SocketId, Turn};
use crate::schedule;

/// Destinations that a test for reuse asks.
pub(super) const REUSE_DESTINATIONS_MAX: usize = 8;
/// A block of `n` ports that reuses them shows none twice among so many pairs of mappings, which could each show it,
/// with a probability of `(1 - 1/n)^pairs`, about `e^(-pairs/n)`. Reuse is ruled out from `7 n` pairs on: 1 in 1,100.
const CHANCES_PER_PORT: usize = 7;
/// Of `k` mappings toward `d` destinations, `k²/2 · (d-1)/d` pairs could show it. So many mappings are made at most,
/// which is enough for a block of 1,000 ports; reuse may be seen in a larger one, and is not ruled out.
const REUSE_MAPPINGS_MAX: usize = 128;
/// The size of the block that a few ports in order may be.
const BLOCK_IN_ORDER: u16 = 64;
/// Sockets that it asks from, the own one included: each asks every destination.
const REUSE_SOCKETS_MIN: usize = 4;
const REUSE_SOCKETS_MAX: usize = 24;
/// Mappings that are made even after reuse has been seen: they narrow the block.
const REUSE_SAMPLES_MIN: usize = 12;
/// Between two of its packets.
const REUSE_EVERY: Duration = Duration::from_millis(10);

/// A test for reuse of ports.
#[derive(Debug)]
pub(super) struct Reuse {
    /// Those that are open; none when the test is over.
    sockets: Vec<(SocketId, u16)>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// So many sockets have neither opened nor failed yet.
    Opening { coming: usize },
    /// What has not been asked yet, and when the next of it is, where nothing else is waited for.
    Asking { queue: VecDeque<(SocketId, SocketAddr)>, next_at: Option<Instant> },
    /// All that there was to see has been seen.
    Over,
}

impl Reuse {
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening { .. })
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(super) fn sockets(&self) -> &[(SocketId, u16)] {
        &self.sockets
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Asking { next_at, .. } => next_at,
            Stage::Opening { .. } | Stage::Over => None,
        }
    }
}

/// Ports of the block whose reuse is in question, as far as it is known. A few ports in order may be a block as well.
fn block_ports(allocation: Allocation) -> Option<usize> {
    match allocation {
        Allocation::Block { size, .. } => Some(usize::from(size)),
        Allocation::Sequential { .. } => Some(usize::from(BLOCK_IN_ORDER)),
        Allocation::Preserving | Allocation::Random | Allocation::Unknown => None,
    }
}

/// Mappings toward so many destinations, two or more, that are enough to rule reuse out, as far as there may be so many.
fn mappings_for(ports: usize, destinations: usize) -> usize {
    let square = 2 * CHANCES_PER_PORT * ports * destinations / (destinations - 1);
    (square.saturating_sub(1).isqrt() + 1).min(REUSE_MAPPINGS_MAX)
}

/// Whether mappings without a port in common rule out that a block of so many ports reuses them.
fn is_ruled_out(samples: &[Sample], mapping: Mapping, ports: usize) -> bool {
    classify::chances(samples, mapping) >= CHANCES_PER_PORT * ports
}

impl Profiler {
    /// Finds out whether the NAT reuses ports, unless that is known.
    pub(crate) fn test_reuse(&mut self) {
        let Some(mappings) = self.mappings_wanted() else { return };
        if self.reuse.is_some() || self.profile.reuses_ports.is_some() {
            return;
        }
        // Some answers are lost.
        let sockets = (mappings + mappings / 4).div_ceil(self.servers.len());
        let coming = sockets.clamp(REUSE_SOCKETS_MIN, REUSE_SOCKETS_MAX) - 1;
        self.sockets_wanted += u16::try_from(coming).unwrap_or(0);
        let sockets = vec![(SocketId::MAIN, self.main_port)];
        self.reuse = Some(Reuse { sockets, stage: Stage::Opening { coming } });
    }

    /// Mappings that rule reuse out; `None` where there is no block, or no two destinations that could show it.
    fn mappings_wanted(&self) -> Option<usize> {
        let ports = block_ports(self.profile.allocation)?;
        let destinations = match self.profile.mapping {
            Mapping::AddressAndPortDependent => self.servers.len(),
            Mapping::AddressDependent | Mapping::EndpointDependent => {
                self.servers.iter().map(SocketAddr::ip).collect::<BTreeSet<_>>().len()
            }
            Mapping::None | Mapping::EndpointIndependent | Mapping::Unknown => 0,
        };
        (destinations > 1).then(|| mappings_for(ports, destinations))
    }

    /// A socket of the test has opened, or cannot be. With the last of them, the test begins.
    pub(super) fn reuse_socket(&mut self, opened: Option<(SocketId, u16)>, now: Instant) {
        let Some(Reuse { sockets, stage }) = &mut self.reuse else { return };
        let Stage::Opening { coming } = stage else { return };
        sockets.extend(opened);
        *coming = coming.saturating_sub(1);
        if *coming > 0 {
            return;
        }
        let (main, servers) = (&self.main, &self.servers);
        let is_known = |socket: SocketId, server: SocketAddr| {
            socket == SocketId::MAIN && main.iter().any(|(_, sample)| sample.server == server)
        };
        let routes = servers
            .iter()
            .flat_map(|server| sockets.iter().map(move |(socket, _)| (*socket, *server)));
        let queue = routes.filter(|(socket, server)| !is_known(*socket, *server)).collect();
        *stage = Stage::Asking { queue, next_at: Some(now) };
    }

    fn samples(&self) -> Vec<Sample> {
        self.main.iter().chain(&self.fresh_samples).map(|(_, sample)| *sample).collect()
    }

    /// Whether the test has shown something that is to be told before it has ended, or none is under way. Each of
    /// its samples makes the profile a little better, and would be one of many messages.
    pub(super) fn reuse_may_be_told(&self) -> bool {
        let was_told = self.told.as_ref().is_some_and(|told| told.reuses_ports == Some(true));
        let is_seen = self.profile.reuses_ports == Some(true) && !was_told;
        self.reuse.as_ref().is_none_or(Reuse::is_over)
            || is_seen && self.main.len() + self.fresh_samples.len() >= REUSE_SAMPLES_MIN
    }

    /// Sends the packets of the test for reuse that are due, or ends it.
    pub(super) fn run_reuse(&mut self, (now, rng): Turn<'_>) {
        let is_asking = |reuse: &Reuse| matches!(reuse.stage, Stage::Asking { .. });
        if !self.reuse.as_ref().is_some_and(is_asking) {
            return;
        }
        let samples = self.samples();
        let is_seen = self.profile.reuses_ports == Some(true);
        let ports = block_ports(self.profile.allocation);
        let is_ruled_out =
            ports.is_some_and(|ports| is_ruled_out(&samples, self.profile.mapping, ports));
        let is_known =
            is_ruled_out || ports.is_none() || is_seen && samples.len() >= REUSE_SAMPLES_MIN;
        // A block that turns out to be smaller needs fewer.
        let wanted = self.mappings_wanted().unwrap_or(0);
        loop {
            let out = self.exchanges.iter().filter(|it| it.purpose == Purpose::Reuse).count();
            let Some(Reuse { stage: Stage::Asking { queue, next_at }, .. }) = &mut self.reuse
            else {
                return;
            };
            if is_known {
                queue.clear();
            }
            if queue.is_empty() && out == 0 {
                return self.end_reuse(is_ruled_out && !is_seen);
            }
            // What has been asked counts, as long as it may be answered.
            if queue.is_empty() || out > 0 && samples.len() + out >= wanted {
                *next_at = None;
                return;
            }
            let at = *next_at.get_or_insert(now);
            if at > now {
                return;
            }
            let Some((socket, server)) = queue.pop_front() else { return };
            *next_at = Some(schedule::next_due(at, REUSE_EVERY, now));
            self.ask(Purpose::Reuse, socket, server, (now, rng));
        }
    }

    fn end_reuse(&mut self, is_ruled_out: bool) {
        if is_ruled_out {
            self.profile.reuses_ports = Some(false);
        }
        let Some(reuse) = &mut self.reuse else { return };
        reuse.stage = Stage::Over;
        let sockets = reuse.sockets.drain(..).map(|(socket, _)| socket);
        self.to_close.extend(sockets.filter(|socket| *socket != SocketId::MAIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Answered;
    use holepunch_wire::nat::SearchWish;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const DESTINATIONS: usize = 4;

    /// The mappings that a block of so many ports makes, which reuses them or does not.
    fn samples(ports: u16, mappings: usize, reuses: bool, rng: &mut StdRng) -> Vec<Sample> {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let at = Instant::now();
        let mut taken: BTreeSet<(u16, Option<usize>)> = BTreeSet::new();
        let sample = |index: usize| {
            let destination = index % DESTINATIONS;
            let port = loop {
                let port = rng.random_range(0..ports);
                if taken.insert((port, reuses.then_some(destination))) {
                    break port;
                }
            };
            Sample {
                local_port: u16::try_from(index / DESTINATIONS).unwrap(),
                server: SocketAddr::from(([192, 0, 2, 1], u16::try_from(destination).unwrap())),
                mapped: SocketAddr::from(([203, 0, 113, 1], 2048 + port)),
                at,
            }
        };
        (0..mappings).map(sample).collect()
    }

    #[test]
    fn what_rules_reuse_out_is_seen_of_a_block_that_reuses_once_in_a_thousand_times() {
        let mut rng = StdRng::seed_from_u64(1);
        for ports in [64, 128, 512] {
            let mappings = mappings_for(usize::from(ports), DESTINATIONS);
            let mapping = Mapping::AddressAndPortDependent;
            let is_mistaken = |rng: &mut StdRng| {
                let samples = samples(ports, mappings, true, rng);
                assert!(is_ruled_out(&samples, mapping, usize::from(ports)), "{ports}");
                !classify::reuses(&samples, mapping)
            };
            let mistaken = (0..4000).filter(|_| is_mistaken(&mut rng)).count();
            assert!(mistaken <= 12, "{mistaken} of 4,000 times with {ports} ports");
            let samples = samples(ports, mappings, false, &mut rng);
            assert!(!classify::reuses(&samples, mapping));
        }
    }

    #[test]
    fn few_answers_and_large_blocks_rule_nothing_out() {
        let mut rng = StdRng::seed_from_u64(1);
        let mapping = Mapping::AddressAndPortDependent;
        let few = samples(64, 24, false, &mut rng);
        assert!(!is_ruled_out(&few, mapping, 64), "three quarters of 32: 1 in 30");
        let many = samples(4096, REUSE_MAPPINGS_MAX, false, &mut rng);
        assert!(!is_ruled_out(&many, mapping, 4096), "more than 1 in 5");
        assert!(!is_ruled_out(&many, Mapping::AddressDependent, 64), "all go to one host");
    }

    #[test]
    fn fewer_destinations_need_more_mappings() {
        assert_eq!((mappings_for(64, 8), mappings_for(64, 4), mappings_for(64, 2)), (32, 35, 43));
        assert_eq!(mappings_for(4096, 8), REUSE_MAPPINGS_MAX);
    }

    /// Behind a NAT that takes ports from a block, as four servers have seen it.
    fn profiler((now, rng): Turn<'_>) -> Profiler {
        let mut profiler = Profiler::new(true, SearchWish::Usual);
        profiler.bound(8081);
        let servers =
            [([192, 0, 2, 1], 1), ([192, 0, 2, 1], 2), ([192, 0, 2, 2], 1), ([192, 0, 2, 2], 2)];
        for (index, (server, port)) in servers.into_iter().zip([2070, 2050, 2090, 2060]).enumerate()
        {
            let answered = Answered {
                index,
                server: server.into(),
                mapped: ([203, 0, 113, 1], port).into(),
                local: None,
                other: None,
                rtt: Duration::ZERO,
                proof: None,
            };
            profiler.mapped(&answered, &[], (now, rng));
        }
        profiler
    }

    fn open(profiler: &mut Profiler, socket: u16, (now, rng): Turn<'_>) {
        let local = SocketAddr::from(([0, 0, 0, 0], 10_000 + socket));
        profiler.socket_opened(SocketId(u32::from(socket)), local, (now, rng));
    }

    /// Lets time pass until nothing more is sent, without an answer; the sockets that packets have left from.
    fn run(profiler: &mut Profiler, (mut now, rng): Turn<'_>) -> BTreeSet<SocketId> {
        let mut used = BTreeSet::new();
        loop {
            profiler.handle_timeout((now, rng));
            used.extend(profiler.transmits.drain(..).map(|it| it.socket));
            match profiler.poll_timeout() {
                Some(at) => now = at,
                None => return used,
            }
        }
    }

    #[test]
    fn a_socket_that_cannot_be_opened_does_not_begin_the_test_without_the_others() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut profiler = profiler((now, &mut rng));
        profiler.test_reuse();
        let wanted = profiler.take_wanted_sockets();
        open(&mut profiler, 100, (now, &mut rng));
        profiler.socket_failed((now, &mut rng));
        for socket in 102..100 + wanted {
            open(&mut profiler, socket, (now, &mut rng));
        }
        let used = run(&mut profiler, (now, &mut rng));
        assert_eq!(used.len(), usize::from(wanted) - 1);
        assert_eq!(profiler.take_sockets_to_close().len(), usize::from(wanted) - 1);
        assert_eq!(profiler.profile().reuses_ports, None, "there was no answer");
    }

    #[test]
    fn a_socket_that_comes_after_the_test_is_closed_and_changes_nothing() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut profiler = profiler((now, &mut rng));
        profiler.test_reuse();
        for socket in 100..100 + profiler.take_wanted_sockets() {
            open(&mut profiler, socket, (now, &mut rng));
        }
        run(&mut profiler, (now, &mut rng));
        profiler.take_sockets_to_close();
        open(&mut profiler, 99, (now, &mut rng));
        assert_eq!(profiler.take_sockets_to_close(), [SocketId(99)]);
        profiler.socket_failed((now, &mut rng));
        run(&mut profiler, (now, &mut rng));
        assert_eq!(profiler.profile().reuses_ports, None, "nothing was asked");
    }
}
