//! Who is connected where, which ids are bound to a key, and who has how many places.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::address::{SHARES_OF_SITE, Source};
use holepunch_wire::identity::{self, PublicKey};
use holepunch_wire::tenant::Tenant;
use serde::{Deserialize, Serialize};

use crate::bindings::Bindings;
use crate::cluster::ClaimError;
use crate::doors::{Config, ConnectionId, NotAdmitted, Observed, Worker};
use crate::left::Left;
use crate::names::{Member, Room};
use crate::places::Places;
use crate::seat::{InstanceId, Seat};

/// Connections beyond the limit of workers that are to prove a key for the place of one that is
/// connected: a worker whose old connection is dead gets back into a full rendezvous, and nobody who
/// knows its id holds more than a few.
pub const REPLACING_MAX: usize = 64;

/// Everybody who is connected. In memory, for one rendezvous alone.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    current: BTreeMap<Member, Entry>,
    /// Every connection, whose it is, and where it comes from.
    seats: BTreeMap<Seat, (Tenant, IpAddr)>,
    /// Those that have yet to claim their id.
    pending: BTreeSet<Seat>,
    bindings: Bindings,
    places: Places,
    left: Left,
    /// The order of the last claim.
    pub(crate) order: u64,
}

/// A worker that is registered.
#[derive(Debug, Clone)]
struct Entry {
    seat: Seat,
    ip: IpAddr,
    key: Option<PublicKey>,
    is: Whereabouts,
    order: u64,
}

/// Where a worker is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Counted up by its desk: what that has said before may come later, and is not heard then.
    pub version: u64,
    /// The room that it is in; none where it was shown out.
    pub room: Option<Room>,
    /// Other rooms where it has sessions.
    pub visits: BTreeSet<Room>,
    /// The tokens of its welcome, and of one before: with each it takes its sessions to another connection.
    pub resume: Vec<String>,
    /// What a listing shows of it.
    pub seen: Seen,
}

/// What a listing shows of a worker, beside its id and address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The port of its WebSocket; unknown where a proxy told the address alone.
    pub port: Option<u16>,
    /// The IP that it registered.
    pub http_ip: Option<IpAddr>,
    /// The endpoint of its last accepted report.
    pub endpoint: Option<SocketAddr>,
}

/// What a connection has when it takes an id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claimed {
    /// The connection that had the id before.
    pub replaced: Option<Seat>,
    /// The rooms with sessions of the connection before.
    pub left: Vec<Room>,
    /// The tokens with which they are taken up.
    pub resume: Vec<String>,
    /// Higher than that of any connection that has had the id before.
    pub order: u64,
}

/// Some of the workers that are registered, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// These.
    pub workers: Vec<ListedWorker>,
    /// Whether there are more behind the last one.
    pub has_more: bool,
    /// How many there are in all.
    pub all: usize,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedWorker {
    /// Its id.
    pub id: Member,
    /// Where its WebSocket comes from.
    pub ip: IpAddr,
    /// The rest.
    pub seen: Seen,
}

/// Nobody of a tenant stands before this one: control characters, which stand before the space, are in no id.
fn first_of(tenant: &Tenant) -> Member {
    let name = WorkerId::new(" ").expect("invariant: a space is an id");
    Member { tenant: tenant.clone(), name }
}

impl Registry {
    /// Whether there is room for `worker`, which comes from `ip`, with those that have not proved their key
    /// yet; an id that is connected replaces its own connection.
    ///
    /// # Errors
    /// All places are taken, or those of its address or site.
    pub fn admits(&self, worker: &Member, ip: IpAddr, config: &Config) -> Result<(), NotAdmitted> {
        let current = self.current.get(worker);
        let has_room = |held: usize, max: usize, replaced: Option<&Entry>| {
            // Whoever has proved a key stays until the new one has, too.
            held < max
                || replaced.is_some_and(|old| old.key.is_none() || held < max + REPLACING_MAX)
        };
        let held = self.current.len() + self.pending.len();
        if !has_room(held, config.workers_max, current) {
            return Err(NotAdmitted::Full);
        }
        if let Some(max) = config.workers_per_tenant_max
            && !has_room(self.places.of_tenant(&worker.tenant), max, current)
        {
            return Err(NotAdmitted::ShareOfTenant(max));
        }
        let (Some(max), Some(source)) = (config.workers_per_address_max, Source::of(ip)) else {
            return Ok(());
        };
        let own = current.filter(|old| Source::of(old.ip) == Some(source));
        if !has_room(self.places.of(source), max, own) {
            return Err(NotAdmitted::ShareOfAddress(max));
        }
        let (site, max) = (source.site(), max.saturating_mul(SHARES_OF_SITE as usize));
        let own = current.filter(|old| Source::of(old.ip).map(Source::site) == Some(site));
        if has_room(self.places.of_site(site), max, own) {
            Ok(())
        } else {
            Err(NotAdmitted::ShareOfSite(max))
        }
    }

