//! Who is offered to whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::reason::CallError;
use holepunch_wire::session::RoomMode;
use holepunch_wire::signal::v1::ErrorCode;

use super::person::TOLD;
use super::queue::{Place, Waiter};
use super::session::REMATCH_AFTER;
use super::{Hall, MESH_WORKERS_MAX, Person, Step};
use crate::doors::Event;
use crate::seat::{Effect, Seat};

/// Of a room, so many workers are looked at for two that have each other: rooms of two are small.
const OCCUPANTS_LOOKED_AT: usize = 16;

impl Hall {
    /// The worker asks for a peer: it gets a place in the queue, unless it has one.
    pub(super) fn want(&mut self, seat: Seat, waited: Option<Duration>, step: &mut Step<'_>) {
        let is_pair = self.mode() == RoomMode::Pair;
        let Some(person) = self.people.get_mut(&seat) else { return };
        if !self.members.contains(&seat) {
            return;
        }
        if !is_pair {
            person.wants_peers = person.is_v1();
            return self.mesh(seat, step);
        }
        if person.is_engaged() && person.place.is_none() {
            return; // It tells where it is to be found now, and has a peer.
        }
        let is_news = person.place.is_none();
        if is_news {
            self.next_place += 1;
            person.place = Some(Place::new(self.next_place, waited));
        }
        self.enqueue(seat, is_news, step);
        self.pair(seat, step);
    }

    /// Puts a worker in its place in the queue; whether that is an event.
    pub(super) fn enqueue(&mut self, seat: Seat, is_told: bool, step: &mut Step<'_>) {
        let Some(person) = self.people.get_mut(&seat) else { return };
        let (Some(place), false) = (person.place, person.card.overdue) else { return };
        let (endpoint, protocol) = (person.card.endpoint, person.card.protocol());
        self.ready.insert(place, Waiter { seat, endpoint, protocol });
        let waiting = self.ready.len();
        if let (true, Some(endpoint)) = (is_told, endpoint) {
            let quiet = !person.told.take(TOLD, step.now);
            let worker = person.card.worker.clone();
            step.event_unless(quiet, Event::Queued { worker, endpoint, waiting });
        }
    }

    /// Pairs a worker with the longest waiter that suits, if there is one.
    pub(super) fn pair(&mut self, seat: Seat, step: &mut Step<'_>) {
        if !self.may_pair(seat, step.now) {
            return;
        }
        let Some(person) = self.people.get(&seat) else { return };
        let Some(place) = person.place else { return };
        // Where the room is somebody's own, all others have come for that one.
        let suits =
            |other| !self.was_owned || self.owner.is_some_and(|it| it == seat || it == other);
        let is_new = |other: Seat| {
            let waiter = self.people.get(&other).filter(|_| suits(other))?;
            // Those who wait may have been called meanwhile, perhaps by each other.
            let both_v1 = person.is_v1() && waiter.is_v1();
            let may_meet = !both_v1 || may_meet(person, waiter).is_ok();
            let is_new = person.partners.iter().all(|it| it.worker != waiter.card.worker);
            may_meet.then_some(is_new)
        };
        let Some((_, other)) = self.ready.partner(place, is_new) else {
            return self.tell_occupied(seat, step);
        };
        let Some(partner) = self.people.get(&other) else { return };
        let both_v1 = person.is_v1() && partner.is_v1();
        if let Some(at) = parted((person, seat), partner).filter(|at| both_v1 && *at > step.now) {
            // Nobody else waits, and these two have just failed.
            self.rematches.insert((at, seat));
            return;
        }
        let Some(other_place) = partner.place else { return };
        let mut pair = [(place, seat), (other_place, other)];
        pair.sort_unstable();
        for (place, seat) in pair {
            self.dequeue(place, seat);
        }
        let [(first_place, first), (second_place, second)] = pair;
        self.acquaint(first, second, step);
        if both_v1 {
            self.begin_session([(first, Some(first_place)), (second, Some(second_place))], step);
            return;
        }
        self.offer(first, first_place, second, step);
        self.offer(second, second_place, first, step);
        let mut is_told = false;
        for seat in [first, second] {
            is_told |= self.people.get_mut(&seat).is_some_and(|it| it.told.take(TOLD, step.now));
        }
        if let (Some(a), Some(b)) = (self.worker(first), self.worker(second)) {
            step.event_unless(!is_told, Event::Paired(a, b));
        }
    }

    /// A worker waits where others have each other: once, it is told so, since it may have the wrong room.
    fn tell_occupied(&mut self, seat: Seat, step: &mut Step<'_>) {
        let has_peer = |other: &&Seat| {
            let person = self.people.get(other);
            **other != seat && person.is_some_and(|it| it.is_v1() && it.is_engaged())
        };
        let occupants = self.members.iter().take(OCCUPANTS_LOOKED_AT).filter(has_peer).take(2);
        let is_occupied = !self.name.name.is_default() && occupants.count() == 2;
        let Some(person) = self.people.get_mut(&seat) else { return };
        if is_occupied && person.is_v1() && !std::mem::replace(&mut person.told_occupied, true) {
            let message = "two others in this room have each other";
            step.refuse(seat, ErrorCode::RoomOccupied, message.to_owned());
        }
    }

