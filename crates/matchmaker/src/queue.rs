//! The ready queue: who waits for a peer, in the order of arrival.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::doors::SessionId;

/// A place in the queue: the smaller, the longer its holder has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// Sessions that wait for a peer.
///
/// Whoever arrives is matched at once, so all who wait cannot be matched with each other: they all
/// report one and the same endpoint. The first in line therefore speaks for all, and a flood of
/// ids with one endpoint costs nobody a search.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    waiting: BTreeMap<Place, (SessionId, SocketAddr)>,
    next: u64,
}

impl ReadyQueue {
    /// A new place at the end.
    pub(crate) fn new_place(&mut self) -> Place {
        self.next += 1;
        Place(self.next)
    }

    /// Puts a session in its place, or changes the endpoint of the one that stands there.
    pub(crate) fn insert(&mut self, place: Place, session: SessionId, endpoint: SocketAddr) {
        self.waiting.insert(place, (session, endpoint));
    }

    pub(crate) fn remove(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    /// The longest waiter that the holder of `place` can be linked with. Two workers that report
    /// one endpoint cannot: each would probe itself.
    pub(crate) fn partner(&self, place: Place) -> Option<(Place, SessionId)> {
        let (_, endpoint) = self.waiting.get(&place)?;
        let (other, (session, waiting)) =
            self.waiting.iter().find(|(other, _)| **other != place)?;
        (waiting != endpoint).then_some((*other, *session))
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.waiting.values().map(|(session, _)| *session)
    }
}
