//! The halls that one rendezvous owns, under one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::relay::RelayAccess;
use holepunch_wire::session::SessionId;
use holepunch_wire::tenant::Tenant;
use rand::rngs::StdRng;

#[cfg(debug_assertions)]
use crate::desk::Desk;
use crate::desk::WakeReason;
#[cfg(debug_assertions)]
use crate::doors::ConnectionId;
use crate::doors::{DropReason, Event, Told};
use crate::hall::{Hall, MemberView, RoomView, SessionView, Shared, Step};
use crate::names::Room;
use crate::plan::Planner;
use crate::seat::{Command, Effect, InstanceId, Seat};

/// Every hall of one rendezvous. A hall comes with its first worker and goes with its last.
///
/// Five doors: [`command`](Self::command), [`handle_timeout`](Self::handle_timeout), [`poll_effect`](Self::poll_effect),
/// [`poll_timeout`](Self::poll_timeout), [`poll_event`](Self::poll_event).
#[derive(Debug)]
pub struct Halls {
    shared: Shared,
    halls: BTreeMap<Room, Hall>,
    /// When each of them wants to be called.
    due: BTreeSet<(Instant, Room)>,
    emptied: Vec<Room>,
    /// From when on the next halls of rooms pair, that were another one's before.
    pairs_from: BTreeMap<Room, Instant>,
}

impl Halls {
    /// None yet. `rng` makes credentials, so it must be seeded from the operating system outside of tests; `relay`: what
    /// opens the relay, where there is one.
    #[must_use]
    pub fn new(relay: Option<RelayAccess>, rng: StdRng) -> Self {
        let (rooms, effects, events) = Default::default();
        let (planner, wall_clock) = (Planner::default(), None);
        let is_of_several = false;
        let shared =
            Shared { rng, planner, relay, wall_clock, is_of_several, rooms, effects, events };
        Self {
            shared,
            halls: BTreeMap::new(),
            due: BTreeSet::new(),
            emptied: Vec::new(),
            pairs_from: BTreeMap::new(),
        }
    }

    /// Takes what a desk says of its worker.
    pub fn command(&mut self, room: &Room, from: Seat, command: Command, now: Instant) {
        let is_entry = matches!(
            command,
            Command::Enter { .. }
                | Command::Rejoin { .. }
                | Command::Return { .. }
                | Command::Call { .. }
        );
        if is_entry && !self.halls.contains_key(room) {
            let pairs_from = self.pairs_from.remove(room).filter(|at| *at > now);
            self.halls.insert(room.clone(), Hall::new(room.clone(), pairs_from));
        }
        self.with(room, now, |hall, step| hall.command(from, command, step));
    }

    /// What the wall clock shows, since 1970; without it, there are no tokens for a relay.
    pub fn wall_clock(&mut self, unix: Duration, now: Instant) {
        self.shared.wall_clock = Some((now, unix));
    }

    /// A worker's connection to the relay of a session was opened, or has ended.
    pub fn relay_changed(
        &mut self,
        (session, end): (SessionId, usize),
        is_open: bool,
        now: Instant,
    ) {
        let Some(room) = self.shared.rooms.get(&session).cloned() else {
            return self.dropped(DropReason::NoSession);
        };
        self.with(&room, now, |hall, step| hall.relay_changed(session, end, is_open, step));
    }

    /// Something was left alone.
    pub(crate) fn dropped(&mut self, why: DropReason) {
        self.shared.events.push_back(Event::Dropped(why).told(None));
    }