    /// Whether nobody is registered under this id without the proof of a key.
    pub fn needs_proof(&mut self, worker: &Member, now: Instant) -> bool {
        self.expire(now);
        identity::is_made_from_a_key(&worker.name) || self.bound_to(worker).is_some()
    }

    /// The key that an id of a worker's own choice is bound to.
    fn bound_to(&self, worker: &Member) -> Option<PublicKey> {
        let current = self.current.get(worker).and_then(|entry| entry.key);
        current.or_else(|| self.bindings.key(worker))
    }

    /// A connection takes one of the places of its address, and has yet to claim its id.
    pub fn arrive(&mut self, seat: Seat, (tenant, ip): (&Tenant, IpAddr)) {
        if self.seat(seat, (tenant, ip)) {
            self.pending.insert(seat);
        }
    }

    /// Whether the connection has had no place before.
    fn seat(&mut self, seat: Seat, (tenant, ip): (&Tenant, IpAddr)) -> bool {
        let is_new = self.seats.insert(seat, (tenant.clone(), ip)).is_none();
        if is_new {
            self.places.take(tenant, ip);
        }
        is_new
    }

    /// A connection that has arrived claims its id, in the place of an older one; one that is registered has proved its key
    /// by now, or only asks what it may take up.
    ///
    /// # Errors
    /// The id is bound to another key, or another connection has taken it since.
    pub fn claim(
        &mut self,
        worker: &Member,
        (seat, ip): (Seat, IpAddr),
        key: Option<PublicKey>,
        now: Instant,
    ) -> Result<Claimed, ClaimError> {
        self.expire(now);
        let is_current = self.current.get(worker).is_some_and(|entry| entry.seat == seat);
        if !is_current && !self.pending.contains(&seat) && self.seats.contains_key(&seat) {
            return Err(ClaimError::Replaced);
        }
        // Whoever has the id already need not prove its key again.
        let proves = key.is_some() || !is_current;
        if proves && self.bound_to(worker).is_some_and(|bound| Some(bound) != key) {
            return Err(ClaimError::OtherKey);
        }
        let mut replaced = None;
        if !is_current {
            // (One that the store does not know has another seat than when it has arrived.)
            self.arrive(seat, (&worker.tenant, ip));
            self.pending.remove(&seat);
            self.order += 1;
            let (is, order) = (Whereabouts::default(), self.order);
            let entry = Entry { seat, ip, key: None, is, order };
            if let Some(old) = self.current.insert(worker.clone(), entry) {
                replaced = Some(old.seat);
                self.left.add(worker, old.is, now);
            }
        }
        let own = self.current.get_mut(worker).filter(|entry| entry.seat == seat);
        let order = own.as_ref().map_or(0, |entry| entry.order);
        if let (Some(key), Some(entry)) = (key, own) {
            entry.key = Some(key);
            self.bindings.remove(worker);
        }
        let (left, resume) = self.left.by(worker);
        Ok(Claimed { replaced, left, resume, order })
    }

    /// A connection that has had the id at the seat `before` has another one.
    ///
    /// # Errors
    /// It has lost the id meanwhile.
    pub fn reclaim(
        &mut self,
        worker: &Member,
        before: Seat,
        (seat, ip): (Seat, IpAddr),
        key: Option<PublicKey>,
    ) -> Result<Claimed, ClaimError> {
        self.order += 1;
        let order = self.order;
        match self.current.get_mut(worker) {
            Some(entry) if entry.seat == before || entry.seat == seat => {
                (entry.seat, entry.order, entry.key) = (seat, order, entry.key.or(key));
            }
            Some(_) => return Err(ClaimError::Replaced),
            None if self.bindings.key(worker).is_some_and(|bound| Some(bound) != key) => {
                return Err(ClaimError::Replaced);
            }
            None => {
                let entry = Entry { seat, ip, key, is: Whereabouts::default(), order };
                self.current.insert(worker.clone(), entry);
                self.bindings.remove(worker);
            }
        }
        self.leave(before);
        self.seat(seat, (&worker.tenant, ip));
        self.pending.remove(&seat);
        Ok(Claimed { order, ..Claimed::default() })
    }

    /// A connection has no place any more; whether it had no id.
    fn leave(&mut self, seat: Seat) -> bool {
        if let Some((tenant, ip)) = self.seats.remove(&seat) {
            self.places.give_back(&tenant, ip);
        }
        self.pending.remove(&seat)
    }

    /// An instance is gone, and all connections to it.
    pub fn instance_gone(&mut self, instance: InstanceId, now: Instant) {
        let current = self.current.iter().filter(|(_, entry)| entry.seat.instance == instance);
        let gone: Vec<(Member, Seat, IpAddr)> =
            current.map(|(worker, entry)| (worker.clone(), entry.seat, entry.ip)).collect();
        for (worker, seat, ip) in gone {
            self.release(&worker, (seat, ip), (true, true), now);
        }
        let first = Seat { instance, connection: ConnectionId(0) };
        let seats = self.seats.range(first..).map(|(seat, _)| *seat);
        for seat in seats.take_while(|seat| seat.instance == instance).collect::<Vec<_>>() {
            self.leave(seat);
        }
    }

