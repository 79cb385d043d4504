//! A hall that has just been taken over learns from the desks what it has to know.

use std::sync::Arc;

use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_wire::signal::v1::ServerV1;

use super::queue::Place;
use super::session::{End, PLANS_MAX, Session};
use super::{Hall, Step};
use crate::card::Card;
use crate::doors::ConnectionId;
use crate::plan::Tried;
use crate::seat::{Effect, Held, InstanceId, Seat};

/// Nobody is there.
const NO_SEAT: Seat = Seat { instance: InstanceId(u64::MAX), connection: ConnectionId(u64::MAX) };

impl Hall {
    /// A desk tells what it knows of the hall of before.
    pub(super) fn rejoin(
        &mut self,
        seat: Seat,
        card: Arc<Card>,
        (member, sessions): (Option<(RoomMode, bool)>, Vec<Held>),
        step: &mut Step<'_>,
    ) {
        self.let_in(seat, card, step);
        if let Some((mode, own)) = member {
            self.members.insert(seat);
            if self.decided.is_none() && !self.name.is_default() && mode != RoomMode::Pair {
                self.decided = Some(mode);
            }
            if own {
                (self.owner, self.was_owned) = (Some(seat), true);
            }
            step.tell(seat, Effect::Entered(self.mode()));
        }
        for held in sessions {
            self.adopt(seat, held, step);
        }
    }

    /// The worker has left these sessions, and the hall of before may have had no time to say so.
    pub(super) fn has_left(&mut self, seat: Seat, left: Vec<SessionId>, step: &mut Step<'_>) {
        for id in left {
            if self.is_learning(step.now) {
                self.ended.insert(id);
            }
            let is_its = self.sessions.get(&id).is_some_and(|session| {
                session.ends.iter().any(|end| self.worker(seat).as_ref() == Some(&end.worker))
            });
            if is_its {
                self.end_session(id, Some(seat), EndReason::PeerLeft, step);
            }
        }
    }

    fn adopt(&mut self, seat: Seat, held: Held, step: &mut Step<'_>) {
        let Held { session: id, own: own @ (0 | 1), peer, plan, was_waiting, direct, relayed } =
            held
        else {
            return;
        };
        let Some(person) = self.people.get_mut(&seat) else { return };
        let card = Arc::clone(&person.card);
        if person.is_full() || peer == card.worker {
            return step.tell(seat, Effect::Over(id));
        }
        if was_waiting && self.is_taken(seat) {
            // It has another peer since.
            if self.sessions.contains_key(&id) {
                self.end_session(id, Some(seat), EndReason::BegunAnew, step);
            }
            return step.say(seat, ServerV1::ended(id, EndReason::BegunAnew));
        }
        self.next_place += 1;
        let place = was_waiting.then(|| Place::new(self.next_place, None));
        let end = End { direct, relayed, ..End::new((seat, place), &card) };
        match self.sessions.get_mut(&id) {
            None if self.ended.contains(&id) => {
                step.say(seat, ServerV1::ended(id, EndReason::PeerLeft));
                if was_waiting {
                    self.next_place += 1;
                    self.wait_again(seat, Place::new(self.next_place, None), step);
                }
                return;
            }
            Some(session)
                if session.ends[own].gone.is_some()
                    && session.ends[own].worker == card.worker
                    && session.ends[1 - own].worker == peer =>
            {
                let until = session.ends[own].gone.map(|gone| gone.until);
                session.ends[own] = end;
                session.number = session.number.max(plan.number);
                session.plans[own] = plan;
                until.into_iter().for_each(|until| self.waiting.remove((until, id)));
            }
            Some(_) => return step.tell(seat, Effect::Over(id)),
            None => {
                let missing = End { place, ..End::missing(NO_SEAT, peer, step.now) };
                let ends = if own == 0 { [end, missing] } else { [missing, end] };
                let session = Session::again(ends, plan);
                self.sessions.insert(id, session);
                step.shared.rooms.insert(id, step.room.clone());
            }
        }
        if let Some(person) = self.people.get_mut(&seat) {
            person.sessions.insert(id);
        }
        if was_waiting {
            self.has_peer(seat, step);
        }
        self.wait_anew(id);
        // The other one may have come back before this.
        let peer = self.sessions.get(&id).map(|session| session.ends[1 - own].worker.clone());
        let peer = peer.and_then(|peer| self.seats.get(&peer).copied());
        if let Some(peer) = peer.filter(|peer| self.people.get(peer).is_some_and(|it| it.resumes)) {
            self.resume(peer, step);
        }
        self.agree(id, step);
        self.renew_adopted(id, step);
    }

    /// Both of a session that was taken over follow the same plan: a new one, where they do not.
    fn agree(&mut self, id: SessionId, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let [first, second] = &session.plans;
        let is_one = first.number == second.number && first.strategy == second.strategy;
        if is_one || session.ends.iter().any(|end| end.gone.is_some()) {
            return;
        }
        let number = (first.number.max(second.number) + 1).min(PLANS_MAX);
        let people = session.ends.each_ref().map(|end| self.people.get(&end.seat));
        let [Some(first), Some(second)] = people else { return };
        let sides = [first.side(step.now), second.side(step.now)];
        let (planner, tried) = (&step.shared.planner, Tried::default());
        let plans = planner.plan([&sides[0], &sides[1]], number, &tried, step.now);
        self.send_plans(id, number, plans, step);
    }
}
