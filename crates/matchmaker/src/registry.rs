//! Who is registered: connections come, are replaced, and go.

use std::net::IpAddr;
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::address::{SHARES_OF_SITE, Source};
use holepunch_wire::identity;
use holepunch_wire::session::RoomName;
use holepunch_wire::signal::REPLACED_REASON;

use crate::connection::Connection;
use crate::doors::{
    Action, ConnectionId, Event, LeaveReason, NotAdmitted, Observed, Protocol, Transmit,
};
use crate::liveness::Liveness;
use crate::machine::Matchmaker;

/// WebSocket close codes (RFC 6455 §7.4.1).
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_GOING_AWAY: u16 = 1001;
const CLOSE_POLICY: u16 = 1008;
const CLOSE_TRY_AGAIN: u16 = 1013;

/// Connections beyond the limit of workers that are to prove a key for the place of one that is
/// connected: a worker whose old connection is dead gets back into a full rendezvous, and nobody who
/// knows its id holds more than a few.
const REPLACING_MAX: usize = 64;

const SHUTDOWN_REASON: &str = "server is shutting down";

/// A WebSocket that has just been opened.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) worker: WorkerId,
    pub(crate) observed: Observed,
    pub(crate) protocol: Protocol,
    pub(crate) room: Option<RoomName>,
    pub(crate) challenge: String,
}

impl Matchmaker {
    /// Whether there is room for `worker`, which comes from `ip`, with those that have not proved their key
    /// yet; an id that is connected replaces its own connection.
    ///
    /// # Errors
    /// All places are taken, or those of its address or site.
    pub fn admits(&self, worker: &WorkerId, ip: IpAddr) -> Result<(), NotAdmitted> {
        let current = self.current.get(worker).and_then(|id| self.connections.get(id));
        let has_room = |held: usize, max: usize, replaced: Option<&Connection>| {
            let has_key = |old: &Connection| old.v1.as_ref().is_some_and(|v1| v1.key.is_some());
            // Whoever has proved a key stays until the new one has, too.
            held < max || replaced.is_some_and(|old| !has_key(old) || held < max + REPLACING_MAX)
        };
        let held = self.connections.len() + self.pending.len();
        if !has_room(held, self.config.workers_max, current) {
            return Err(NotAdmitted::Full);
        }
        let (Some(max), Some(source)) = (self.config.workers_per_address_max, Source::of(ip))
        else {
            return Ok(());
        };
        let was_at = |old: &Connection| Source::of(old.observed.ip);
        let own = current.filter(|old| was_at(old) == Some(source));
        if !has_room(self.places.of(source), max, own) {
            return Err(NotAdmitted::ShareOfAddress(max));
        }
        let (site, max) = (source.site(), max.saturating_mul(SHARES_OF_SITE as usize));
        let own = current.filter(|old| was_at(old).map(Source::site) == Some(site));
        if has_room(self.places.of_site(site), max, own) {
            Ok(())
        } else {
            Err(NotAdmitted::ShareOfSite(max))
        }
    }

    pub(crate) fn connected(&mut self, id: ConnectionId, arrival: Arrival, now: Instant) {
        let Arrival { worker, observed, protocol, room, challenge } = arrival;
        // Both may have changed since the WebSocket was asked for.
        if self.ended {
            return self.send_close(id, CLOSE_GOING_AWAY, SHUTDOWN_REASON);
        }
        if let Err(why) = self.admits(&worker, observed.ip) {
            let reason = match why {
                NotAdmitted::Full => "too many workers",
                NotAdmitted::ShareOfAddress(_) => "too many workers from this address",
                NotAdmitted::ShareOfSite(_) => "too many workers from this IPv6 site (/48)",
            };
            return self.send_close(id, CLOSE_TRY_AGAIN, reason);
        }
        let needs_proof = self.needs_proof(&worker);
        let is_v1 = protocol == Protocol::V1;
        if needs_proof && !is_v1 {
            let reason = "this id is bound to a key, which only a worker of holepunch.v1 can prove";
            self.events.push_back(Event::Refused(worker, reason));
            return self.send_close(id, CLOSE_POLICY, reason);
        }
        self.places.take(observed.ip);
        let v1 = is_v1.then(|| self.welcome(id, (&worker, observed), challenge, now));
        let room = room.filter(|_| is_v1).unwrap_or_default();
        let liveness = Liveness::quiet(now, self.config.ping_interval);
        let mut entry = Connection::new(worker, observed, room, liveness, v1, now);
        if needs_proof {
            // The proof answers the welcome at once, as a pong answers a ping.
            entry.pinged_at = Some(now);
            self.pending.insert(id, entry, now);
        } else {
            self.register(id, entry, now);
        }
    }

