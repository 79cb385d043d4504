//! The hall of a room: who waits there, who is offered to whom, and what becomes of it. One rendezvous owns it at a time.

mod calls;
mod entry;
mod pairing;
mod parted;
mod person;
mod plans;
mod queue;
mod rejoin;
mod relay;
mod session;
mod sessions;
mod view;
mod waiting;

#[cfg(debug_assertions)]
mod invariants;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::relay::RelayAccess;
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_wire::signal::v1::{ErrorCode, ServerV1, WorkerV1};
use rand::rngs::StdRng;

use crate::card::Card;
use crate::desk::WakeReason;
use crate::doors::{DropReason, Event, Told};
use crate::names::Room;
use crate::plan::Planner;
use crate::seat::{Command, Effect, InstanceId, Seat};
pub(crate) use calls::refusal;
use parted::Parted;
use person::Person;
use queue::ReadyQueue;
pub(crate) use session::MESH_WORKERS_MAX;
pub use session::RESUME_WITHIN;
use session::Session;
pub use view::{EndView, MemberView, RoomView, SessionView};
use waiting::Waiting;

/// What the halls of one rendezvous share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Makes credentials and the numbers of sessions.
    pub(crate) rng: StdRng,
    pub(crate) planner: Planner,
    /// What opens the relay, where there is one.
    pub(crate) relay: Option<RelayAccess>,
    /// When it was told what the wall clock shows, and that.
    pub(crate) wall_clock: Option<(Instant, Duration)>,
    /// There are other rendezvous.
    pub(crate) is_of_several: bool,
    /// Where each session is.
    pub(crate) rooms: BTreeMap<SessionId, Room>,
    pub(crate) effects: VecDeque<(Room, Seat, Effect)>,
    pub(crate) events: VecDeque<Told>,
}

/// One step of a hall.
pub(crate) struct Step<'a> {
    pub(crate) room: &'a Room,
    pub(crate) shared: &'a mut Shared,
    pub(crate) now: Instant,
}

impl Step<'_> {
    fn tell(&mut self, to: Seat, effect: Effect) {
        self.shared.effects.push_back((self.room.clone(), to, effect));
    }

    fn say(&mut self, to: Seat, message: ServerV1) {
        self.tell(to, Effect::Say(message));
    }

    fn refuse(&mut self, to: Seat, code: ErrorCode, message: String) {
        self.say(to, ServerV1::error(code, message));
    }

    fn event(&mut self, event: Event) {
        self.shared.events.push_back(event.told(Some(self.room.clone())));
    }

    /// Something that its worker may do again and again.
    fn event_unless(&mut self, quiet: bool, event: Event) {
        let told = event.told(Some(self.room.clone()));
        self.shared.events.push_back(Told { quiet, ..told });
    }

    fn event_of(&mut self, session: SessionId, classes: [NatClass; 2], event: Event) {
        let session = Some((session, classes));
        self.shared.events.push_back(Told { session, ..event.told(Some(self.room.clone())) });
    }

    fn dropped(&mut self, why: DropReason) {
        self.event(Event::Dropped(why));
    }
}

/// One room with somebody in it.
#[derive(Debug)]
pub(crate) struct Hall {
    name: Room,
    /// Who is offered to whom, once somebody has said so.
    decided: Option<RoomMode>,
    ready: ReadyQueue,
    /// Who is in the room.
    members: BTreeSet<Seat>,
    /// Those, and the guests: whoever is elsewhere and has a session here.
    people: BTreeMap<Seat, Person>,
    /// Where each of them is. A worker has one connection; another one shows that the one before is gone.
    seats: BTreeMap<WorkerId, Seat>,
    /// Whose own the room is: two of those would each take the other one for a guest.
    owner: Option<Seat>,
    /// Whether it has been somebody's, since it was empty.
    was_owned: bool,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions with an end that is gone, and until when it may come back.
    waiting: Waiting,
    parted: Parted,
    /// Those who wait, and may be matched with a former peer again from then on.
    rematches: BTreeSet<(Instant, Seat)>,
    /// When the tokens of which session's relay are made anew.
    renewals: BTreeSet<(Instant, SessionId)>,
    /// Workers that others wait for who have called them from other rooms, and when it is the next one's turn.
    lines: BTreeSet<(Instant, Seat)>,
    next_place: u64,
    /// It has been taken over: nobody is paired before this, since not everything is known.
    pairs_from: Option<Instant>,
}

