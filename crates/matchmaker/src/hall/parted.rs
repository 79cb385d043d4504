//! What those knew to be over who are in the hall no more: another rendezvous may have been away meanwhile, whose desks take
//! such a session for one that goes on.

use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::session::SessionId;

use super::person::Person;
use super::session::RESUME_WITHIN;
use crate::expiring::Expiring;
use crate::seat::{Over, Resumes};

/// Those who have gone, for as long as a session would wait for them.
#[derive(Debug, Default)]
pub(super) struct Parted(Expiring<WorkerId, (Over, Resumes)>);

impl Parted {
    pub(super) fn add(&mut self, person: &Person, now: Instant) {
        let worker = &person.card.worker;
        // One that goes with a session may have begun it since it said which ones it takes up.
        let has_none = person.sessions.is_empty();
        let resumes = if has_none { person.resumes.clone() } else { Resumes::Nothing };
        if person.over != Over::default() || matches!(resumes, Resumes::These(_)) {
            let known = (person.over.clone(), resumes);
            self.0.insert(worker.clone(), known, now + RESUME_WITHIN);
        } else {
            self.0.remove(worker);
        }
    }

    /// A worker is there again: what it knows to be over.
    pub(super) fn take(&mut self, worker: &WorkerId) -> Over {
        self.0.remove(worker).map(|(over, _)| over).unwrap_or_default()
    }

    /// Whether this worker has said that it has no such session.
    pub(super) fn is_over(&self, worker: &WorkerId, id: SessionId) -> bool {
        self.0.get(worker).is_some_and(|(over, resumes)| {
            over.has(id) || matches!(resumes, Resumes::These(sessions) if !sessions.contains(&id))
        })
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.0.expire(now);
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.0.first()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::names::Room;
    use holepunch_wire::plan::{Plan, Strategy};
    use holepunch_wire::session::RoomMode;
    use holepunch_wire::signal::v1::{ServerV1, WorkerV1};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::card::{Card, CardV1};
    use crate::doors::ConnectionId;
    use crate::halls::Halls;
    use crate::seat::{Command, Effect, Held, InstanceId, Seat};

    const SESSION: SessionId = SessionId(7);

    fn seat(number: u64) -> Seat {
        Seat { instance: InstanceId(number), connection: ConnectionId(number) }
    }

    fn named(number: u64) -> WorkerId {
        WorkerId::new(&format!("w{number}")).unwrap()
    }

    fn card(number: u64) -> Arc<Card> {
        let (endpoint, rtt, pinged) = Default::default();
        let v1 = Some(Box::<CardV1>::default());
        let observed = [203, 0, 113, 1].into();
        let worker = named(number);
        let (order, version, overdue, elsewhere) = (1, 0, false, 0);
        let it = Card {
            order,
            version,
            worker,
            observed,
            endpoint,
            overdue,
            rtt,
            pinged,
            elsewhere,
            relay_bytes: None,
            v1,
        };
        Arc::new(it)
    }

    fn rejoin(number: u64, member: bool, sessions: Vec<Held>) -> Command {
        let member = member.then_some((RoomMode::Call, false));
        let (over, resumes) = Default::default();
        Command::Rejoin { card: card(number), member, sessions, over, resumes }
    }

    fn held(own: u64, peer: u64) -> Held {
        let (own, peer) = (usize::from(own > peer), named(peer));
        let plan = Plan { number: 1, ..Plan::new(Strategy::Plain, "") };
        let (was_waiting, direct, relayed, is_recovered) = (false, true, false, false);
        Held { session: SESSION, own, peer, plan, was_waiting, direct, relayed, is_recovered }
    }

    /// Worker 1 has a session with the guest 2, and its desk tells of it after all this.
    fn is_told_of_the_end_after(commands: impl IntoIterator<Item = (u64, Command)>) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let room = Room::unnamed("called".parse().unwrap());
        let mut halls = Halls::new(None, StdRng::seed_from_u64(1));
        halls.own(room.clone(), Some(now));
        let late = (1, rejoin(1, true, vec![held(1, 2)]));
        for (from, command) in commands.into_iter().chain([late]) {
            while halls.poll_effect().is_some() {}
            halls.command(&room, seat(from), command, now);
        }
        std::iter::from_fn(|| halls.poll_effect()).any(|(_, to, effect)| {
            let is_end =
                |it: &ServerV1| matches!(it, ServerV1::SessionEnded { session: SESSION, .. });
            to == seat(1) && matches!(&effect, Effect::Say(it) if is_end(it))
        })
    }

    #[test]
    fn whoever_is_away_is_told_that_a_guest_has_come_back_without_their_session() {
        let back = |has| Command::Return {
            card: card(2),
            resumes: Resumes::These(has),
            sessions: Vec::new(),
        };
        assert!(is_told_of_the_end_after([(2, back(vec![]))]));
        assert!(!is_told_of_the_end_after([(2, back(vec![SESSION]))]));
    }

    #[test]
    fn whoever_is_away_is_told_that_a_guest_has_left_and_gone() {
        let depart = || Command::Depart { leaves: false, unsent: false };
        let leave = Command::Say(WorkerV1::Leave { session: SESSION });
        let both =
            || [(1, rejoin(1, true, vec![held(1, 2)])), (2, rejoin(2, false, vec![held(2, 1)]))];
        let away = both().into_iter().chain([(1, depart())]);
        assert!(is_told_of_the_end_after(away.clone().chain([(2, leave), (2, depart())])));
        assert!(!is_told_of_the_end_after(away));
    }

    /// Two come back to a hall that knows nothing, with a session that nobody else knows.
    fn take_up_together(peer_says: bool) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let room = Room::unnamed("called".parse().unwrap());
        let mut halls = Halls::new(None, StdRng::seed_from_u64(1));
        halls.own(room.clone(), Some(now));
        let enter = |number| Command::Enter {
            card: card(number),
            mode: Some(RoomMode::Call),
            fresh: false,
            own: false,
        };
        let back = |number, held: Option<Held>| Command::Return {
            card: card(number),
            resumes: if held.is_some() {
                Resumes::These(vec![SESSION])
            } else {
                Resumes::Everything
            },
            sessions: held.map(|held| Held { is_recovered: true, ..held }).into_iter().collect(),
        };
        let peer = peer_says.then(|| held(2, 1));
        let commands =
            [(1, enter(1)), (1, back(1, Some(held(1, 2)))), (2, enter(2)), (2, back(2, peer))];
        for (from, command) in commands {
            halls.command(&room, seat(from), command, now);
        }
        let resumed = std::iter::from_fn(|| halls.poll_effect()).filter(|(_, to, effect)| {
            *to == seat(2) && matches!(effect, Effect::Resumed(held) if held[0].session == SESSION)
        });
        resumed.count() == 1
    }

    #[test]
    fn a_session_that_no_hall_knows_goes_on_where_both_tell_of_it_and_binds_nobody_where_one_does()
    {
        assert!(take_up_together(true));
        assert!(!take_up_together(false));
    }
}
