//! Calls by id. Those from other rooms wait in line for a worker, so that whoever calls it again and again, from many
//! connections, holds up nobody but those who call from the same address.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use holepunch_wire::address::{Site, Source};
use holepunch_wire::session::SESSIONS_MAX;
use holepunch_wire::signal::v1::ErrorCode;

use crate::connection::Connection;
use crate::doors::{ConnectionId, Protocol};
use crate::machine::Matchmaker;
use crate::pairing::parted;

/// Why a call comes to nothing, for programs and for people.
type NoCall = (ErrorCode, &'static str);

/// Whoever calls need not know whether the worker is elsewhere.
const NOT_REGISTERED: NoCall = (ErrorCode::NotRegistered, "it is not registered here");

/// So many sessions a worker has at most where one more caller comes from another room: the other half is left to its own
/// room, whatever strangers do who have read its id in the listing.
const CALLED_FROM_OUTSIDE_MAX: usize = SESSIONS_MAX / 2;
/// So many callers from other rooms a worker is offered at once, ...
const CALLS_BURST: u32 = 8;
/// ... and one in this time from then on. A worker follows ten offers at once and one a second from whomever
/// (`traversal::answers`): so it follows each of these, and those of its own room have the rest.
const CALL_EVERY: Duration = Duration::from_millis(1250);
/// Callers in line for a worker.
const IN_LINE_MAX: usize = 64;
/// Sites whose last turn is remembered, of each worker.
const SERVED_KNOWN_MAX: usize = 64;

/// Those from other rooms who wait for a worker that they have called.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// By their arrival.
    waiting: Vec<(Site, ConnectionId)>,
    /// Whose turn it has been, the last one at the end.
    served: VecDeque<Site>,
    /// When as many could be served at once as ever.
    rested_at: Option<Instant>,
}

impl Line {
    /// When the next one may be served.
    fn free_at(&self, now: Instant) -> Instant {
        let slack = CALL_EVERY * (CALLS_BURST - 1);
        self.rested_at.and_then(|at| at.checked_sub(slack)).map_or(now, |at| at.max(now))
    }

    fn serve(&mut self, site: Site, now: Instant) {
        self.rested_at = Some(self.rested_at.map_or(now, |at| at.max(now)) + CALL_EVERY);
        self.served.retain(|known| *known != site);
        if self.served.len() >= SERVED_KNOWN_MAX {
            self.served.pop_front();
        }
        self.served.push_back(site);
    }

    /// Lets one more in; whether it is in line then. Where all places are taken, the site that has the most gives one up to a
    /// site that has fewer.
    fn enter(&mut self, site: Site, caller: ConnectionId) -> bool {
        if self.waiting.iter().any(|(_, waiting)| *waiting == caller) {
            return true;
        }
        if self.waiting.len() >= IN_LINE_MAX {
            let held = |of: Site| self.waiting.iter().filter(|(site, _)| *site == of).count();
            let most = self.waiting.iter().map(|(site, _)| *site).max_by_key(|site| held(*site));
            let gives_up = most.filter(|most| held(*most) > held(site) + 1);
            let at = self.waiting.iter().rposition(|(site, _)| Some(*site) == gives_up);
            let Some(at) = at else { return false };
            self.waiting.remove(at);
        }
        self.waiting.push((site, caller));
        true
    }

    /// The next one, which leaves the line: of the site whose last turn was the longest ago, the first.
    fn next(&mut self) -> Option<(Site, ConnectionId)> {
        let last_turn = |site: &Site| self.served.iter().position(|served| served == site);
        let next = self.waiting.iter().enumerate().min_by_key(|(_, (site, _))| last_turn(site));
        let at = next.map(|(at, _)| at)?;
        Some(self.waiting.remove(at))
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) -> bool {
        assert!(self.waiting.len() <= IN_LINE_MAX && self.served.len() <= SERVED_KNOWN_MAX);
        !self.waiting.is_empty()
    }
}

impl Matchmaker {
    /// A call by id.
    pub(crate) fn call(&mut self, id: ConnectionId, peer: &str, now: Instant) {
        if let Err((code, why)) = self.try_call(id, peer, now) {
            let shown: String = peer.chars().take(64).collect();
            self.send_error(id, code, format!("worker {shown:?} cannot be called: {why}"));
        }
    }

