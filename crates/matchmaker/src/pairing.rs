//! Who is offered to whom.

use std::time::Instant;

use holepunch_wire::session::{RoomMode, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::ServerMessage;
use holepunch_wire::signal::v1::ErrorCode;

use crate::connection::Connection;
use crate::doors::{Action, ConnectionId, Event, Transmit};
use crate::machine::Matchmaker;
use crate::queue::{Place, Waiter};
use crate::session::{MESH_WORKERS_MAX, REMATCH_AFTER};

/// Of a room, so many workers are looked at for two that have each other: rooms of two are small.
const OCCUPANTS_LOOKED_AT: usize = 16;

impl Matchmaker {
    /// Puts a worker in its place in the queue of its room; whether that is an event.
    pub(crate) fn enqueue(&mut self, id: ConnectionId, is_told: bool) {
        let Some(entry) = self.connections.get(&id) else { return };
        let (Some(place), false) = (entry.place, entry.is_overdue()) else { return };
        let waiter =
            Waiter { connection: id, endpoint: entry.endpoint, protocol: entry.protocol() };
        let Some(room) = self.rooms.find_mut(&entry.room) else { return };
        room.ready.insert(place, waiter);
        let waiting = room.ready.len();
        if let (true, Some(endpoint)) = (is_told, entry.endpoint) {
            let worker = entry.worker.clone();
            self.events.push_back(Event::Queued { worker, endpoint, waiting });
        }
    }

    /// Pairs a worker with the longest waiter that suits, if there is one.
    pub(crate) fn pair(&mut self, id: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get(&id) else { return };
        let (Some(place), Some(room)) = (entry.place, self.rooms.find(&entry.room)) else { return };
        let is_new = |other: ConnectionId| {
            let waiter = self.connections.get(&other)?;
            // Those who wait may have been called meanwhile, perhaps by each other.
            let both_v1 = entry.v1.is_some() && waiter.v1.is_some();
            let may_meet = !both_v1 || self.may_meet(id, other).is_ok();
            let is_new = entry.partners.iter().all(|(known, _)| *known != waiter.worker);
            may_meet.then_some(is_new)
        };
        let Some((_, other)) = room.ready.partner(place, is_new) else {
            return self.tell_occupied(id);
        };
        let Some(partner) = self.connections.get(&other) else { return };
        let both_v1 = entry.v1.is_some() && partner.v1.is_some();
        if let Some(at) = parted(entry, partner).filter(|at| both_v1 && *at > now) {
            // Nobody else waits, and these two have just failed.
            self.rematches.insert((at, id));
            return;
        }
        let Some(other_place) = partner.place else { return };
        let mut pair = [(place, id), (other_place, other)];
        pair.sort_unstable();
        for (place, id) in pair {
            self.dequeue(place, id);
        }
        let [(first_place, first), (second_place, second)] = pair;
        self.acquaint(first, second, now);
        if both_v1 {
            self.begin_session([(first, Some(first_place)), (second, Some(second_place))], now);
            return;
        }
        let offered =
            [self.offer(first, first_place, second), self.offer(second, second_place, first)];
        let mut is_told = false;
        for id in [first, second] {
            is_told |= self.connections.get_mut(&id).is_some_and(|it| it.is_told(now));
        }
        if let ([Some(()), Some(())], true, Some(a), Some(b)) =
            (offered, is_told, self.connections.get(&first), self.connections.get(&second))
        {
            self.events.push_back(Event::Paired(a.worker.clone(), b.worker.clone()));
        }
    }

    /// A worker waits where others have each other: once, it is told so, since it may have the wrong room.
    fn tell_occupied(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get(&id) else { return };
        let Some(room) = self.rooms.find(&entry.room) else { return };
        let was_told = entry.v1.as_ref().is_none_or(|v1| v1.told_occupied);
        if was_told || entry.room.is_default() {
            return;
        }
        let has_peer = |other: &&ConnectionId| {
            let v1 = self.connections.get(other).and_then(|other| other.v1.as_ref());
            **other != id && v1.is_some_and(|v1| !v1.sessions.is_empty())
        };
        let looked_at = room.members.iter().take(OCCUPANTS_LOOKED_AT);
        if looked_at.filter(has_peer).take(2).count() < 2 {
            return;
        }
        if let Some(v1) = self.connections.get_mut(&id).and_then(|entry| entry.v1.as_mut()) {
            v1.told_occupied = true;
        }
        let message = "two others in this room have each other";
        self.send_error(id, ErrorCode::RoomOccupied, message.to_owned());
    }

    pub(crate) fn dequeue(&mut self, place: Place, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        entry.place = None;
        if let Some(room) = self.rooms.find_mut(&entry.room) {
            room.ready.remove(place);
        }
    }

    /// Each is no longer the other's first choice.
    fn acquaint(&mut self, first: ConnectionId, second: ConnectionId, now: Instant) {
        for (own, other) in [(first, second), (second, first)] {
            let Some(worker) = self.connections.get(&other).map(|entry| entry.worker.clone())
            else {
                return;
            };
            if let Some(entry) = self.connections.get_mut(&own) {
                entry.remember(worker, now);
            }
        }
    }

    /// Offers `peer` to `to` by a plain offer.
    fn offer(&mut self, to: ConnectionId, place: Place, peer: ConnectionId) -> Option<()> {
        let entry = self.connections.get(&peer)?;
        let endpoint = entry.endpoint?;
        let offer = ServerMessage::P2pConnectionOffer {
            peer_worker_id: entry.worker.as_str(),
            peer_udp_ip: endpoint.ip(),
            peer_udp_port: endpoint.port(),
        };
        let action = Action::Offer(offer.encode());
        self.transmits.push_back(Transmit { connection: to, action });
        self.connections.get_mut(&to)?.paired = Some((peer, place));
        Some(())
    }

    /// Puts `id` back in its place, since the offer to its peer `lost` could not be sent.
    pub(crate) fn requeue(&mut self, id: ConnectionId, lost: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let (Some((peer, place)), None) = (entry.paired, entry.place) else { return };
        if peer != lost || entry.endpoint.is_none() {
            return;
        }
        self.wait_again(id, place, now);
    }

    /// A worker wants another peer, in the place that it had. Where its room has become one of many
    /// meanwhile, it wants all of them.
    pub(crate) fn wait_again(&mut self, id: ConnectionId, place: Place, now: Instant) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if self.rooms.find(&entry.room).is_none_or(|room| room.mode() == RoomMode::Pair) {
            entry.place = Some(place);
            self.enqueue(id, true);
            return self.pair(id, now);
        }
        if let Some(v1) = &mut entry.v1 {
            v1.wants_peers = true;
        }
        self.mesh(id, now);
    }

    /// In a room of many: offers a worker that wants peers everybody else who does.
    pub(crate) fn mesh(&mut self, id: ConnectionId, now: Instant) {
        let Some(entry) = self.connections.get(&id) else { return };
        let Some(room) = self.rooms.find(&entry.room) else { return };
        let wants = |entry: &Connection| entry.v1.as_ref().is_some_and(|v1| v1.wants_peers);
        if room.mode() != RoomMode::Mesh || !wants(entry) {
            return;
        }
        let members = room.members.iter().filter(|member| **member != id);
        let others: Vec<ConnectionId> = members
            .filter(|member| self.connections.get(member).is_some_and(wants))
            .take(MESH_WORKERS_MAX - 1)
            .copied()
            .collect();
        let mut rematch: Option<Instant> = None;
        for other in others {
            if self.may_meet(id, other).is_err() {
                continue;
            }
            let ends = self.connections.get(&id).zip(self.connections.get(&other));
            match ends.and_then(|(own, other)| parted(own, other)).filter(|at| *at > now) {
                Some(at) => rematch = Some(rematch.map_or(at, |earlier| earlier.min(at))),
                None => self.begin_session([(other, None), (id, None)], now),
            }
        }
        if let Some(at) = rematch {
            self.rematches.insert((at, id));
        }
    }

    /// Why two workers cannot have a session with each other, if they cannot.
    pub(crate) fn may_meet(&self, a: ConnectionId, b: ConnectionId) -> Result<(), &'static str> {
        let sessions = |id: ConnectionId| {
            let v1 = self.connections.get(&id).and_then(|entry| entry.v1.as_ref());
            v1.map(|v1| &v1.sessions)
        };
        let (Some(of_a), Some(of_b)) = (sessions(a), sessions(b)) else {
            return Err("it does not speak holepunch.v1");
        };
        if of_a.len() >= SESSIONS_MAX || of_b.len() >= SESSIONS_MAX {
            return Err("one of the two has as many sessions as it may have");
        }
        let met = |session: &SessionId| of_b.contains(session);
        if of_a.iter().any(met) { Err("the two have a session already") } else { Ok(()) }
    }
}

/// When two that were paired before may be paired again.
pub(crate) fn parted(a: &Connection, b: &Connection) -> Option<Instant> {
    let met = a.partners.iter().find(|(worker, _)| *worker == b.worker);
    met.map(|(_, at)| *at + REMATCH_AFTER)
}
