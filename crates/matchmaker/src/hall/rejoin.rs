//! A hall that has just been taken over learns from the desks what it has to know.

use std::sync::Arc;

use holepunch_wire::WorkerId;
use holepunch_wire::plan::PLANS_MAX;
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_wire::signal::v1::ServerV1;

use super::queue::Place;
use super::session::{End, Session};
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
        if !self.let_in(seat, card, step) {
            return;
        }
        if let Some((mode, own)) = member {
            self.members.insert(seat);
            if self.decided.is_none() && !self.name.name.is_default() && mode != RoomMode::Pair {
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

    /// A worker tells what it knows of its sessions: their hall and the desks of both may be gone.
    pub(super) fn recover(&mut self, seat: Seat, sessions: Vec<Held>, step: &mut Step<'_>) {
        let mut recovered = Vec::new();
        for held in sessions {
            let (id, is_known) = (held.session, self.sessions.contains_key(&held.session));
            self.adopt(seat, held, step);
            let session = self.sessions.get(&id).filter(|_| !is_known);
            recovered.extend(session.and_then(|session| session.held(id, seat)));
        }
        if !recovered.is_empty() {
            step.tell(seat, Effect::Resumed(recovered));
        }
    }

    /// A worker leaves a session, also one that it has not taken up; whether that is one of its own.
    pub(super) fn leave(&mut self, seat: Seat, id: SessionId, step: &mut Step<'_>) -> bool {
        let Some(person) = self.people.get_mut(&seat) else { return false };
        person.over.add(id);
        let is_own = |end: &End| end.worker == person.card.worker;
        let is_its = self.sessions.get(&id).is_some_and(|session| session.ends.iter().any(is_own));
        if is_its {
            self.end_session(id, Some(seat), EndReason::PeerLeft, step);
        }
        is_its
    }

    /// Whether a session is over for a worker.
    fn is_over(&self, worker: &WorkerId, id: SessionId) -> bool {
        let person = self.seats.get(worker).and_then(|seat| self.people.get(seat));
        person.map_or_else(|| self.parted.is_over(worker, id), |it| it.over.has(id))
    }

    fn adopt(&mut self, seat: Seat, held: Held, step: &mut Step<'_>) {
        let Held { session: id, own: own @ (0 | 1), peer, plan, direct, relayed, .. } = held else {
            return;
        };
        let was_waiting = held.was_waiting && self.mode() == RoomMode::Pair;
        let Some(person) = self.people.get_mut(&seat) else { return };
        if person.sessions.contains(&id) {
            return; // It is told again, or has taken it up with this connection.
        }
        let card = Arc::clone(&person.card);
        if person.is_full() || peer == card.worker {
            return step.tell(seat, Effect::Over(id));
        }
        if was_waiting && self.is_taken(seat) || self.have_met(seat, id) {
            // It has another peer since.
            if self.sessions.contains_key(&id) {
                self.end_session(id, Some(seat), EndReason::BegunAnew, step);
            }
            return step.say(seat, ServerV1::ended(id, EndReason::BegunAnew));
        }
        // One for each of the two: they may come to wait again at once.
        self.next_place += 2;
        let places = [self.next_place - 1, self.next_place].map(|at| Place::new(at, None));
        let [place, other] = places.map(|place| Some(place).filter(|_| was_waiting));
        let end = End { direct, relayed, ..End::new((seat, place), &card) };
        let is_over = self.is_over(&peer, id);
        match self.sessions.get_mut(&id) {
            None if is_over => {
                step.say(seat, ServerV1::ended(id, EndReason::PeerLeft));
                if let Some(place) = place {
                    self.wait_again(seat, place, step);
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
                let is_here = self.seats.contains_key(&peer);
                let missing = End::missing(NO_SEAT, peer, is_here, step.now);
                let missing = End { place: other, ..missing };
                let ends = if own == 0 { [end, missing] } else { [missing, end] };
                let is_recovered = held.is_recovered;
                let session = Session { is_recovered, ..Session::again(ends, plan) };
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
        if let Some(peer) = peer {
            self.take_up(peer, step);
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