    fn try_call(&mut self, id: ConnectionId, peer: &str, now: Instant) -> Result<(), NoCall> {
        let peer = holepunch_wire::WorkerId::new(peer)
            .map_err(|_| not_callable("that is not a worker's id"))?;
        let other = self.current.get(&peer).copied().ok_or(NOT_REGISTERED)?;
        let Some(site) = self.may_call(id, other, now)? else {
            self.begin_call(id, other, now);
            return Ok(());
        };
        let Some(called) = self.connections.get_mut(&other) else { return Err(NOT_REGISTERED) };
        let has_room = called.sessions() < CALLED_FROM_OUTSIDE_MAX;
        let Some(v1) = &mut called.v1 else { return Err(NOT_REGISTERED) };
        let free_at = v1.line.free_at(now);
        if has_room && free_at <= now && v1.line.waiting.is_empty() {
            v1.line.serve(site, now);
            self.begin_call(id, other, now);
            return Ok(());
        }
        let was_empty = v1.line.waiting.is_empty();
        if !v1.line.enter(site, id) {
            return Err(not_callable("too many others call it at the moment"));
        }
        if was_empty {
            let at = if free_at > now { free_at } else { now + CALL_EVERY };
            self.lines.insert((at, other));
        }
        Err(not_callable("others have called it before, and this call is in line behind theirs"))
    }

    /// Whether a worker may call another one; from another room, the site that it calls from.
    fn may_call(
        &self,
        id: ConnectionId,
        other: ConnectionId,
        now: Instant,
    ) -> Result<Option<Site>, NoCall> {
        let (Some(entry), Some(called)) = (self.connections.get(&id), self.connections.get(&other))
        else {
            return Err(NOT_REGISTERED);
        };
        if other == id {
            return Err(not_callable("that is the caller itself"));
        }
        if entry.is_shown_out() || !called.is_callable_from(&entry.room) {
            return Err(NOT_REGISTERED);
        }
        if called.protocol() != Protocol::V1 {
            return Err(not_callable("it does not speak holepunch.v1"));
        }
        self.may_meet(id, other).map_err(not_callable)?;
        if parted(entry, called).is_some_and(|at| at > now) {
            return Err(not_callable("the two have parted only seconds ago"));
        }
        let is_outside = entry.room != called.room;
        Ok(is_outside.then(|| site_of(entry)))
    }

    /// It is the turn of the next one in a worker's line.
    pub(crate) fn serve_line(&mut self, called: ConnectionId, now: Instant) {
        let has_room = |entry: &Connection| entry.sessions() < CALLED_FROM_OUTSIDE_MAX;
        if self.connections.get(&called).is_some_and(has_room) {
            while let Some((site, caller)) = self.line(called).and_then(Line::next) {
                // One that has gone meanwhile, or has another room, loses its turn, and holds up nobody.
                if self.may_call(caller, called, now) == Ok(Some(site)) {
                    self.line(called).into_iter().for_each(|line| line.serve(site, now));
                    self.begin_call(caller, called, now);
                    break;
                }
            }
        }
        let Some(line) = self.line(called).filter(|line| !line.waiting.is_empty()) else { return };
        let free_at = line.free_at(now);
        // As long as the worker has no room for another one, nobody tells when it has.
        let at = if free_at > now { free_at } else { now + CALL_EVERY };
        self.lines.insert((at, called));
    }

    fn line(&mut self, called: ConnectionId) -> Option<&mut Line> {
        Some(&mut self.connections.get_mut(&called)?.v1.as_mut()?.line)
    }

    /// Whoever is called keeps its place in the queue of its room: a stranger's call keeps nobody from it who comes there.
    fn begin_call(&mut self, id: ConnectionId, called: ConnectionId, now: Instant) {
        self.begin_session([(called, None), (id, None)], now);
    }
}

fn not_callable(why: &'static str) -> NoCall {
    (ErrorCode::NotCallable, why)
}

/// Behind a proxy that is not trusted, all come from one address of this machine, and wait in one line.
fn site_of(entry: &Connection) -> Site {
    Source::even_of_loopback(entry.observed.ip).site()
}
