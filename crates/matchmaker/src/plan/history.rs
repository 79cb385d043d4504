//! What has become of strategies between pairs of networks.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::{Filtering, Mapping};
use holepunch_wire::plan::Strategy;

use super::Side;
use super::opener::Distances;

/// Pairs of networks remembered; the oldest makes room.
const PAIRS_MAX: usize = 10_000;
/// A prediction is tried so often before it counts as failed.
const SEQUENCE_ATTEMPTS: u32 = 3;
/// A failure counts for so long: networks change.
const FAILURE_COUNTS: Duration = Duration::from_secs(600);

/// One side as the memory sees it: its NAT's class and its network, a /24 or a /48.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    mapping: Mapping,
    filtering: Filtering,
    allocation: u8,
    network: Option<u128>,
}

impl Kind {
    fn of(side: &Side) -> Self {
        use holepunch_wire::nat::Allocation;
        let allocation = match side.profile.allocation {
            Allocation::Unknown => 0,
            Allocation::Preserving => 1,
            Allocation::Sequential { .. } => 2,
            Allocation::Block { .. } => 3,
            Allocation::Random => 4,
        };
        Self {
            mapping: side.profile.mapping,
            filtering: side.profile.filtering,
            allocation,
            network: side.endpoint.map(|endpoint| network(endpoint.ip())),
        }
    }
}

fn network(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => ip.to_bits() >> 80,
    }
}

/// What has been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) strategy: Strategy,
    /// How far the openers of each side went.
    pub(super) distances: Distances,
}

type Key = ([(Kind, Option<u8>); 2], Strategy);

fn key(sides: [&Side; 2], attempt: Attempt) -> Key {
    let [a, b] = sides.map(Kind::of);
    let [to_a, to_b] = attempt.distances;
    let mut kinds = [(a, to_a), (b, to_b)];
    kinds.sort();
    (kinds, attempt.strategy)
}

#[derive(Debug, Clone, Copy)]
struct Outcome {
    worked: u32,
    /// Failures since it worked last.
    failed: u32,
    failed_at: Option<Instant>,
}

/// What has become of strategies, by the classes and networks of the two sides.
#[derive(Debug, Default)]
pub(super) struct History {
    outcomes: BTreeMap<Key, Outcome>,
    order: VecDeque<Key>,
}

impl History {
    pub(super) fn record(
        &mut self,
        sides: [&Side; 2],
        attempt: Attempt,
        worked: bool,
        now: Instant,
    ) {
        let key = key(sides, attempt);
        if !self.outcomes.contains_key(&key) {
            if self.order.len() == PAIRS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.outcomes.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        let outcome =
            self.outcomes.entry(key).or_insert(Outcome { worked: 0, failed: 0, failed_at: None });
        if worked {
            outcome.worked = outcome.worked.saturating_add(1);
            (outcome.failed, outcome.failed_at) = (0, None);
        } else {
            outcome.failed = outcome.failed.saturating_add(1);
            outcome.failed_at = Some(now);
        }
    }

    /// Whether it is what has led to a link between such a pair.
    pub(super) fn works(&self, sides: [&Side; 2], attempt: Attempt) -> bool {
        let outcome = self.outcomes.get(&key(sides, attempt));
        outcome.is_some_and(|outcome| outcome.worked > 0 && outcome.failed == 0)
    }

    /// Whether it was the last thing that failed between such a pair, not long ago.
    pub(super) fn has_failed(&self, sides: [&Side; 2], attempt: Attempt, now: Instant) -> bool {
        let outcome = self.outcomes.get(&key(sides, attempt));
        // A prediction is cheap, and fails when somebody else takes a port at the wrong moment.
        let is_prediction = attempt.strategy == Strategy::Sequence;
        let attempts = if is_prediction { SEQUENCE_ATTEMPTS } else { 1 };
        let outcome = outcome.filter(|outcome| outcome.failed >= attempts);
        let failed_at = outcome.and_then(|outcome| outcome.failed_at);
        failed_at.is_some_and(|at| now.saturating_duration_since(at) < FAILURE_COUNTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_wire::nat::NatProfile;
    use holepunch_wire::session::AddressProof;

    const BIRTHDAY: Attempt = Attempt { strategy: Strategy::Birthday, distances: [None; 2] };
    const SWEEP: Attempt = Attempt { strategy: Strategy::Sweep, distances: [None; 2] };

    fn side(ip: [u8; 4]) -> Side {
        Side {
            profile: NatProfile::default(),
            endpoint: Some((ip, 4000).into()),
            proof: AddressProof::Stun,
            port_mapped: false,
            rtt: None,
            observed: ip.into(),
        }
    }

    #[test]
    fn a_failure_counts_for_the_network_in_either_order_until_it_is_old_or_a_success_comes() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut history = History::default();
        let (a, b, other) = (side([203, 0, 113, 1]), side([198, 51, 100, 1]), side([192, 0, 2, 1]));
        history.record([&a, &b], BIRTHDAY, false, now);
        let neighbour = side([203, 0, 113, 99]);
        assert!(history.has_failed([&b, &neighbour], BIRTHDAY, now));
        assert!(!history.has_failed([&b, &neighbour], SWEEP, now));
        assert!(!history.has_failed([&other, &b], BIRTHDAY, now));
        assert!(!history.has_failed([&a, &b], BIRTHDAY, now + FAILURE_COUNTS));
        history.record([&b, &a], BIRTHDAY, true, now);
        assert!(!history.has_failed([&a, &b], BIRTHDAY, now));
    }

    #[test]
    fn how_far_openers_went_is_remembered_for_each_side_in_either_order() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut history = History::default();
        let (a, b) = (side([203, 0, 113, 1]), side([198, 51, 100, 1]));
        let of = |distances| Attempt { strategy: Strategy::Preserved, distances };
        history.record([&a, &b], of([Some(4), Some(2)]), false, now);
        history.record([&a, &b], of([Some(3), Some(2)]), true, now);
        assert!(history.has_failed([&b, &a], of([Some(2), Some(4)]), now));
        assert!(!history.has_failed([&b, &a], of([Some(4), Some(2)]), now));
        assert!(history.works([&b, &a], of([Some(2), Some(3)])));
        assert!(!history.works([&b, &a], of([Some(2), Some(4)])));
    }

    #[test]
    fn the_memory_is_bounded() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut history = History::default();
        for n in 0..PAIRS_MAX + 10 {
            let [_, high, low, _] = u32::try_from(n).unwrap().rotate_left(8).to_be_bytes();
            let a = side([10, high, low, 1]);
            history.record([&a, &side([192, 0, 2, 1])], SWEEP, false, now);
        }
        assert_eq!((history.outcomes.len(), history.order.len()), (PAIRS_MAX, PAIRS_MAX));
    }
}
