//! Rooms: workers meet only inside of one.

use std::collections::{BTreeMap, BTreeSet};

use holepunch_wire::session::{RoomMode, RoomName};

use crate::doors::ConnectionId;
use crate::queue::ReadyQueue;

/// A room with somebody in it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Who is offered to whom, once somebody has said so.
    decided: Option<RoomMode>,
    pub(crate) ready: ReadyQueue,
    pub(crate) members: BTreeSet<ConnectionId>,
    /// Whose own it is: two of those would each take the other one for a guest.
    pub(crate) owner: Option<ConnectionId>,
}

impl Room {
    pub(crate) fn mode(&self) -> RoomMode {
        self.decided.unwrap_or_default()
    }
}

/// All rooms. A room comes with its first worker and goes with its last.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: BTreeMap<RoomName, Room>,
}

impl Rooms {
    /// Lets a worker in. The first that names a mode decides; the default room is always one of pairs.
    /// The room's mode.
    pub(crate) fn enter(
        &mut self,
        name: &RoomName,
        connection: ConnectionId,
        mode: Option<RoomMode>,
    ) -> RoomMode {
        let room = self.rooms.entry(name.clone()).or_default();
        room.members.insert(connection);
        if room.decided.is_none() && !name.is_default() {
            room.decided = mode;
        }
        room.mode()
    }

    pub(crate) fn leave(&mut self, name: &RoomName, connection: ConnectionId) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.members.remove(&connection);
        if room.owner == Some(connection) {
            room.owner = None;
        }
        if room.members.is_empty() && room.ready.is_empty() {
            self.rooms.remove(name);
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RoomName, &Room)> {
        self.rooms.iter()
    }

    pub(crate) fn find(&self, name: &RoomName) -> Option<&Room> {
        self.rooms.get(name)
    }

    pub(crate) fn find_mut(&mut self, name: &RoomName) -> Option<&mut Room> {
        self.rooms.get_mut(name)
    }

    /// Everybody who waits, room by room, the default room first.
    pub(crate) fn ready(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.rooms.values().flat_map(|room| room.ready.connections())
    }

    /// How many these are.
    pub(crate) fn ready_count(&self) -> usize {
        self.rooms.values().map(|room| room.ready.len()).sum()
    }
}