    /// A worker is to be found there now.
    pub fn is(&mut self, worker: &Member, seat: Seat, is: Whereabouts) {
        let is_news = |entry: &&mut Entry| entry.seat == seat && entry.is.version <= is.version;
        if let Some(entry) = self.current.get_mut(worker).filter(is_news) {
            entry.is = is;
        }
    }

    /// Where a worker is, and in which room.
    #[must_use]
    pub fn find(&self, worker: &Member) -> Option<(Seat, Room)> {
        let entry = self.current.get(worker)?;
        Some((entry.seat, entry.is.room.clone()?))
    }

    /// A connection is gone. `outlives`: its key keeps the id for a while; `has_sessions`: which it may take up.
    pub fn release(
        &mut self,
        worker: &Member,
        (seat, ip): (Seat, IpAddr),
        (outlives, has_sessions): (bool, bool),
        now: Instant,
    ) {
        self.expire(now);
        if self.leave(seat) || self.current.get(worker).is_none_or(|it| it.seat != seat) {
            return; // It has no id, or not any more.
        }
        let Some(entry) = self.current.remove(worker) else { return };
        if has_sessions {
            self.left.add(worker, entry.is, now);
        }
        let key = entry.key.filter(|_| outlives && !identity::is_made_from_a_key(&worker.name));
        if let Some(key) = key {
            self.bindings.keep(worker.clone(), key, ip, now);
        }
    }

    /// Every registered worker, by id.
    pub fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        self.current.iter().map(|(id, Entry { ip, is: Whereabouts { seen, .. }, .. })| Worker {
            id: &id.name,
            observed: Observed { ip: *ip, port: seen.port },
            http_ip: seen.http_ip,
            endpoint: seen.endpoint,
        })
    }

    /// So many of them, behind this id, or from the first one on; `within`: of this tenant alone.
    #[must_use]
    pub fn list(&self, within: Option<&Tenant>, after: Option<&Member>, limit: usize) -> Listed {
        let first = within.map(first_of);
        let is_within = |(id, _): &(&Member, &Entry)| within.is_none_or(|it| id.tenant == *it);
        let all = match &first {
            None => self.count(),
            Some(first) => self.current.range(first..).take_while(is_within).count(),
        };
        let after = after.filter(|after| within.is_none_or(|it| after.tenant == *it));
        let first = first.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let from = after.map_or(first, Bound::Excluded);
        let behind = self.current.range::<Member, _>((from, Bound::Unbounded));
        let mut behind = behind.take_while(is_within);
        let of_entry = |(id, entry): (&Member, &Entry)| ListedWorker {
            id: id.clone(),
            ip: entry.ip,
            seen: entry.is.seen,
        };
        let workers = behind.by_ref().take(limit).map(of_entry).collect();
        Listed { workers, has_more: behind.next().is_some(), all }
    }

    /// How many workers are registered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.current.len()
    }

    /// Forgets what has been kept for long enough. No wake-up for this: it matters to questions alone.
    fn expire(&mut self, now: Instant) {
        self.bindings.expire(now);
        self.left.expire(now);
    }

    /// What holds of all tables together, and who is registered where.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(
        &self,
        holders: impl Iterator<Item = (Seat, (Tenant, IpAddr))>,
    ) -> impl Iterator<Item = (&Member, Seat)> {
        let known: BTreeMap<Seat, (Tenant, IpAddr)> = holders.collect();
        assert_eq!(known, self.seats, "somebody is connected and unknown, or known and gone");
        let current = self.current.values().map(|entry| entry.seat);
        let seats: BTreeSet<Seat> = current.chain(self.pending.iter().copied()).collect();
        assert!(seats.iter().eq(self.seats.keys()), "each has an id, or wants one");
        self.places.check_invariants(self.seats.values());
        for worker in self.bindings.check_invariants() {
            let is_connected = self.current.contains_key(worker);
            assert!(!is_connected, "{worker} is connected, and bound for later");
        }
        self.left.check_invariants();
        self.current.iter().map(|(worker, entry)| (worker, entry.seat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_worker_was_before_is_not_heard_when_it_comes_later() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let (mut registry, worker) = (Registry::default(), Member::unnamed("w".parse().unwrap()));
        let ip = [203, 0, 113, 1].into();
        let seat = Seat { instance: InstanceId(1), connection: ConnectionId(1) };
        registry.claim(&worker, (seat, ip), None, now).unwrap();
        let room = |name: &str| Room::unnamed(name.parse().unwrap());
        let visits = |version, rooms: &[&str]| Whereabouts {
            version,
            visits: rooms.iter().map(|name| room(name)).collect(),
            ..Whereabouts::default()
        };
        registry.is(&worker, seat, visits(2, &["visited"]));
        registry.is(&worker, seat, visits(1, &[]));
        registry.release(&worker, (seat, ip), (true, true), now);
        let next = Seat { connection: ConnectionId(2), ..seat };
        let claimed = registry.claim(&worker, (next, ip), None, now).unwrap();
        assert_eq!(claimed.left, [room("visited")]);
    }
}