    /// Takes a connection into every table, in the place of an older one of the same id.
    pub(crate) fn register(&mut self, id: ConnectionId, mut entry: Connection, now: Instant) {
        if let Some(&old) = self.current.get(&entry.worker) {
            self.close(old, CLOSE_NORMAL, REPLACED_REASON, LeaveReason::Replaced, now);
        }
        self.current.insert(entry.worker.clone(), id);
        self.events.push_back(Event::Registered(entry.worker.clone(), entry.observed));
        entry.rtt = entry.pinged_at.take().map(|at| now.saturating_duration_since(at));
        entry.liveness = Liveness::quiet(now, self.config.ping_interval);
        self.deadlines.insert((entry.liveness.deadline().0, id));
        self.rooms.enter(&entry.room, id, None);
        let is_v1 = entry.v1.is_some();
        self.connections.insert(id, entry);
        if is_v1 {
            self.turn_away(id);
            // The round-trip time is needed for the first plan.
            self.ping(id, now);
        }
    }

    /// Closes a connection that has not proved what it claims.
    pub(crate) fn refuse(&mut self, id: ConnectionId, reason: &'static str, now: Instant) {
        let entry = self.connections.get(&id).or_else(|| self.pending.get(id));
        let Some(worker) = entry.map(|entry| entry.worker.clone()) else { return };
        self.events.push_back(Event::Refused(worker, reason));
        self.close(id, CLOSE_POLICY, reason, LeaveReason::Refused, now);
    }

    pub(crate) fn close(
        &mut self,
        id: ConnectionId,
        code: u16,
        reason: &'static str,
        why: LeaveReason,
        now: Instant,
    ) {
        self.send_close(id, code, reason);
        self.forget(id, why, now);
    }

    fn send_close(&mut self, connection: ConnectionId, code: u16, reason: &'static str) {
        self.transmits.push_back(Transmit { connection, action: Action::Close { code, reason } });
    }

    /// Takes a connection out of every table. The worker leaves the registry only if this connection
    /// is still its current one; a replaced one is unknown here, so its late end changes nothing.
    pub(crate) fn forget(
        &mut self,
        id: ConnectionId,
        why: LeaveReason,
        now: Instant,
    ) -> Option<Connection> {
        if let Some(entry) = self.pending.remove(id) {
            self.places.give_back(entry.observed.ip);
            return None; // It was in no other table.
        }
        let entry = self.connections.remove(&id)?;
        self.places.give_back(entry.observed.ip);
        self.deadlines.remove(&(entry.liveness.deadline().0, id));
        if let (Some(place), Some(room)) = (entry.place, self.rooms.find_mut(&entry.room)) {
            room.ready.remove(place);
        }
        self.rooms.leave(&entry.room, id);
        if self.current.get(&entry.worker) == Some(&id) {
            self.current.remove(&entry.worker);
        }
        let key = entry.v1.as_ref().and_then(|v1| v1.key);
        // The one that takes its place has proved the key as well.
        let outlives = why != LeaveReason::Replaced && !identity::is_made_from_a_key(&entry.worker);
        if let Some(key) = key.filter(|_| outlives) {
            self.bindings.keep(entry.worker.clone(), key, entry.observed.ip, now);
        }
        self.events.push_back(Event::Left(entry.worker.clone(), why));
        let leaves = match why {
            LeaveReason::Goodbye | LeaveReason::Refused => true,
            LeaveReason::Closed
            | LeaveReason::PingTimeout
            | LeaveReason::Replaced
            | LeaveReason::Shutdown => false,
        };
        self.orphan(&entry, id, leaves, now);
        Some(entry)
    }

    pub(crate) fn shutdown(&mut self, now: Instant) {
        self.ended = true;
        let connections = self.connections.keys().copied().chain(self.pending.ids());
        for id in connections.collect::<Vec<ConnectionId>>() {
            self.close(id, CLOSE_GOING_AWAY, SHUTDOWN_REASON, LeaveReason::Shutdown, now);
        }
    }
}
