//! The ready queue of a room: who waits for a peer, in the order of arrival.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::doors::{ConnectionId, Protocol};

/// Waiters that are looked at for a newcomer. Whoever arrives is matched at once, so those who wait
/// hardly ever suit each other, and a flood of ids that suit nobody must not cost a search each.
const LOOK_AT_MAX: usize = 256;

/// A place in the queue: the smaller, the longer its holder has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u64);

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) connection: ConnectionId,
    /// Where it can be reached; `None`: it has no UDP endpoint that it knows.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) protocol: Protocol,
}

impl Waiter {
    /// Whether the two can be linked at all. Two that report one endpoint cannot: each would probe
    /// itself. A baseline worker needs an endpoint, of its own family.
    fn suits(&self, other: &Self) -> bool {
        match (self.endpoint, other.endpoint) {
            (Some(own), Some(others)) => {
                let both_v1 = self.protocol == Protocol::V1 && other.protocol == Protocol::V1;
                own != others && (both_v1 || own.is_ipv4() == others.is_ipv4())
            }
            _ => self.protocol == Protocol::V1 && other.protocol == Protocol::V1,
        }
    }
}

/// Workers that wait for a peer. Those without an endpoint stand apart, so that they are in nobody's
/// way.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    reachable: BTreeMap<Place, Waiter>,
    others: BTreeMap<Place, Waiter>,
}

impl ReadyQueue {
    /// Puts a waiter in its place, or changes the one that stands there.
    pub(crate) fn insert(&mut self, place: Place, waiter: Waiter) {
        self.remove(place);
        let queue = if waiter.endpoint.is_some() { &mut self.reachable } else { &mut self.others };
        queue.insert(place, waiter);
    }

    pub(crate) fn remove(&mut self, place: Place) {
        self.reachable.remove(&place);
        self.others.remove(&place);
    }

    /// The longest waiter that the holder of `place` can be linked with: one that `is_welcome`, or
    /// else any.
    pub(crate) fn partner(
        &self,
        place: Place,
        is_welcome: impl Fn(ConnectionId) -> bool,
    ) -> Option<(Place, ConnectionId)> {
        let own = self.reachable.get(&place).or_else(|| self.others.get(&place))?;
        let suitable = |queue: &BTreeMap<Place, Waiter>| {
            let looked_at = queue.iter().take(LOOK_AT_MAX);
            let suiting = looked_at.filter(|(other, it)| **other != place && own.suits(it));
            let suiting: Vec<(bool, Place, ConnectionId)> = suiting
                .map(|(place, it)| (!is_welcome(it.connection), *place, it.connection))
                .collect();
            suiting.into_iter().min()
        };
        let reachable = suitable(&self.reachable);
        let others = if own.protocol == Protocol::V1 { suitable(&self.others) } else { None };
        let best = reachable.into_iter().chain(others).min();
        best.map(|(_, place, connection)| (place, connection))
    }

    pub(crate) fn len(&self) -> usize {
        self.reachable.len() + self.others.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everybody who waits, the longest first.
    pub(crate) fn connections(&self) -> Vec<ConnectionId> {
        let mut all: Vec<(Place, ConnectionId)> = self
            .reachable
            .iter()
            .chain(&self.others)
            .map(|(place, waiter)| (*place, waiter.connection))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, connection)| connection).collect()
    }
}