impl Hall {
    pub(crate) fn new(name: Room, pairs_from: Option<Instant>) -> Self {
        Self {
            name,
            decided: None,
            ready: ReadyQueue::default(),
            members: BTreeSet::new(),
            people: BTreeMap::new(),
            seats: BTreeMap::new(),
            owner: None,
            was_owned: false,
            sessions: BTreeMap::new(),
            waiting: Waiting::default(),
            parted: Parted::default(),
            rematches: BTreeSet::new(),
            renewals: BTreeSet::new(),
            lines: BTreeSet::new(),
            next_place: 0,
            pairs_from,
        }
    }

    /// Takes what a desk says of its worker.
    pub(crate) fn command(&mut self, from: Seat, command: Command, step: &mut Step<'_>) {
        self.timeout(step);
        match command {
            Command::Enter { card, mode, fresh, own } => {
                self.enter(from, card, (mode, fresh, own), step);
            }
            Command::Announce(card) => self.announce(from, card, step),
            Command::Want { waited } => self.want(from, waited, step),
            Command::Rejoin { card, member, sessions, over, resumes } => {
                self.rejoin(from, card, (member, sessions), step);
                for id in over.iter() {
                    self.leave(from, id, step);
                }
                self.resume(from, resumes, step);
                self.see_off(from, step);
            }
            Command::Return { card, resumes, sessions } => {
                self.come_back(from, card, (resumes, sessions), step);
            }
            Command::Call { card, worker, seat } => self.call(from, card, (&worker, seat), step),
            Command::Say(message) => self.hear(from, message, step),
            Command::Exit => self.exit(from, step),
            Command::Depart { leaves, unsent } => self.depart(from, leaves, unsent, step),
        }
    }

    fn hear(&mut self, from: Seat, message: WorkerV1, step: &mut Step<'_>) {
        match message {
            WorkerV1::PlanAccepted { session, number, ports } => {
                self.accepted(from, session, number, ports, step);
            }
            WorkerV1::TurnAddress { session, address } => {
                self.say_to_peer(
                    from,
                    session,
                    ServerV1::PeerTurnAddress { session, address },
                    step,
                );
            }
            WorkerV1::LinkState(report) => self.link_state(from, &report, step),
            WorkerV1::Leave { session } => {
                if !self.leave(from, session, step) {
                    step.dropped(DropReason::NoSession);
                }
            }
            WorkerV1::Hello { .. }
            | WorkerV1::Ready
            | WorkerV1::NatProfile { .. }
            | WorkerV1::Candidates { .. }
            | WorkerV1::AddressProof { .. }
            | WorkerV1::Call { .. } => {}
        }
    }

    /// All connections of an instance are gone.
    pub(crate) fn instance_gone(&mut self, instance: InstanceId, step: &mut Step<'_>) {
        let seats = self.people.keys().filter(|seat| seat.instance == instance).copied();
        for seat in seats.collect::<Vec<_>>() {
            self.depart(seat, false, true, step);
        }
    }