    pub(super) fn dequeue(&mut self, place: Place, seat: Seat) {
        if let Some(person) = self.people.get_mut(&seat) {
            person.place = None;
            self.ready.remove(place);
        }
    }

    /// Each is no longer the other's first choice.
    fn acquaint(&mut self, first: Seat, second: Seat, step: &Step<'_>) {
        for (own, other) in [(first, second), (second, first)] {
            let Some(partner) = self.worker(other) else { return };
            if let Some(person) = self.people.get_mut(&own) {
                person.remember((partner, other), step.now);
            }
        }
    }

    /// Offers `peer` to `to` by a plain offer.
    fn offer(&mut self, to: Seat, place: Place, peer: Seat, step: &mut Step<'_>) {
        let Some(card) = self.people.get(&peer).map(|it| Arc::clone(&it.card)) else { return };
        let (Some(endpoint), Some(person)) = (card.endpoint, self.people.get_mut(&to)) else {
            return;
        };
        person.paired = Some((peer, place));
        step.tell(to, Effect::Offer { peer: card.worker.clone(), endpoint });
    }

    /// Puts a worker back in its place, since the offer to its peer `lost` could not be sent.
    pub(super) fn requeue(&mut self, seat: Seat, lost: Seat, step: &mut Step<'_>) {
        let Some(person) = self.people.get_mut(&seat) else { return };
        let (Some((peer, place)), None) = (person.paired, person.place) else { return };
        if peer == lost && person.card.endpoint.is_some() {
            self.wait_again(seat, place, step);
        }
    }

    /// A worker wants another peer, in the place that it had. Where its room has become one of many
    /// meanwhile, it wants all of them.
    pub(super) fn wait_again(&mut self, seat: Seat, place: Place, step: &mut Step<'_>) {
        let is_pair = self.mode() == RoomMode::Pair;
        let Some(person) = self.people.get_mut(&seat) else { return };
        if !self.members.contains(&seat) {
            return;
        }
        step.tell(seat, Effect::Waits(true));
        if is_pair {
            person.place.get_or_insert(place); // It may have asked by itself.
            self.enqueue(seat, true, step);
            return self.pair(seat, step);
        }
        person.wants_peers = person.is_v1();
        self.mesh(seat, step);
    }

    /// In a room of many: offers a worker that wants peers everybody else who does.
    pub(super) fn mesh(&mut self, seat: Seat, step: &mut Step<'_>) {
        if self.mode() != RoomMode::Mesh || !self.may_pair(seat, step.now) {
            return;
        }
        let wants = |seat: &Seat| self.people.get(seat).is_some_and(|it| it.wants_peers);
        if !wants(&seat) {
            return;
        }
        let others = self.members.iter().filter(|member| **member != seat && wants(member));
        let others: Vec<Seat> = others.take(MESH_WORKERS_MAX - 1).copied().collect();
        let mut rematch: Option<Instant> = None;
        for other in others {
            let Some((own, peer)) = self.people.get(&seat).zip(self.people.get(&other)) else {
                continue;
            };
            if may_meet(own, peer).is_err() {
                continue;
            }
            match parted((own, seat), peer).filter(|at| *at > step.now) {
                Some(at) => rematch = Some(rematch.map_or(at, |earlier| earlier.min(at))),
                None => self.begin_session([(other, None), (seat, None)], step),
            }
        }
        if let Some(at) = rematch {
            self.rematches.insert((at, seat));
        }
    }
}

/// Why two workers cannot have a session with each other, if they cannot.
pub(super) fn may_meet(a: &Person, b: &Person) -> Result<(), CallError> {
    if !a.is_v1() || !b.is_v1() {
        return Err(CallError::Baseline);
    }
    if a.is_full() || b.is_full() {
        return Err(CallError::TooManySessions);
    }
    let have_met = a.sessions.iter().any(|session| b.sessions.contains(session));
    if have_met { Err(CallError::HasSession) } else { Ok(()) }
}

/// When two that were paired before may be paired again. A guest is forgotten with its last session, so `b` remembers this
/// connection, too; a worker that has begun anew need not wait.
pub(super) fn parted((a, seat): (&Person, Seat), b: &Person) -> Option<Instant> {
    let by_a = a.partners.iter().find(|known| known.worker == b.card.worker);
    let by_b = b.partners.iter().find(|known| known.seat == seat);
    by_a.into_iter().chain(by_b).map(|known| known.met_at + REMATCH_AFTER).max()
}
