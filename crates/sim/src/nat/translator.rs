//! The NAT itself: mappings, sessions, unsolicited entries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::rngs::StdRng;

use super::ports::{Ports, Wanted};
use super::sessions::{Lives, Sessions};
use super::{
    Counters, DropReason, Filtering, InboundFirst, Mapping, NatConfig, UNSOLICITED_LIFETIME,
};

/// The destinations that a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Any,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

impl Scope {
    fn of(mapping: Mapping, to: SocketAddr) -> Self {
        match mapping {
            Mapping::EndpointIndependent => Self::Any,
            Mapping::AddressDependent => Self::Address(to.ip()),
            Mapping::AddressAndPortDependent => Self::Endpoint(to),
        }
    }

    /// Whether some destination is in both.
    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Address(a), Self::Address(b)) => a == b,
            (Self::Address(ip), Self::Endpoint(endpoint))
            | (Self::Endpoint(endpoint), Self::Address(ip)) => endpoint.ip() == ip,
            (Self::Endpoint(a), Self::Endpoint(b)) => a == b,
        }
    }
}

/// Never used twice, so that what belongs to an old mapping can never be taken for a new one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct MappingId(u64);

#[derive(Debug, Clone, Copy)]
struct Entry {
    inside: SocketAddr,
    scope: Scope,
    port: u16,
}

/// A NAT with one external address.
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    external: IpAddr,
    rng: StdRng,
    ports: Ports,
    next_id: u64,
    entries: BTreeMap<MappingId, Entry>,
    lives: Lives<MappingId>,
    by_inside: BTreeMap<(SocketAddr, Scope), MappingId>,
    by_external: BTreeMap<(u16, Scope), MappingId>,
    /// Mappings for all destinations that another has replaced: they serve the sessions that they have.
    replaced: BTreeMap<SocketAddr, Vec<MappingId>>,
    sessions: Sessions<MappingId>,
    /// Tuples (external port, source) that unsolicited packets occupy.
    unsolicited: Lives<(u16, SocketAddr)>,
    counters: Counters,
}

impl Nat {
    /// A NAT with an empty table at this external address.
    #[must_use]
    pub fn new(config: NatConfig, external: IpAddr, mut rng: StdRng) -> Self {
        Self {
            ports: Ports::new(config.allocation, &mut rng),
            sessions: Sessions::new(config.lifetime),
            config,
            external,
            rng,
            next_id: 0,
            entries: BTreeMap::new(),
            lives: Lives::new(),
            by_inside: BTreeMap::new(),
            by_external: BTreeMap::new(),
            replaced: BTreeMap::new(),
            unsolicited: Lives::new(),
            counters: Counters::default(),
        }
    }

    /// How it behaves.
    #[must_use]
    pub fn config(&self) -> &NatConfig {
        &self.config
    }

    /// Its address on the outside.
    #[must_use]
    pub fn external(&self) -> IpAddr {
        self.external
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Live mappings, as of the last packet.
    #[must_use]
    pub fn mappings(&self) -> usize {
        self.entries.len()
    }

    /// Entries in the table of sessions, as of the last packet; unsolicited ones count.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.sessions.len() + self.unsolicited.len()
    }

