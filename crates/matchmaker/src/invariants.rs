//! What holds of all tables together, whatever has happened: looked at after every step of a test or
//! a simulation.

use std::collections::{BTreeMap, BTreeSet};

use holepunch_wire::session::{RoomMode, SESSIONS_MAX, SessionId};

use crate::connection::Connection;
use crate::doors::ConnectionId;
use crate::machine::Matchmaker;
use crate::queue::Place;
use crate::room::Room;
use crate::session::MESH_WORKERS_MAX;

impl Matchmaker {
    /// Looks at everything, which takes time in proportion to all that is known. Only with debug
    /// assertions.
    ///
    /// # Panics
    /// Two tables do not agree, or one is larger than it may be.
    pub fn check_invariants(&self) {
        self.check_registry();
        let mut members = 0;
        for (name, room) in self.rooms.iter() {
            assert!(!room.members.is_empty(), "nobody is in {name}");
            members += room.members.len();
            for id in &room.members {
                let is_here = self.connections.get(id).is_some_and(|entry| entry.room == *name);
                assert!(is_here, "{id:?} is not in {name}");
            }
            self.check_queue(room);
        }
        assert_eq!(members, self.connections.len(), "each is in one room");
        for (id, entry) in &self.connections {
            self.check_connection(*id, entry);
        }
        self.check_sessions();
        self.check_lines();
    }

    /// Whoever is waited for has one turn to come. (One that has gone since has one for nobody.)
    fn check_lines(&self) {
        for (id, entry) in &self.connections {
            let is_waited_for = entry.v1.as_ref().is_some_and(|v1| v1.line.check_invariants());
            let turns = self.lines.iter().filter(|(_, called)| called == id).count();
            assert_eq!(turns, usize::from(is_waited_for), "turns of {id:?}");
        }
    }

    fn check_registry(&self) {
        assert_eq!(self.current.len(), self.connections.len(), "each worker has one connection");
        for (worker, id) in &self.current {
            let entry = self.connections.get(id);
            assert!(entry.is_some_and(|entry| entry.worker == *worker), "{worker} is elsewhere");
        }
        assert_eq!(self.deadlines.len(), self.connections.len(), "each has one ping to come");
        let mut holders: Vec<_> = self.connections.values().map(|it| it.observed.ip).collect();
        for (id, entry) in self.pending.check_invariants() {
            assert!(!self.connections.contains_key(&id), "{id:?} is registered without proof");
            assert!(entry.v1.is_some(), "{id:?} cannot prove anything");
            holders.push(entry.observed.ip);
        }
        assert!(!self.ended || holders.is_empty(), "somebody is here after the end");
        self.places.check_invariants(holders.into_iter());
        for worker in self.bindings.check_invariants() {
            assert!(
                !self.current.contains_key(worker),
                "{worker} is connected, and bound for later"
            );
        }
    }

    fn check_queue(&self, room: &Room) {
        let mut places: BTreeSet<Place> = BTreeSet::new();
        for (place, waiter) in room.ready.waiters() {
            let id = waiter.connection;
            assert!(room.members.contains(&id), "{id:?} waits in a room that it is not in");
            let Some(entry) = self.connections.get(&id) else {
                panic!("{id:?} is gone, and waits")
            };
            assert_eq!(entry.place, Some(place), "{id:?} has another place");
            let known = (entry.endpoint, entry.protocol());
            assert_eq!((waiter.endpoint, waiter.protocol), known, "{id:?} waits as it was before");
            assert!(!entry.is_overdue(), "{id:?} may be dead, and would be offered");
            assert!(places.insert(place), "{place:?} is taken twice");
        }
        let held = room.members.iter().filter(|id| {
            let entry = self.connections.get(id);
            entry.is_some_and(|entry| entry.place.is_some() && !entry.is_overdue())
        });
        assert_eq!(held.count(), places.len(), "somebody has a place and does not wait");
    }

    fn check_connection(&self, id: ConnectionId, entry: &Connection) {
        assert!(self.deadlines.contains(&(entry.liveness.deadline().0, id)), "{id:?} has no ping");
        assert!(entry.partners.len() <= MESH_WORKERS_MAX, "{id:?} remembers too many");
        let mode = self.rooms.find(&entry.room).map(Room::mode);
        let may_wait = mode == Some(RoomMode::Pair);
        assert!(
            may_wait || entry.place.is_none(),
            "{id:?} waits for one peer where there are many"
        );
        let Some(v1) = &entry.v1 else { return };
        assert!(v1.sessions.len() <= SESSIONS_MAX, "{id:?} has too many sessions");
        let mut peers = BTreeSet::new();
        for session in &v1.sessions {
            let Some(found) = self.sessions.get(session) else { panic!("{session} is over") };
            let Some(own) = found.index(id) else { panic!("{session} is not {id:?}'s") };
            assert!(found.ends[own].gone.is_none(), "{id:?} is there, and gone");
            // One that waits for a peer which has begun anew may stand beside the next one.
            let peer = &found.ends[1 - own];
            let is_double = peer.gone.is_none() && !peers.insert(peer.connection);
            assert!(!is_double, "{id:?} has two sessions with {}", peer.worker);
        }
    }

    fn check_sessions(&self) {
        let due = self.waiting.check_invariants();
        let mut waiting: BTreeMap<SessionId, usize> = BTreeMap::new();
        for (id, session) in &self.sessions {
            session.check_invariants();
            for end in &session.ends {
                if let Some(gone) = end.gone {
                    let waits_for = due.get(&(gone.until, *id));
                    assert_eq!(waits_for, Some(&end.worker), "{id} does not wait for its worker");
                    *waiting.entry(*id).or_default() += 1;
                    continue;
                }
                let entry = self.connections.get(&end.connection);
                let v1 = entry.filter(|it| it.worker == end.worker).and_then(|it| it.v1.as_ref());
                assert!(v1.is_some_and(|v1| v1.sessions.contains(id)), "{id} is not its worker's");
            }
        }
        assert_eq!(waiting.len(), due.len(), "something waits that is no session");
    }
}