    /// Another instance says what this one does not know.
    pub(crate) fn unreadable(&mut self, from: InstanceId) {
        self.shared.events.push_back(Event::Unreadable(from).told(None));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, room)) = self.due.first()
            && *at <= now
        {
            let room = room.clone();
            self.with(&room, now, Hall::timeout);
        }
    }

    /// What a desk is to be told next, where there is something.
    pub fn poll_effect(&mut self) -> Option<(Room, Seat, Effect)> {
        self.shared.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let (at, room) = self.due.first()?;
        Some((*at, self.halls.get(room)?.poll_timeout()?.1))
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Told> {
        self.shared.events.pop_front()
    }

    /// The workers that wait for a peer, room by room, the longest waiter first.
    /// `within`: those of this tenant alone.
    pub fn ready(&self, within: Option<&Tenant>) -> impl Iterator<Item = &WorkerId> {
        self.of(within).flat_map(Hall::ready)
    }

    /// The rooms with somebody in them, by name, behind this one.
    pub fn rooms(&self, after: Option<&Room>) -> impl Iterator<Item = RoomView<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.halls.range::<Room, _>((from, Bound::Unbounded)).map(|(_, hall)| hall.view())
    }

    /// Who is in each room, by room and id: from this room on, and there behind this one.
    pub fn members<'a>(
        &'a self,
        from: Option<(&'a Room, Option<&'a WorkerId>)>,
    ) -> impl Iterator<Item = MemberView<'a>> {
        self.halls_from(from.map(|(room, _)| room)).flat_map(move |(room, hall)| {
            let of_room = from.filter(|(it, _)| *it == room);
            hall.members(of_room.and_then(|(_, worker)| worker))
        })
    }

    /// All sessions, by room and number: from this room on, and there behind this one.
    pub fn session_views<'a>(
        &'a self,
        from: Option<(&'a Room, Option<SessionId>)>,
    ) -> impl Iterator<Item = SessionView<'a>> {
        self.halls_from(from.map(|(room, _)| room)).flat_map(move |(room, hall)| {
            let of_room = from.filter(|(it, _)| *it == room);
            hall.session_views(of_room.and_then(|(_, session)| session))
        })
    }

    fn halls_from<'a>(
        &'a self,
        first: Option<&Room>,
    ) -> impl Iterator<Item = (&'a Room, &'a Hall)> {
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        self.halls.range::<Room, _>((from, Bound::Unbounded))
    }

    /// All sessions: their number, and both workers, with whether each is connected.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, [(&WorkerId, bool); 2])> {
        self.halls.values().flat_map(Hall::pairs)
    }

    /// How many these are.
    #[must_use]
    pub fn ready_count(&self, within: Option<&Tenant>) -> usize {
        self.of(within).map(Hall::ready_count).sum()
    }

    fn of(&self, within: Option<&Tenant>) -> impl Iterator<Item = &Hall> {
        let of_it = move |(room, _): &(&Room, &Hall)| within.is_none_or(|it| room.tenant == *it);
        self.halls.iter().filter(of_it).map(|(_, hall)| hall)
    }

    /// How many are in all rooms, once everything was looked at.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self, desks: Option<&BTreeMap<ConnectionId, Desk>>) -> usize {
        let due = self.halls.iter().filter_map(|(room, hall)| {
            assert!(!hall.is_empty(), "nobody is in {room}");
            Some((hall.poll_timeout()?.0, room.clone()))
        });
        assert_eq!(due.collect::<BTreeSet<_>>(), self.due, "a hall waits for another time");
        let of_hall = |(room, hall): (&Room, &Hall)| {
            hall.pairs().map(|(id, _)| (id, room.clone())).collect::<Vec<_>>()
        };
        let rooms: BTreeMap<SessionId, Room> = self.halls.iter().flat_map(of_hall).collect();
        assert_eq!(rooms, self.shared.rooms, "a session is elsewhere");
        self.halls.values().map(|hall| hall.check_invariants(desks)).sum()
    }

    fn with(&mut self, room: &Room, now: Instant, act: impl FnOnce(&mut Hall, &mut Step<'_>)) {
        let Some(hall) = self.halls.get_mut(room) else { return };
        let before = hall.poll_timeout();
        act(hall, &mut Step { room, shared: &mut self.shared, now });
        let is_empty = hall.is_empty();
        let after = hall.poll_timeout().filter(|_| !is_empty);
        if before != after {
            if let Some((at, _)) = before {
                self.due.remove(&(at, room.clone()));
            }
            if let Some((at, _)) = after {
                self.due.insert((at, room.clone()));
            }
        }
        if is_empty {
            self.halls.remove(room);
            self.emptied.push(room.clone());
        }
    }

    /// Whether a room has a hall here.
    pub(crate) fn has(&self, room: &Room) -> bool {
        self.halls.contains_key(room)
    }

    /// The rooms whose halls are here no longer, since nobody is there.
    pub(crate) fn emptied(&mut self) -> Vec<Room> {
        std::mem::take(&mut self.emptied)
    }

    /// A room is this one's from now on. Where it has been another one's, nobody is paired before `pairs_from`.
    pub(crate) fn own(&mut self, room: Room, pairs_from: Option<Instant>) {
        self.shared.is_of_several = true;
        self.pairs_from.remove(&room);
        self.pairs_from.extend(pairs_from.map(|at| (room, at)));
    }

    /// A room is another one's from now on, and what is known of it here worth nothing.
    pub(crate) fn disown(&mut self, room: &Room) {
        self.pairs_from.remove(room);
        let Some(hall) = self.halls.remove(room) else { return };
        if let Some((at, _)) = hall.poll_timeout() {
            self.due.remove(&(at, room.clone()));
        }
        for (session, _) in hall.pairs() {
            self.shared.rooms.remove(&session);
        }
        self.shared.effects.retain(|(other, _, _)| other != room);
    }

    /// All connections of an instance are gone.
    pub(crate) fn instance_gone(&mut self, instance: InstanceId, now: Instant) {
        let rooms: Vec<Room> = self.halls.keys().cloned().collect();
        for room in rooms {
            self.with(&room, now, |hall, step| hall.instance_gone(instance, step));
        }
    }
}
