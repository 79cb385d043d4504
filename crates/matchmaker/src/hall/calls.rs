//! Calls by id. Those from other rooms wait in line for a worker, so that whoever calls it again and again, from many
//! connections, holds up nobody but those who call from the same address.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::address::{Site, Source};
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_wire::reason::CallError;
use holepunch_wire::session::{OFFERS, SESSIONS_MAX};
use holepunch_wire::signal::v1::ServerV1;

use super::pairing::{may_meet, parted};
use super::{Hall, Person, Step};
use crate::card::Card;
use crate::doors::{Event, Protocol};
use crate::seat::Seat;

/// So many sessions a worker has at most where one more caller comes from another room: the other half is left to its own
/// room, whatever strangers do who have read its id in the listing.
const CALLED_FROM_OUTSIDE_MAX: usize = SESSIONS_MAX / 2;
/// Callers from other rooms that a worker is offered: it follows each of these, and those of its own room have the rest of
/// the offers that it follows.
const CALLS: Rate = Rate { count: 1, per: CALL_EVERY, burst: 8 };
const CALL_EVERY: Duration = Duration::from_millis(1250);
const _: () = assert!(CALLS.burst < OFFERS.burst);
const _: () = assert!(CALL_EVERY.as_millis() * OFFERS.count as u128 > OFFERS.per.as_millis());
/// Callers in line for a worker.
const IN_LINE_MAX: usize = 64;
/// Sites whose last turn is remembered, of each worker.
const SERVED_KNOWN_MAX: usize = 64;

/// Those from other rooms who wait for a worker that they have called.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// By their arrival.
    waiting: Vec<(Site, Seat)>,
    /// Whose turn it has been, the last one at the end.
    served: VecDeque<Site>,
    /// When it is the next one's turn.
    pub(super) turn_at: Option<Instant>,
    calls: Bucket,
}

impl Line {
    /// When the next one may be served.
    fn free_at(&self, now: Instant) -> Instant {
        self.calls.free_at(CALLS, 1, now)
    }

    fn serve(&mut self, site: Site, now: Instant) {
        self.calls.spend(CALLS, 1, now);
        self.served.retain(|known| *known != site);
        if self.served.len() >= SERVED_KNOWN_MAX {
            self.served.pop_front();
        }
        self.served.push_back(site);
    }

    /// Lets one more in, unless it is in line already. Where all places are taken, the site that has the most gives one up to a
    /// site that has fewer: whoever has lost it, or `None`, where it is this one that has no place.
    fn enter(&mut self, site: Site, caller: Seat) -> Option<Vec<Seat>> {
        let mut lost = Vec::new();
        if self.has(caller) {
            return Some(lost);
        }
        if self.waiting.len() >= IN_LINE_MAX {
            let held = |of: Site| self.waiting.iter().filter(|(site, _)| *site == of).count();
            let most = self.waiting.iter().map(|(site, _)| *site).max_by_key(|site| held(*site));
            let gives_up = most.filter(|most| held(*most) > held(site) + 1);
            let at = self.waiting.iter().rposition(|(site, _)| Some(*site) == gives_up)?;
            lost.push(self.waiting.remove(at).1);
        }
        self.waiting.push((site, caller));
        Some(lost)
    }

    /// The next one, which leaves the line: of the site whose last turn was the longest ago, the first.
    fn next(&mut self) -> Option<(Site, Seat)> {
        let last_turn = |site: &Site| self.served.iter().position(|served| served == site);
        let next = self.waiting.iter().enumerate().min_by_key(|(_, (site, _))| last_turn(site));
        let at = next.map(|(at, _)| at)?;
        Some(self.waiting.remove(at))
    }

    pub(super) fn has(&self, caller: Seat) -> bool {
        self.waiting.iter().any(|(_, waiting)| *waiting == caller)
    }

    /// Everybody in it.
    pub(super) fn callers(&self) -> impl Iterator<Item = Seat> + '_ {
        self.waiting.iter().map(|(_, caller)| *caller)
    }

    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) -> bool {
        assert!(self.waiting.len() <= IN_LINE_MAX && self.served.len() <= SERVED_KNOWN_MAX);
        !self.waiting.is_empty()
    }
}

impl Hall {
    /// A call by id, of a worker that is in this room.
    pub(super) fn call(
        &mut self,
        seat: Seat,
        card: Arc<Card>,
        (worker, called): (&WorkerId, Seat),
        step: &mut Step<'_>,
    ) {
        if !self.let_in(seat, card, step) {
            return;
        }
        if let Err(why) = self.try_call(seat, (worker, called), step) {
            step.say(seat, refusal(worker.as_str(), why));
            self.worker(seat).into_iter().for_each(|it| step.event(Event::CallRefused(it, why)));
        }
        self.see_off(seat, step);
    }

