//! Sessions of two workers: their beginning, their end, and their taking up again.

use std::sync::Arc;

use holepunch_wire::check::IceRole;
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::plan::Plan;
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionDetails};
use rand::RngExt;

use super::queue::Place;
use super::session::{End, Session};
use super::{Hall, Person, Step};
use crate::card::Card;
use crate::doors::{DropReason, Event};
use crate::plan::Tried;
use crate::seat::{Effect, Held, Resumes, Seat};

impl Hall {
    /// A worker that has lost its connection takes its sessions with it to the new one; those that it does not, and that
    /// could not go on without it, are of a process that has ended.
    pub(super) fn come_back(
        &mut self,
        seat: Seat,
        card: Arc<Card>,
        (resumes, sessions): (Resumes, Vec<Held>),
        step: &mut Step<'_>,
    ) {
        if !self.let_in(seat, card, step) {
            return;
        }
        self.resume(seat, resumes, step);
        self.recover(seat, sessions, step);
        self.end_abandoned(seat, step);
        self.see_off(seat, step);
    }

    pub(super) fn resume(&mut self, seat: Seat, resumes: Resumes, step: &mut Step<'_>) {
        let Some(person) = self.people.get_mut(&seat) else { return };
        if resumes != Resumes::Nothing {
            person.resumes = resumes;
        }
        self.take_up(seat, step);
    }

    /// Of the sessions that wait for a worker, it takes up those that it has; the others that it would know of are over.
    pub(super) fn take_up(&mut self, seat: Seat, step: &mut Step<'_>) {
        let Some(person) = self.people.get(&seat) else { return };
        let has: &dyn Fn(&SessionId) -> bool = match &person.resumes {
            Resumes::Nothing => return,
            Resumes::These(sessions) => &|id| sessions.contains(id),
            Resumes::Everything => &|_| true,
        };
        let waiting = self.waiting.of(&person.card.worker);
        // One that only its other worker tells of has to be told of by this one, too.
        let is_told = |id: &SessionId| {
            let is_recovered = self.sessions.get(id).is_some_and(|session| session.is_recovered);
            !is_recovered || matches!(person.resumes, Resumes::These(_))
        };
        let has = |id: &SessionId| has(id) && is_told(id) && !person.over.has(*id);
        let (waiting, over): (Vec<_>, Vec<_>) = waiting.partition(|(_, id)| has(id));
        // It may have begun others before it asks for these.
        let room = SESSIONS_MAX.saturating_sub(person.sessions());
        // Those that have lost this worker, and no others.
        for (_, id) in over {
            self.end_session(id, None, EndReason::PeerLeft, step);
        }
        let mut resumed = Vec::new();
        for (at, number) in waiting.into_iter().take(room) {
            let from_queue = |session: &Session| session.ends.iter().any(|end| end.place.is_some());
            let is_from_queue = self.sessions.get(&number).is_some_and(from_queue);
            if is_from_queue && self.is_taken(seat) || self.have_met(seat, number) {
                // It has another peer since: the two have missed each other.
                self.end_session(number, None, EndReason::BegunAnew, step);
                continue;
            }
            self.waiting.remove((at, number));
            let Some(session) = self.sessions.get_mut(&number) else { continue };
            if let Some(end) = session.ends.iter_mut().find(|end| end.gone.is_some()) {
                (end.seat, end.gone) = (seat, None);
                let was_waiting = end.place.is_some();
                let held = session.held(number, seat);
                resumed.extend(held);
                if let Some(person) = self.people.get_mut(&seat) {
                    person.sessions.insert(number);
                }
                if was_waiting {
                    self.has_peer(seat, step);
                }
            }
        }
        let sessions: Vec<SessionId> = resumed.iter().map(|held| held.session).collect();
        if !resumed.is_empty() {
            step.tell(seat, Effect::Resumed(resumed));
        }
        for session in sessions {
            self.tell_renewed(session, seat, step);
        }
    }

    /// Whether a worker has another session with the one that waits for it in this one.
    pub(super) fn have_met(&self, seat: Seat, id: SessionId) -> bool {
        let (Some(person), Some(session)) = (self.people.get(&seat), self.sessions.get(&id)) else {
            return false;
        };
        let has_one = |end: &End| {
            let peer = self.people.get(&end.seat).filter(|_| end.gone.is_none());
            peer.is_some_and(|peer| !peer.sessions.is_disjoint(&person.sessions))
        };
        session.ends.iter().any(has_one)
    }

    /// Whether it has a peer that it has waited for.
    pub(super) fn is_taken(&self, seat: Seat) -> bool {
        let mine = self.people.get(&seat).into_iter().flat_map(|person| &person.sessions);
        mine.filter_map(|id| self.sessions.get(id))
            .flat_map(|it| &it.ends)
            .any(|end| end.seat == seat && end.place.is_some())
    }

