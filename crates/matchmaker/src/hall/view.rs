//! What whoever looks after the server sees of a hall.

use std::ops::Bound;

use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::{RoomMode, SessionId};

use super::Hall;
use crate::card::Card;
use crate::names::Room;
use crate::seat::Seat;

/// A room.
#[derive(Debug, Clone, Copy)]
pub struct RoomView<'a> {
    /// Its name.
    pub name: &'a Room,
    /// Who is offered to whom there.
    pub mode: RoomMode,
    /// How many are in it.
    pub members: usize,
    /// How many of these wait for a peer.
    pub waiting: usize,
    /// How many sessions there are in it, those of guests included.
    pub sessions: usize,
}

/// A worker that is in a room.
#[derive(Debug, Clone, Copy)]
pub struct MemberView<'a> {
    /// That room.
    pub room: &'a Room,
    /// Where its WebSocket is.
    pub seat: Seat,
    /// What is known of it.
    pub card: &'a Card,
    /// Whether it waits for a peer.
    pub waits: bool,
    /// Its sessions, those in other rooms included.
    pub sessions: usize,
}

/// A session.
#[derive(Debug, Clone, Copy)]
pub struct SessionView<'a> {
    /// In which room.
    pub room: &'a Room,
    /// Its number.
    pub session: SessionId,
    /// Both workers.
    pub ends: [EndView<'a>; 2],
    /// Of which classes their NATs are.
    pub classes: [NatClass; 2],
    /// The plan of the first one.
    pub plan: &'a Plan,
}

/// One worker of a session.
#[derive(Debug, Clone, Copy)]
pub struct EndView<'a> {
    /// Its id.
    pub worker: &'a WorkerId,
    /// Whether its WebSocket is there.
    pub is_connected: bool,
    /// Whether it has said that the path is direct.
    pub is_direct: bool,
    /// Whether it has said that the relay serves.
    pub is_relayed: bool,
}

impl Hall {
    pub(crate) fn view(&self) -> RoomView<'_> {
        RoomView {
            name: &self.name,
            mode: self.mode(),
            members: self.members.len(),
            waiting: self.ready.len(),
            sessions: self.sessions.len(),
        }
    }

    /// Who is in the room, by id, behind this one.
    pub(crate) fn members(&self, after: Option<&WorkerId>) -> impl Iterator<Item = MemberView<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let seats = self.seats.range::<WorkerId, _>((from, Bound::Unbounded));
        seats.filter(|(_, seat)| self.members.contains(seat)).filter_map(|(_, seat)| {
            let person = self.people.get(seat)?;
            let waits = person.place.is_some() && !person.card.overdue;
            let (room, card, sessions) = (&self.name, &*person.card, person.sessions());
            Some(MemberView { room, seat: *seat, card, waits, sessions })
        })
    }

    /// The sessions, by number, behind this one.
    pub(crate) fn session_views(
        &self,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = SessionView<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions.range((from, Bound::Unbounded)).map(|(session, it)| SessionView {
            room: &self.name,
            session: *session,
            ends: it.ends.each_ref().map(|end| EndView {
                worker: &end.worker,
                is_connected: end.gone.is_none(),
                is_direct: end.direct,
                is_relayed: end.relayed,
            }),
            classes: it.classes,
            plan: &it.plans[0],
        })
    }
}
