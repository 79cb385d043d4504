//! Sessions: who inside has talked with which remote endpoint, until when; and the filter on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Filtering;

/// A set of keys that each live until some moment, which may be put off. What has expired is found
/// without looking at the rest.
#[derive(Debug)]
pub(super) struct Lives<K> {
    until: BTreeMap<K, Instant>,
    /// For each key one moment at which to look at it again, at or before its end.
    queue: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Lives<K> {
    pub(super) fn new() -> Self {
        Self { until: BTreeMap::new(), queue: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.until.contains_key(key)
    }

    pub(super) fn until(&self, key: &K) -> Option<Instant> {
        self.until.get(key).copied()
    }

    /// Begins a life or puts its end off; an end never comes nearer.
    pub(super) fn extend(&mut self, key: K, until: Instant) {
        match self.until.get_mut(&key) {
            Some(end) => *end = until.max(*end),
            None => {
                self.until.insert(key, until);
                self.queue.insert((until, key));
            }
        }
    }

    /// Takes out one key that has expired by now, if there is one.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<K> {
        while let Some((due, key)) = self.queue.first().copied().filter(|(due, _)| *due <= now) {
            self.queue.remove(&(due, key));
            match self.until.get(&key).copied() {
                Some(end) if end > now => {
                    self.queue.insert((end, key));
                }
                Some(_) => {
                    self.until.remove(&key);
                    return Some(key);
                }
                None => {}
            }
        }
        None
    }

    pub(super) fn range(&self, from: K) -> impl Iterator<Item = &K> {
        self.until.range(from..).map(|(key, _)| key)
    }

    pub(super) fn clear(&mut self) {
        self.until.clear();
        self.queue.clear();
    }
}

/// The sessions of all owners (mappings, or inside sockets of a firewall).
#[derive(Debug)]
pub(super) struct Sessions<O> {
    lives: Lives<(O, SocketAddr)>,
    lifetime: Duration,
}

impl<O: Ord + Copy> Sessions<O> {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lives: Lives::new(), lifetime }
    }

    pub(super) fn len(&self) -> usize {
        self.lives.len()
    }

    pub(super) fn contains(&self, owner: O, remote: SocketAddr) -> bool {
        self.lives.contains(&(owner, remote))
    }

    pub(super) fn touch(&mut self, owner: O, remote: SocketAddr, now: Instant) {
        self.lives.extend((owner, remote), now + self.lifetime);
    }

    /// Whether the filter lets a packet of `from` through to `owner`, who is alive.
    pub(super) fn admits(&self, filtering: Filtering, owner: O, from: SocketAddr) -> bool {
        match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self.has_address(owner, from.ip()),
            Filtering::AddressAndPortDependent => self.contains(owner, from),
        }
    }

    /// Whether there is any session of `owner`.
    pub(super) fn has_any(&self, owner: O) -> bool {
        // IPv4 sorts before IPv6, so this is the least of all endpoints.
        let least = SocketAddr::from(([0, 0, 0, 0], 0));
        self.lives.range((owner, least)).next().is_some_and(|(first, _)| *first == owner)
    }

    fn has_address(&self, owner: O, ip: IpAddr) -> bool {
        let least = SocketAddr::new(ip, 0);
        let first = self.lives.range((owner, least)).next();
        first.is_some_and(|(found, remote)| *found == owner && remote.ip() == ip)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.lives.pop_expired(now).is_some() {}
    }

    pub(super) fn clear(&mut self) {
        self.lives.clear();
    }
}