    /// The sessions of the room, and whether each of the two is connected.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (SessionId, [(&WorkerId, bool); 2])> {
        self.sessions.iter().map(|(id, session)| {
            (*id, session.ends.each_ref().map(|end| (&end.worker, end.gone.is_none())))
        })
    }

    /// Matches those who wait for a former peer, and ends what has waited long enough.
    pub(crate) fn timeout(&mut self, step: &mut Step<'_>) {
        while let Some(&(at, seat)) = self.rematches.first()
            && at <= step.now
        {
            self.rematches.pop_first();
            self.pair(seat, step);
            self.mesh(seat, step);
        }
        while let Some(&(at, called)) = self.lines.first()
            && at <= step.now
        {
            self.lines.pop_first();
            self.serve_line(called, step);
        }
        while let Some(session) = self.waiting.pop_due(step.now) {
            self.expire(session, step);
        }
        self.parted.expire(step.now);
        self.renew_relays(step);
    }

    /// When [`timeout`](Self::timeout) is to be called, and why.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let rematch = self.rematches.first().map(|(at, _)| (*at, WakeReason::Rematch));
        let turn = self.lines.first().map(|(at, _)| (*at, WakeReason::CallerTurn));
        let expiry = self.waiting.first().into_iter().chain(self.parted.first()).min();
        let expiry = expiry.map(|at| (at, WakeReason::SessionExpiry));
        let renewal = self.renewals.first().map(|(at, _)| (*at, WakeReason::RelayRenewal));
        rematch.into_iter().chain(turn).chain(expiry).chain(renewal).min_by_key(|(at, _)| *at)
    }

    /// Whether nothing has to be known of the room any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.people.is_empty() && self.sessions.is_empty() && self.parted.first().is_none()
    }

    /// Everybody who waits, the longest first.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &WorkerId> {
        let seats = self.ready.seats().into_iter();
        seats.filter_map(|seat| Some(&self.people.get(&seat)?.card.worker))
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Whether somebody may be paired by now; else it is looked at again when everything is known.
    fn may_pair(&mut self, seat: Seat, now: Instant) -> bool {
        self.pairs_from = self.pairs_from.filter(|at| *at > now);
        self.rematches.extend(self.pairs_from.map(|at| (at, seat)));
        self.pairs_from.is_none()
    }

    fn mode(&self) -> RoomMode {
        self.decided.unwrap_or_default()
    }

    /// A worker whose own this connection is.
    fn worker(&self, seat: Seat) -> Option<WorkerId> {
        self.people.get(&seat).map(|person| person.card.worker.clone())
    }

    /// A worker is here, as a guest unless it enters; `false`: by now it has another connection.
    fn let_in(&mut self, seat: Seat, card: Arc<Card>, step: &mut Step<'_>) -> bool {
        if self.people.contains_key(&seat) {
            self.announce(seat, card, step);
            return true;
        }
        if let Some(&before) = self.seats.get(&card.worker) {
            if self.people.get(&before).is_some_and(|person| person.card.order > card.order) {
                return false;
            }
            self.depart(before, false, false, step);
        }
        let over = self.parted.take(&card.worker);
        for (_, id) in self.waiting.of(&card.worker) {
            let ends = self.sessions.get_mut(&id).into_iter().flat_map(|it| &mut it.ends);
            ends.filter_map(|end| end.gone.as_mut()).for_each(|gone| gone.is_ignored = true);
        }
        self.seats.insert(card.worker.clone(), seat);
        self.people.insert(seat, Person { over, ..Person::new(card, step.now) });
        true
    }

    /// Those who are no members, are in no session here, and wait for nobody, are nobody to this hall.
    fn see_off(&mut self, seat: Seat, step: &mut Step<'_>) {
        let Some(person) = self.people.get(&seat).filter(|_| !self.members.contains(&seat)) else {
            return;
        };
        if person.sessions.is_empty() && person.waits_for.is_empty() {
            self.forget(seat, step);
            step.tell(seat, Effect::SeenOff);
        }
    }

    fn forget(&mut self, seat: Seat, step: &Step<'_>) -> Option<Person> {
        let person = self.people.remove(&seat)?;
        self.seats.remove(&person.card.worker);
        if step.shared.is_of_several {
            self.parted.add(&person, step.now);
        }
        person.waits_for.iter().for_each(|called| self.leave_line(*called, seat));
        Some(person)
    }

    /// What is known of a worker by now.
    fn announce(&mut self, seat: Seat, card: Arc<Card>, step: &mut Step<'_>) {
        let Some(person) = self.people.get_mut(&seat) else { return };
        if (card.order, card.version) < (person.card.order, person.card.version) {
            return;
        }
        let before = std::mem::replace(&mut person.card, Arc::clone(&card));
        if card.rtt.is_some() || card.pinged.is_none() {
            person.pinged_at = None;
        }
        let (was_overdue, place) = (before.overdue, person.place);
        let is_elsewhere = before.endpoint != card.endpoint;
        if let Some(place) = place {
            if card.overdue {
                self.ready.remove(place);
            } else {
                self.enqueue(seat, is_elsewhere, step);
            }
            if was_overdue && !card.overdue {
                self.pair(seat, step);
            }
        }
        self.tell_peers(seat, (&before, &card), step);
    }

    /// What a worker has told anew goes to its peers, and may make a better plan.
    fn tell_peers(&mut self, seat: Seat, (before, card): (&Card, &Card), step: &mut Step<'_>) {
        let (Some(old), Some(new)) = (&before.v1, &card.v1) else { return };
        let has_candidates = new.generation > old.generation;
        let has_opened = card.has_mapped_port() && !before.has_mapped_port();
        let is_other = old.profile != new.profile;
        if !has_candidates && !is_other {
            return;
        }
        // What the worker says of itself is not what is proved of the endpoint that it has reported.
        let reflexive = holepunch_wire::candidate::reflexive(&new.candidates);
        let address_proof =
            reflexive.map_or(card.proof(), |reflexive| card.proof_of(reflexive.address().ip()));
        let Some(person) = self.people.get(&seat) else { return };
        let sessions: Vec<SessionId> = person.sessions.iter().copied().collect();
        for session in sessions {
            if has_candidates {
                let (generation, candidates) = (new.generation, new.candidates.clone());
                let message =
                    ServerV1::PeerCandidates { session, generation, candidates, address_proof };
                self.say_to_peer(seat, session, message, step);
            }
            if is_other || has_opened {
                self.replan(session, false, step);
            }
        }
    }
}