    /// A packet from inside; the answer is its source address on the outside.
    ///
    /// # Errors
    /// It is dropped.
    pub fn outbound(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<SocketAddr, DropReason> {
        self.expire(now);
        let (id, port) =
            self.translate(inside, to, now).map_err(|why| self.counters.dropped(why))?;
        self.lives.extend(id, now + self.config.lifetime);
        self.sessions.touch(id, to, now);
        self.counters.table_is(self.table_len());
        Ok(SocketAddr::new(self.external, port))
    }

    /// A packet from outside, to an external endpoint; the answer is the inside endpoint that gets
    /// it.
    ///
    /// # Errors
    /// It is dropped.
    pub fn inbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<SocketAddr, DropReason> {
        self.expire(now);
        if to.ip() != self.external {
            return Err(self.counters.dropped(DropReason::NotExternal));
        }
        let Some((id, entry)) = self.receiver(from, to.port()) else {
            let why = match self.at_port(to.port()).next() {
                Some(_) => DropReason::Filtered,
                None => DropReason::NoMapping,
            };
            self.remember_unsolicited(from, to.port(), now);
            return Err(self.counters.dropped(why));
        };
        if self.config.refresh_on_inbound {
            self.lives.extend(id, now + self.config.lifetime);
            if self.sessions.contains(id, from) || self.table_len() < self.config.table_max {
                self.sessions.touch(id, from, now);
                self.counters.table_is(self.table_len());
            }
        }
        Ok(entry.inside)
    }

    /// A packet from inside to the own outside: the source that its receiver sees, and the inside
    /// endpoint that gets it (RFC 4787 §6).
    ///
    /// # Errors
    /// It is dropped.
    pub fn hairpin(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(SocketAddr, SocketAddr), DropReason> {
        if !self.config.hairpin {
            return Err(self.counters.dropped(DropReason::NoHairpin));
        }
        let source = self.outbound(inside, to, now)?;
        let receiver = self.inbound(source, to, now)?;
        Ok((source, receiver))
    }

    /// Forgets everything, as a restart does, and goes on at other ports.
    pub fn rebind(&mut self) {
        let used: BTreeSet<u16> = self.entries.values().map(|entry| entry.port).collect();
        self.ports.rebind(used);
        self.entries.clear();
        self.lives.clear();
        self.by_inside.clear();
        self.by_external.clear();
        self.replaced.clear();
        self.sessions.clear();
        self.unsolicited.clear();
    }

    /// The mapping for a packet from inside, an old one or a new one.
    fn translate(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(MappingId, u16), DropReason> {
        if self.external.is_ipv4() != to.is_ipv4() {
            return Err(DropReason::WrongFamily);
        }
        let scope = Scope::of(self.config.mapping, to);
        let replaced = self.replaced.get(&inside).into_iter().flatten();
        if let Some(id) = replaced.copied().find(|id| self.sessions.contains(*id, to)) {
            return Ok((id, self.entries[&id].port));
        }
        // A flow that was moved away from its socket's mapping has one of its own, which goes first.
        let moved = self.by_inside.get(&(inside, Scope::Endpoint(to))).copied();
        let found = moved.or_else(|| self.by_inside.get(&(inside, scope)).copied());
        let known = found.map(|id| (id, self.entries[&id].port));
        if let Some((id, _)) = known.filter(|(id, _)| self.sessions.contains(*id, to)) {
            return Ok((id, self.entries[&id].port));
        }
        if self.table_len() >= self.config.table_max {
            return Err(DropReason::TableFull);
        }
        match known {
            Some((_, port)) if self.is_occupied(port, to) => self.create_moved(inside, to, now),
            Some(known) => Ok(known),
            None => self.create(inside, scope, to, now),
        }
    }

    fn create(
        &mut self,
        inside: SocketAddr,
        scope: Scope,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(MappingId, u16), DropReason> {
        let first = self.by_inside.range((inside, Scope::Any)..).next();
        let first = first.is_none_or(|((found, _), _)| *found != inside);
        let port = self.choose(Wanted { inside, first, moved: false }, scope, None, now)?;
        if self.is_occupied(port, to) {
            return self.create_moved(inside, to, now);
        }
        Ok((self.insert(Entry { inside, scope, port }), port))
    }

    /// A mapping for a flow whose tuple at the usual port is occupied from outside: for this one alone, or,
    /// where one mapping serves all destinations, for those that are new from now on as well.
    fn create_moved(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(MappingId, u16), DropReason> {
        let is_for_all = self.config.mapping == Mapping::EndpointIndependent;
        let scope = if is_for_all { Scope::Any } else { Scope::Endpoint(to) };
        let old = self.by_inside.get(&(inside, scope)).copied();
        // With dependent mapping the old mapping was for this flow alone, or it serves others still.
        if let Some(old) = old.filter(|_| !is_for_all) {
            self.remove(old);
        }
        let wanted = Wanted { inside, first: false, moved: true };
        let port = self.choose(wanted, scope, Some(to), now)?;
        if let Some(old) = old.filter(|_| is_for_all) {
            self.replaced.entry(inside).or_default().push(old);
        }
        Ok((self.insert(Entry { inside, scope, port }), port))
    }

    /// A port for a new mapping; its tuple with `unless` must not be occupied.
    fn choose(
        &mut self,
        wanted: Wanted,
        scope: Scope,
        unless: Option<SocketAddr>,
        now: Instant,
    ) -> Result<u16, DropReason> {
        let Self { ports, rng, by_external, unsolicited, .. } = self;
        let reuses = ports.reuses();
        let is_free = |port: u16| {
            let mut holders = by_external.range((port, Scope::Any)..);
            let mut holders = holders.by_ref().take_while(|((at, _), _)| *at == port);
            let occupied = unless.is_some_and(|to| unsolicited.contains(&(port, to)));
            !occupied && !holders.any(|((_, held), _)| !reuses || held.overlaps(scope))
        };
        ports.choose(wanted, now, rng, &is_free).ok_or(DropReason::PortsExhausted)
    }

    fn insert(&mut self, entry: Entry) -> MappingId {
        let id = MappingId(self.next_id);
        self.next_id += 1;
        self.by_inside.insert((entry.inside, entry.scope), id);
        self.by_external.insert((entry.port, entry.scope), id);
        self.entries.insert(id, entry);
        self.counters.mapping_created();
        id
    }

    fn remove(&mut self, id: MappingId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        let inside = (entry.inside, entry.scope);
        if self.by_inside.get(&inside) == Some(&id) {
            self.by_inside.remove(&inside);
        }
        if let Some(replaced) = self.replaced.get_mut(&entry.inside) {
            replaced.retain(|other| *other != id);
            if replaced.is_empty() {
                self.replaced.remove(&entry.inside);
            }
        }
        self.by_external.remove(&(entry.port, entry.scope));
    }

    /// The mapping at an external port that lets a packet of `from` in. Where several share the
    /// port, the one for this very source goes first; without any, the one used last.
    fn receiver(&self, from: SocketAddr, port: u16) -> Option<(MappingId, Entry)> {
        let admits = |id: &MappingId| self.sessions.admits(self.config.filtering, *id, from);
        let for_source = [Scope::Endpoint(from), Scope::Address(from.ip()), Scope::Any];
        let mut candidates =
            for_source.iter().filter_map(|scope| self.by_external.get(&(port, *scope)).copied());
        let found = candidates.find(&admits).or_else(|| {
            // Under this filtering a mapping for other destinations never has what it takes.
            if self.config.filtering == Filtering::AddressAndPortDependent {
                return None;
            }
            self.at_port(port).filter(&admits).max_by_key(|id| self.lives.until(id))
        })?;
        self.entries.get(&found).map(|entry| (found, *entry))
    }

    fn at_port(&self, port: u16) -> impl Iterator<Item = MappingId> {
        self.by_external
            .range((port, Scope::Any)..)
            .take_while(move |((at, _), _)| *at == port)
            .map(|(_, id)| *id)
    }

    fn is_occupied(&self, port: u16, to: SocketAddr) -> bool {
        self.unsolicited.contains(&(port, to))
    }

    fn remember_unsolicited(&mut self, from: SocketAddr, port: u16, now: Instant) {
        let known = self.is_occupied(port, from);
        if self.config.inbound == InboundFirst::Remap
            && (known || self.table_len() < self.config.table_max)
        {
            self.unsolicited.extend((port, from), now + UNSOLICITED_LIFETIME);
            self.counters.table_is(self.table_len());
        }
    }

    fn expire(&mut self, now: Instant) {
        self.sessions.expire(now);
        while self.unsolicited.pop_expired(now).is_some() {}
        while let Some(id) = self.lives.pop_expired(now) {
            self.remove(id);
        }
    }
}