    /// Whoever has a peer again that it has waited for waits no more.
    pub(super) fn has_peer(&mut self, seat: Seat, step: &mut Step<'_>) {
        if let Some(place) = self.people.get(&seat).and_then(|person| person.place) {
            self.dequeue(place, seat);
            step.tell(seat, Effect::Waits(false));
        }
    }

    /// A worker is there again: those of its sessions that it has not taken up, and that could not go on
    /// without it, are of a process that has ended.
    fn end_abandoned(&mut self, seat: Seat, step: &mut Step<'_>) {
        let Some(worker) = self.worker(seat) else { return };
        let is_abandoned = |session: &Session| {
            let own = session.ends.iter().position(|end| end.gone.is_some());
            own.is_some_and(|own| !session.is_linked() || session.is_lost(own))
        };
        let waiting = self.waiting.of(&worker).map(|(_, number)| number);
        let abandoned: Vec<SessionId> =
            waiting.filter(|number| self.sessions.get(number).is_some_and(is_abandoned)).collect();
        for session in abandoned {
            self.end_session(session, None, EndReason::BegunAnew, step);
        }
    }

    /// A worker's connection to the relay of a session has been opened, or has ended.
    pub(crate) fn relay_changed(
        &mut self,
        id: SessionId,
        own: usize,
        is_open: bool,
        step: &Step<'_>,
    ) {
        let end = self.sessions.get_mut(&id).and_then(|session| session.ends.get_mut(own));
        if let Some(end) = end {
            end.unrelayed_since = (!is_open).then_some(step.now);
            self.wait_anew(id);
        }
    }

    /// Something has changed that decides how long a session waits for a worker that is gone.
    pub(super) fn wait_anew(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((before, until)) = session.wait() else { return };
        if let Some(gone) = session.ends.iter().find(|end| end.gone.is_some()) {
            self.waiting.remove((before, id));
            self.waiting.insert(&gone.worker, (until, id));
        }
    }

    pub(super) fn say_to_peer(
        &mut self,
        from: Seat,
        session: SessionId,
        message: ServerV1,
        step: &mut Step<'_>,
    ) {
        let Some(own) = self.end_of(from, session) else {
            return step.dropped(DropReason::NoSession);
        };
        let peer = self.sessions.get(&session).map(|session| &session.ends[1 - own]);
        match peer.filter(|peer| peer.gone.is_none()) {
            Some(peer) => step.say(peer.seat, message),
            None => step.dropped(DropReason::PeerAway),
        }
    }

    /// Which end of a session this is.
    pub(super) fn end_of(&self, seat: Seat, session: SessionId) -> Option<usize> {
        self.sessions.get(&session)?.index(seat)
    }

    /// Offers two workers each other. The second one controls, which is the one that has come last: the side
    /// that controls has a link half a round trip before the other one, and this one is in a hurry.
    pub(super) fn begin_session(&mut self, pair: [(Seat, Option<Place>); 2], step: &mut Step<'_>) {
        let [first, second] = pair.map(|(seat, _)| self.people.get(&seat));
        let (Some(first), Some(second)) = (first, second) else { return };
        let sides = [first.side(step.now), second.side(step.now)];
        let planner = &step.shared.planner;
        let plans = planner.plan([&sides[0], &sides[1]], 1, &Tried::default(), step.now);
        let rng = &mut step.shared.rng;
        let id = SessionId(rng.random());
        let credentials = [(); 2].map(|()| IceCredentials::from_random(rng.random()));
        let cards = [first, second].map(|person| Arc::clone(&person.card));
        // What is relayed is encrypted for the peer's key: without both, there is nothing to relay.
        let have_keys = cards.iter().all(|card| card.key().is_some());
        let bytes_max = cards.iter().filter_map(|card| card.relay_bytes).min();
        let relay = have_keys.then(|| step.shared.relay_tokens(id, bytes_max, step.now)).flatten();
        let relay_url = step.shared.relay.as_ref().and_then(|relay| relay.url.clone());
        let relay_udp = step.shared.relay.as_ref().filter(|_| relay.is_some());
        let relay_udp = relay_udp.map(|relay| relay.udp.clone()).unwrap_or_default();
        let roles = [IceRole::Controlled, IceRole::Controlling];
        for own in [0, 1] {
            let ((seat, _), peer) = (pair[own], &cards[1 - own]);
            let details = SessionDetails {
                session: id,
                role: roles[own],
                credentials: credentials[own].clone(),
                peer_credentials: credentials[1 - own].clone(),
                peer_key: peer.key(),
                relay_token: relay.as_ref().map(|tokens| tokens[own].clone()),
                relay_url: relay_url.clone().filter(|_| relay.is_some()),
                relay_udp: relay_udp.clone(),
                candidates: peer.v1.as_ref().map(|v1| v1.candidates.clone()).unwrap_or_default(),
                address_proof: peer.proof(),
                // The desk has what opens TURN servers for its worker.
                turn: Vec::new(),
                guest: false,
                plan: plans[own].clone(),
            };
            let offer = ServerV1::P2pConnectionOffer {
                peer_worker_id: peer.worker.as_str().to_owned(),
                peer_udp_ip: peer.endpoint.map(|endpoint| endpoint.ip()),
                peer_udp_port: peer.endpoint.map(|endpoint| endpoint.port()),
                details: Box::new(details),
            };
            let was_waiting = pair[own].1.is_some();
            step.tell(seat, Effect::Begin { offer, was_waiting });
            if let Some(person) = self.people.get_mut(&seat) {
                person.sessions.insert(id);
            }
        }
        let ends = [0, 1].map(|own| End::new(pair[own], &cards[own]));
        let Plan { strategy, reason, .. } = plans[0].clone();
        let classes = sides.each_ref().map(|side| side.profile.class());
        self.sessions.insert(id, Session { classes, ..Session::new(ends, plans) });
        if relay.is_some() {
            self.renew_later(id, false, step.now);
        }
        step.shared.rooms.insert(id, step.room.clone());
        let workers = cards.map(|card| card.worker.clone());
        step.event_of(id, classes, Event::SessionStarted(workers, strategy, reason));
    }

