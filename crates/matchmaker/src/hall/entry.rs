//! Who is in a room: workers come, go, and are shown out.

use std::sync::Arc;

use holepunch_wire::session::RoomMode;
use holepunch_wire::signal::v1::{ErrorCode, ServerV1};

use super::queue::Place;
use super::{Hall, MESH_WORKERS_MAX, Step};
use crate::card::Card;
use crate::seat::{Effect, Seat};

impl Hall {
    /// Lets a worker in. The first that names a mode decides; the default room is always one of pairs.
    pub(super) fn enter(
        &mut self,
        seat: Seat,
        card: Arc<Card>,
        (mode, fresh, own): (Option<RoomMode>, bool, bool),
        step: &mut Step<'_>,
    ) {
        if !self.let_in(seat, card, step) {
            return;
        }
        let has_others = self.members.iter().any(|member| *member != seat);
        let has_owner = self.owner.is_some_and(|owner| owner != seat);
        if !self.name.name.is_default() && (fresh && has_others || own && has_owner) {
            let message = "somebody is in this room already".to_owned();
            return self.show_out(seat, ErrorCode::RoomTaken, message, step);
        }
        // Whoever has a room of its own decides of what kind it is, also where it says nothing: else a stranger who comes
        // next could make it one in which nobody is offered to anybody.
        let wanted = if fresh || own { Some(mode.unwrap_or_default()) } else { mode };
        let before = (!self.members.is_empty()).then_some(self.mode());
        self.members.insert(seat);
        if self.decided.is_none() && !self.name.name.is_default() {
            self.decided = wanted;
        }
        let granted = self.mode();
        if fresh || own {
            (self.owner, self.was_owned) = (Some(seat), true);
        }
        step.tell(seat, Effect::Entered(granted));
        if fresh {
            step.say(seat, ServerV1::RoomEntered);
        }
        if mode.is_some_and(|mode| mode != granted) {
            let message =
                format!("this room's mode is {granted:?}: the first worker that named one decided");
            step.refuse(seat, ErrorCode::RoomMode, message);
        }
        if granted == RoomMode::Mesh && self.members.len() > MESH_WORKERS_MAX {
            let message = format!("this room is full: {MESH_WORKERS_MAX} workers");
            self.show_out(seat, ErrorCode::RoomFull, message, step);
        }
        // Once, by the hello that decides: it looks at everybody in the room.
        if before.is_some_and(|before| before != granted) {
            let others = self.members.iter().filter(|member| **member != seat);
            others.for_each(|member| step.tell(*member, Effect::Entered(granted)));
            self.disband_queue(step);
        }
    }

    /// Those who wait in a room for one peer each want all others, once somebody has decided that the room
    /// is of many: nobody would ever pair them, and they do not ask twice.
    fn disband_queue(&mut self, step: &mut Step<'_>) {
        if self.mode() == RoomMode::Pair {
            return;
        }
        let place = |seat: &Seat| self.people.get(seat).and_then(|person| person.place);
        let mut waiting: Vec<(Place, Seat)> =
            self.members.iter().filter_map(|seat| Some((place(seat)?, *seat))).collect();
        waiting.sort_unstable();
        for (place, seat) in &waiting {
            self.dequeue(*place, *seat);
        }
        for (place, seat) in waiting {
            self.wait_again(seat, place, step);
        }
    }

    fn show_out(&mut self, seat: Seat, code: ErrorCode, message: String, step: &mut Step<'_>) {
        self.exit(seat, step);
        step.tell(seat, Effect::ShownOut { code, message });
    }

    /// A worker leaves the room; its sessions go on.
    pub(super) fn exit(&mut self, seat: Seat, step: &mut Step<'_>) {
        self.leave_room(seat, step);
        self.see_off(seat, step);
    }

    fn leave_room(&mut self, seat: Seat, step: &mut Step<'_>) {
        let Some(person) = self.people.get_mut(&seat) else { return };
        person.wants_peers = false;
        if let Some(place) = person.place.take() {
            self.ready.remove(place);
        }
        // Nobody here calls it any more.
        let line = person.line.take();
        self.members.remove(&seat);
        if let Some(at) = line.as_ref().and_then(|line| line.turn_at) {
            self.lines.remove(&(at, seat));
        }
        for caller in line.iter().flat_map(|line| line.callers()) {
            self.no_more_in_line(caller, seat, step);
        }
        if self.owner == Some(seat) {
            self.owner = None;
        }
        if self.members.is_empty() {
            // The next one begins anew.
            (self.decided, self.was_owned) = (None, false);
        }
    }

    /// A connection is gone.
    pub(super) fn depart(&mut self, seat: Seat, leaves: bool, unsent: bool, step: &mut Step<'_>) {
        self.leave_room(seat, step);
        let Some(person) = self.forget(seat, step) else { return };
        self.orphan(seat, &person, leaves, step);
        if let (true, Some((peer, _))) = (unsent, person.paired) {
            self.requeue(peer, seat, step);
        }
    }
}
