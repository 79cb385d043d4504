//! What holds of all tables of a hall together, whatever has happened: looked at after every step of a test or
//! a simulation.

use std::collections::{BTreeMap, BTreeSet};

use holepunch_wire::session::{RoomMode, SESSIONS_MAX, SessionId};

use super::queue::Place;
use super::{Hall, MESH_WORKERS_MAX, Person};
use crate::desk::Desk;
use crate::doors::ConnectionId;
use crate::seat::Seat;

impl Hall {
    /// How many are in the room.
    pub(crate) fn check_invariants(&self, desks: Option<&BTreeMap<ConnectionId, Desk>>) -> usize {
        self.check_queue();
        for (seat, person) in &self.people {
            if let Some(desks) = desks {
                let Some(desk) = desks.get(&seat.connection) else { panic!("{seat:?} is gone") };
                self.check_desk(*seat, person, desk);
            }
            let waits = |called: &Person| called.line.as_ref().is_some_and(|line| line.has(*seat));
            let is_guest = !person.sessions.is_empty() || self.people.values().any(waits);
            assert!(self.members.contains(seat) || is_guest, "{seat:?} has nothing here");
            let is_waited_for = person.line.as_ref().is_some_and(|line| line.check_invariants());
            let turns = self.lines.iter().filter(|(_, called)| called == seat).count();
            assert_eq!(turns, usize::from(is_waited_for), "turns of {seat:?}");
            self.check_person(*seat, person);
        }
        assert!(
            self.members.iter().all(|seat| self.people.contains_key(seat)),
            "a member is nobody"
        );
        let seats = self.people.iter().map(|(seat, person)| (person.card.worker.clone(), *seat));
        assert_eq!(seats.collect::<BTreeMap<_, _>>(), self.seats, "a worker is elsewhere");
        assert_eq!(self.seats.len(), self.people.len(), "a worker is here twice");
        self.check_sessions();
        self.members.len()
    }

    /// The hall and the desk know the same.
    fn check_desk(&self, seat: Seat, person: &Person, desk: &Desk) {
        let card = &person.card;
        assert_eq!(desk.worker(), &card.worker, "{seat:?} is somebody else");
        assert!(desk.is_known_as(&self.name, card), "{seat:?} is not as {card:?}: {desk:?}");
        let is_member = desk.home() == Some(&self.name);
        assert_eq!(self.members.contains(&seat), is_member, "{seat:?} is in {}", self.name);
        for session in &person.sessions {
            assert!(desk.has_session(&self.name, *session), "{seat:?} knows no {session}");
        }
    }

    fn check_queue(&self) {
        let mut places: BTreeSet<Place> = BTreeSet::new();
        for (place, waiter) in self.ready.waiters() {
            let seat = waiter.seat;
            assert!(self.members.contains(&seat), "{seat:?} waits in a room that it is not in");
            let Some(person) = self.people.get(&seat) else {
                panic!("{seat:?} is gone, and waits")
            };
            assert_eq!(person.place, Some(place), "{seat:?} has another place");
            let known = (person.card.endpoint, person.card.protocol());
            assert_eq!(
                (waiter.endpoint, waiter.protocol),
                known,
                "{seat:?} waits as it was before"
            );
            assert!(!person.card.overdue, "{seat:?} may be dead, and would be offered");
            assert!(places.insert(place), "{place:?} is taken twice");
        }
        let held = self.people.values().filter(|it| it.place.is_some() && !it.card.overdue);
        assert_eq!(held.count(), places.len(), "somebody has a place and does not wait");
    }

    fn check_person(&self, seat: Seat, person: &Person) {
        assert!(person.partners.len() <= MESH_WORKERS_MAX, "{seat:?} remembers too many");
        assert!(
            self.mode() == RoomMode::Pair || person.place.is_none(),
            "{seat:?} waits for one peer where there are many"
        );
        assert!(person.sessions() <= SESSIONS_MAX, "{seat:?} has too many sessions");
        let mut peers = BTreeSet::new();
        for session in &person.sessions {
            let Some(found) = self.sessions.get(session) else { panic!("{session} is over") };
            let Some(own) = found.index(seat) else { panic!("{session} is not {seat:?}'s") };
            assert!(found.ends[own].gone.is_none(), "{seat:?} is there, and gone");
            // One that waits for a peer which has begun anew may stand beside the next one.
            let peer = &found.ends[1 - own];
            let is_double = peer.gone.is_none() && !peers.insert(peer.seat);
            assert!(!is_double, "{seat:?} has two sessions with {}", peer.worker);
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
                let person = self.people.get(&end.seat).filter(|it| it.card.worker == end.worker);
                let is_its = person.is_some_and(|it| it.sessions.contains(id));
                assert!(is_its, "{id} is not its worker's");
            }
        }
        assert_eq!(waiting.len(), due.len(), "something waits that is no session");
        let renewed = self.sessions.iter().filter_map(|(id, it)| it.relay.map(|(at, _)| (at, *id)));
        assert_eq!(renewed.collect::<BTreeSet<_>>(), self.renewals, "a relay of no session");
    }
}