    fn try_call(
        &mut self,
        seat: Seat,
        (worker, other): (&WorkerId, Seat),
        step: &mut Step<'_>,
    ) -> Result<(), CallError> {
        if self.worker(other).as_ref() != Some(worker) {
            return Err(CallError::NotRegistered);
        }
        let Some(site) = self.may_call(seat, other, step.now)? else {
            self.begin_call(seat, other, step);
            return Ok(());
        };
        let Some(called) = self.people.get_mut(&other) else {
            return Err(CallError::NotRegistered);
        };
        let has_room = called.sessions() < CALLED_FROM_OUTSIDE_MAX;
        let line = called.line.get_or_insert_default();
        let free_at = line.free_at(step.now);
        if has_room && free_at <= step.now && line.waiting.is_empty() {
            line.serve(site, step.now);
            self.begin_call(seat, other, step);
            return Ok(());
        }
        let was_empty = line.waiting.is_empty();
        let Some(lost) = line.enter(site, seat) else {
            return Err(CallError::TooManyCallers);
        };
        lost.into_iter().for_each(|caller| self.no_more_in_line(caller, other, step));
        if let Some(person) = self.people.get_mut(&seat) {
            person.waits_for.insert(other);
        }
        if was_empty {
            self.next_turn(other, free_at, step.now);
        }
        Err(CallError::InLine)
    }

    /// A caller is in a worker's line no more.
    pub(super) fn no_more_in_line(&mut self, caller: Seat, called: Seat, step: &mut Step<'_>) {
        if let Some(person) = self.people.get_mut(&caller) {
            person.waits_for.remove(&called);
        }
        self.see_off(caller, step);
    }

    /// A caller is gone.
    pub(super) fn leave_line(&mut self, called: Seat, caller: Seat) {
        let Some(line) = self.line(called) else { return };
        line.waiting.retain(|(_, waiting)| *waiting != caller);
        if line.waiting.is_empty()
            && let Some(at) = line.turn_at.take()
        {
            self.lines.remove(&(at, called));
        }
    }

    /// As long as the worker has no room for another one, nobody tells when it has.
    fn next_turn(&mut self, called: Seat, free_at: Instant, now: Instant) {
        let at = if free_at > now { free_at } else { now + CALL_EVERY };
        if let Some(line) = self.line(called) {
            line.turn_at = Some(at);
            self.lines.insert((at, called));
        }
    }

    /// Whether a worker may call another one; from another room, the site that it calls from.
    fn may_call(&self, seat: Seat, other: Seat, now: Instant) -> Result<Option<Site>, CallError> {
        let (Some(caller), Some(called)) = (self.people.get(&seat), self.people.get(&other)) else {
            return Err(CallError::NotRegistered);
        };
        let is_outside = !self.members.contains(&seat);
        let is_for_all = || called.card.v1.as_ref().is_some_and(|v1| v1.callable);
        // Whoever calls need not know whether the worker is elsewhere.
        if !self.members.contains(&other) || (is_outside && !is_for_all()) {
            return Err(CallError::NotRegistered);
        }
        if called.card.protocol() != Protocol::V1 {
            return Err(CallError::Baseline);
        }
        may_meet(caller, called)?;
        if parted((caller, seat), called).is_some_and(|at| at > now) {
            return Err(CallError::JustParted);
        }
        Ok(is_outside.then(|| site_of(caller)))
    }

    /// It is the turn of the next one in a worker's line.
    pub(super) fn serve_line(&mut self, called: Seat, step: &mut Step<'_>) {
        let has_room = |person: &Person| person.sessions() < CALLED_FROM_OUTSIDE_MAX;
        if self.people.get(&called).is_some_and(has_room) {
            while let Some((site, caller)) = self.line(called).and_then(Line::next) {
                // One that has gone meanwhile, or has another room, loses its turn, and holds up nobody.
                let is_served = self.may_call(caller, called, step.now) == Ok(Some(site));
                if is_served {
                    self.line(called).into_iter().for_each(|line| line.serve(site, step.now));
                    self.begin_call(caller, called, step);
                }
                self.no_more_in_line(caller, called, step);
                if is_served {
                    break;
                }
            }
        }
        let Some(line) = self.line(called) else { return };
        line.turn_at = None;
        if !line.waiting.is_empty() {
            let free_at = line.free_at(step.now);
            self.next_turn(called, free_at, step.now);
        }
    }

    fn line(&mut self, called: Seat) -> Option<&mut Line> {
        self.people.get_mut(&called)?.line.as_deref_mut()
    }

    /// Whoever is called keeps its place in the queue of its room: a stranger's call keeps nobody from it who comes there.
    fn begin_call(&mut self, seat: Seat, called: Seat, step: &mut Step<'_>) {
        self.begin_session([(called, None), (seat, None)], step);
    }
}

/// What a caller is told.
pub(crate) fn refusal(called: &str, why: CallError) -> ServerV1 {
    let shown = holepunch_wire::text::start(called, 64);
    let message = format!("worker {shown:?} cannot be called: {why}");
    ServerV1::Error { code: Some(why.error_code()), call: Some(why), message }
}

/// Behind a proxy that is not trusted, all come from one address of this machine, and wait in one line.
fn site_of(caller: &Person) -> Site {
    Source::even_of_loopback(caller.card.observed).site()
}
