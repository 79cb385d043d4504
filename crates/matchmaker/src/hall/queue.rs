//! The ready queue of a room: who waits for a peer, in the order of arrival.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::doors::Protocol;
use crate::seat::Seat;

/// Waiters of each class that are looked at for a newcomer. Whoever arrives is matched at once, so those
/// who wait hardly ever suit each other, and a flood of ids that suit nobody must not cost a search each.
const LOOK_AT_MAX: usize = 256;

/// A place in the queue: the smaller, the longer its holder has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    rank: u64,
    number: u64,
}

impl Place {
    /// Behind everybody who is there; `waited`: but for those who have waited less, in a hall of before.
    pub(crate) fn new(number: u64, waited: Option<Duration>) -> Self {
        let ms = waited.map_or(0, |waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        let rank = u64::MAX - waited.map_or(0, |_| ms.saturating_add(1));
        Self { rank, number }
    }
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) seat: Seat,
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

/// What decides who suits whom, but for the endpoint itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    is_v1: bool,
    /// Whether the endpoint is of IPv4; `None` without one.
    is_ipv4: Option<bool>,
}

impl Class {
    fn of(waiter: &Waiter) -> Self {
        let is_ipv4 = waiter.endpoint.map(|endpoint| endpoint.is_ipv4());
        Self { is_v1: waiter.protocol == Protocol::V1, is_ipv4 }
    }

    fn suits(self, other: Self) -> bool {
        (self.is_v1 && other.is_v1) || (self.is_ipv4.is_some() && self.is_ipv4 == other.is_ipv4)
    }
}

/// Workers that wait for a peer, each class apart, so that those who suit nobody else are in nobody's
/// way.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    classes: BTreeMap<Class, BTreeMap<Place, Waiter>>,
}

impl ReadyQueue {
    /// Puts a waiter in its place, or changes the one that stands there.
    pub(crate) fn insert(&mut self, place: Place, waiter: Waiter) {
        self.remove(place);
        self.classes.entry(Class::of(&waiter)).or_default().insert(place, waiter);
    }

    pub(crate) fn remove(&mut self, place: Place) {
        self.classes.retain(|_, queue| {
            queue.remove(&place);
            !queue.is_empty()
        });
    }

    /// The longest waiter that the holder of `place` can be linked with: one that is new to it, or
    /// else any. `is_new` says which they are, and is `None` for one that it cannot have now.
    pub(crate) fn partner(
        &self,
        place: Place,
        is_new: impl Fn(Seat) -> Option<bool>,
    ) -> Option<(Place, Seat)> {
        let own = self.classes.values().find_map(|queue| queue.get(&place))?;
        let class = Class::of(own);
        let queues = self.classes.iter().filter(|(other, _)| class.suits(**other));
        let looked_at = queues.flat_map(|(_, queue)| queue.iter().take(LOOK_AT_MAX));
        let suiting = looked_at.filter(|(other, it)| **other != place && own.suits(it));
        let best =
            suiting.filter_map(|(place, it)| Some((!is_new(it.seat)?, *place, it.seat))).min();
        best.map(|(_, place, seat)| (place, seat))
    }

    /// Everybody who waits, with the place.
    #[cfg(debug_assertions)]
    pub(crate) fn waiters(&self) -> impl Iterator<Item = (Place, &Waiter)> {
        let all = self.classes.iter().flat_map(|(class, queue)| {
            assert!(!queue.is_empty(), "a class without waiters is no class");
            queue.iter().map(move |(place, waiter)| (*class, *place, waiter))
        });
        all.map(|(class, place, waiter)| {
            assert_eq!(class, Class::of(waiter), "{place:?} stands in another class's queue");
            (place, waiter)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.values().map(BTreeMap::len).sum()
    }

    /// Everybody who waits, the longest first.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let all = self.classes.values().flatten();
        let mut all: Vec<(Place, Seat)> =
            all.map(|(place, waiter)| (*place, waiter.seat)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, seat)| seat).collect()
    }
}