    /// Ends a session. `leaver` knows; the other one is told, and waits for the next peer in its old
    /// place.
    pub(super) fn end_session(
        &mut self,
        id: SessionId,
        leaver: Option<Seat>,
        reason: EndReason,
        step: &mut Step<'_>,
    ) {
        let Some(session) = self.forget_session(id, reason, step) else { return };
        for (own, end) in session.ends.iter().enumerate() {
            let peer = (session.ends[1 - own].worker.clone(), session.ends[1 - own].seat);
            // One that is taken for gone, and is not, has the session still, and says so later.
            let Some(person) = self.people.get_mut(&end.seat) else { continue };
            let is_told = Some(end.seat) != leaver && end.gone.is_none();
            if is_told {
                step.say(end.seat, ServerV1::ended(id, reason));
            } else {
                step.tell(end.seat, Effect::Over(id));
            }
            person.remember(peer, step.now);
            person.over.add(id);
            let is_free = is_told && person.place.is_none() && !person.is_engaged();
            if let Some(place) = end.place.filter(|_| is_free) {
                self.wait_again(end.seat, place, step);
            }
            self.see_off(end.seat, step);
        }
    }

    fn forget_session(
        &mut self,
        id: SessionId,
        reason: EndReason,
        step: &mut Step<'_>,
    ) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        step.shared.rooms.remove(&id);
        if let Some((at, _)) = session.relay {
            self.renewals.remove(&(at, id));
        }
        for end in &session.ends {
            if let Some(gone) = end.gone {
                self.waiting.remove((gone.until, id));
            }
            if let Some(person) = self.people.get_mut(&end.seat) {
                person.sessions.remove(&id);
            }
        }
        step.event_of(id, session.classes, Event::SessionEnded(reason));
        Some(session)
    }

    /// A connection is gone. Its sessions wait for the worker to come back, unless it `leaves`: then those
    /// end in which the two do not talk yet.
    pub(super) fn orphan(
        &mut self,
        seat: Seat,
        person: &Person,
        leaves: bool,
        step: &mut Step<'_>,
    ) {
        for session in &person.sessions {
            let Some(entry) = self.sessions.get_mut(session) else { continue };
            let waits = !leaves || entry.is_linked();
            let own = entry.index(seat).filter(|own| waits && entry.ends[1 - own].gone.is_none());
            if let Some(own) = own {
                entry.goes(own, step.now);
                self.wait_anew(*session);
            } else {
                self.end_session(*session, Some(seat), EndReason::ConnectionEnded, step);
            }
        }
        while let Some(surplus) = self.waiting.pop_surplus(&person.card.worker) {
            self.expire(surplus, step);
        }
    }

    /// A session whose worker has not come back is over. Its direct path may go on; where there is only
    /// the relay, which ends with the session, or the worker is here without it, the other one is told.
    pub(super) fn expire(&mut self, id: SessionId, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut is_over = !session.outlives_a_worker();
        for end in &mut session.ends {
            is_over |= end.gone.is_some_and(|gone| gone.is_ignored);
            if let Some(seat) = self.seats.get(&end.worker).filter(|_| end.gone.is_some()) {
                // It may have been out of reach while this hall took the session for one that goes on by itself.
                (end.seat, end.gone) = (*seat, None);
            }
        }
        if is_over {
            return self.end_session(id, None, EndReason::NotComeBack, step);
        }
        let over = self.forget_session(id, EndReason::Outlived, step);
        for end in over.iter().flat_map(|session| &session.ends).filter(|end| end.gone.is_none()) {
            self.people.get_mut(&end.seat).into_iter().for_each(|it| it.resumes.keep(id));
            step.tell(end.seat, Effect::Over(id));
            self.see_off(end.seat, step);
        }
    }
}
