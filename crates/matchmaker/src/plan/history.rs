//! What has become of strategies between pairs of networks.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::{Filtering, Mapping};
use holepunch_wire::plan::Strategy;

use super::Side;

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

type Key = ([Kind; 2], Strategy);

fn key(sides: [&Side; 2], strategy: Strategy) -> Key {
    let mut kinds = sides.map(Kind::of);
    kinds.sort();
    (kinds, strategy)
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
        strategy: Strategy,
        worked: bool,
        now: Instant,
    ) {
        let key = key(sides, strategy);
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

    /// Whether the strategy was the last thing that failed between such a pair, not long ago.
    pub(super) fn has_failed(&self, sides: [&Side; 2], strategy: Strategy, now: Instant) -> bool {
        let outcome = self.outcomes.get(&key(sides, strategy));
        // A prediction is cheap, and fails when somebody else takes a port at the wrong moment.
        let attempts = if strategy == Strategy::Sequence { SEQUENCE_ATTEMPTS } else { 1 };
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
        history.record([&a, &b], Strategy::Birthday, false, now);
        let neighbour = side([203, 0, 113, 99]);
        assert!(history.has_failed([&b, &neighbour], Strategy::Birthday, now));
        assert!(!history.has_failed([&b, &neighbour], Strategy::Sweep, now));
        assert!(!history.has_failed([&other, &b], Strategy::Birthday, now));
        assert!(!history.has_failed([&a, &b], Strategy::Birthday, now + FAILURE_COUNTS));
        history.record([&b, &a], Strategy::Birthday, true, now);
        assert!(!history.has_failed([&a, &b], Strategy::Birthday, now));
    }

    #[test]
    fn the_memory_is_bounded() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut history = History::default();
        for n in 0..PAIRS_MAX + 10 {
            let [_, high, low, _] = u32::try_from(n).unwrap().rotate_left(8).to_be_bytes();
            let a = side([10, high, low, 1]);
            history.record([&a, &side([192, 0, 2, 1])], Strategy::Sweep, false, now);
        }
        assert_eq!((history.outcomes.len(), history.order.len()), (PAIRS_MAX, PAIRS_MAX));
    }
}
