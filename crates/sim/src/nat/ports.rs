//! The choice of external ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::Allocation;
use super::config::PORT_MIN;

/// The ports that a NAT gives by itself.
const RANGE: RangeInclusive<u16> = PORT_MIN..=u16::MAX;
/// How many ports those are.
const RANGE_PORTS: i32 = u16::MAX as i32 - PORT_MIN as i32 + 1;
/// Draws before a free port is looked for by listing all of them. With half of the ports taken, all
/// of them fail once in 65,536 times.
const DRAWS: usize = 16;
/// Draws for the place of a block; with half of the range taken, enough by far.
const BLOCK_DRAWS: usize = 256;
/// Most ports that the noise of other hosts takes between two mappings: more than that leaves
/// nothing to predict.
const NOISE_MAX: i32 = RANGE_PORTS;

/// What a port is wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) inside: SocketAddr,
    /// Whether the inside socket has no mapping yet.
    pub(super) first: bool,
    /// Whether the internal port must not be kept, because its tuple is taken.
    pub(super) moved: bool,
}

#[derive(Debug)]
pub(super) struct Ports {
    allocation: Allocation,
    /// The last port given in sequence, and when.
    last: u16,
    last_at: Option<Instant>,
    /// First port of each block, by inside address and the other way round.
    block_of: BTreeMap<IpAddr, u16>,
    blocks: BTreeSet<u16>,
    /// Ports in use before the NAT forgot everything. They are not given again, so that a rebinding
    /// NAT goes on at other ports.
    retired: BTreeSet<u16>,
}

impl Ports {
    pub(super) fn new(allocation: Allocation, rng: &mut StdRng) -> Self {
        Self {
            allocation,
            last: rng.random_range(RANGE),
            last_at: None,
            block_of: BTreeMap::new(),
            blocks: BTreeSet::new(),
            retired: BTreeSet::new(),
        }
    }

    /// Forgets the blocks and retires `used`.
    pub(super) fn rebind(&mut self, used: BTreeSet<u16>) {
        self.block_of.clear();
        self.blocks.clear();
        self.retired = used;
    }

    /// Whether one port may serve several mappings with different destinations.
    pub(super) fn reuses(&self) -> bool {
        matches!(self.allocation, Allocation::Block { reuse: true, .. })
    }

    /// A port for a new mapping; `None` where all that it could have are taken.
    pub(super) fn choose(
        &mut self,
        wanted: Wanted,
        now: Instant,
        rng: &mut StdRng,
        is_free: &dyn Fn(u16) -> bool,
    ) -> Option<u16> {
        let internal = wanted.inside.port();
        let keeps = match self.allocation {
            Allocation::Preserving => !wanted.moved,
            Allocation::PreservingFirst => wanted.first && !wanted.moved,
            Allocation::Sequential { step, noise_per_second } => {
                return self.next_in_sequence(step, noise_per_second, now, rng, is_free);
            }
            Allocation::Block { size, aligned, .. } => {
                let first = self.block(wanted.inside.ip(), size, aligned, rng)?;
                return random_free(first..=first + (size - 1), rng, is_free);
            }
            Allocation::Random => false,
        };
        let is_fresh = |port: u16| is_free(port) && !self.retired.contains(&port);
        if keeps && internal != 0 && is_fresh(internal) {
            return Some(internal);
        }
        random_free(RANGE, rng, &is_fresh)
    }

    fn next_in_sequence(
        &mut self,
        step: i16,
        noise_per_second: f64,
        now: Instant,
        rng: &mut StdRng,
        is_free: &dyn Fn(u16) -> bool,
    ) -> Option<u16> {
        let step = if step == 0 { 1 } else { i32::from(step) };
        let idle = self.last_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let taken_by_others = arrivals(idle.as_secs_f64() * noise_per_second, rng);
        let mut port = stepped(self.last, step * taken_by_others % RANGE_PORTS);
        for _ in 0..RANGE_PORTS {
            port = stepped(port, step);
            if is_free(port) {
                (self.last, self.last_at) = (port, Some(now));
                return Some(port);
            }
        }
        None
    }

    /// The first port of the block of an inside host, which it gets with its first mapping.
    fn block(&mut self, inside: IpAddr, size: u16, aligned: bool, rng: &mut StdRng) -> Option<u16> {
        if let Some(first) = self.block_of.get(&inside) {
            return Some(*first);
        }
        if size == 0 || i32::from(size) > RANGE_PORTS {
            return None;
        }
        let highest = u16::MAX - (size - 1);
        let first = (0..BLOCK_DRAWS).find_map(|_| {
            let drawn = rng.random_range(PORT_MIN..=highest);
            let first = if aligned { drawn - drawn % size } else { drawn };
            (first >= PORT_MIN && self.has_room_for(first, size)).then_some(first)
        })?;
        self.blocks.insert(first);
        self.block_of.insert(inside, first);
        Some(first)
    }

    fn has_room_for(&self, first: u16, size: u16) -> bool {
        let lowest_neighbour = first.saturating_sub(size - 1);
        let last = first + (size - 1);
        self.blocks.range(lowest_neighbour..=last).next().is_none()
            && self.retired.range(first..=last).next().is_none()
    }
}

/// The port `by` ports further, round the range.
fn stepped(port: u16, by: i32) -> u16 {
    let offset = (i32::from(port) - i32::from(PORT_MIN) + by).rem_euclid(RANGE_PORTS);
    u16::try_from(offset + i32::from(PORT_MIN)).expect("invariant: within the range of ports")
}

/// How many arrivals a Poisson process with this mean has: gaps are drawn until the time is used up.
fn arrivals(mean: f64, rng: &mut StdRng) -> i32 {
    let mut left = mean;
    for count in 0..NOISE_MAX {
        if left <= 0.0 {
            return count;
        }
        let uniform: f64 = rng.random();
        // `1 - uniform` is in (0, 1], so that the logarithm is finite.
        left += (1.0 - uniform).ln();
        if left <= 0.0 {
            return count;
        }
    }
    NOISE_MAX
}

fn random_free(
    range: RangeInclusive<u16>,
    rng: &mut StdRng,
    is_free: &dyn Fn(u16) -> bool,
) -> Option<u16> {
    let drawn =
        (0..DRAWS).map(|_| rng.random_range(range.clone())).find(|candidate| is_free(*candidate));
    if drawn.is_some() {
        return drawn;
    }
    let free: Vec<u16> = range.filter(|candidate| is_free(*candidate)).collect();
    (!free.is_empty()).then(|| free[rng.random_range(0..free.len())])
}
