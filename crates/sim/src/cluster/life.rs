//! What workers do, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use holepunch_matchmaker::{Action, Closing, ConnectionId, Input, Observed, Permit, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::session::{RoomName, SessionId};

use super::verdict::THIEVES;
use super::worker::{Heard, Kind};
use super::world::{Happening, TROUBLE, World};

/// A worker whose session has no link by then leaves it.
const GIVES_UP_AFTER: Duration = Duration::from_secs(40);
/// One that is away for longer may be forgotten by the rendezvous, which tells nobody.
const AWAY_MAX: Duration = Duration::from_secs(4);
/// Whoever has not been told what becomes of a call calls again.
const CALLS_AGAIN_AFTER: Duration = Duration::from_secs(20);
const WAY: Duration = Duration::from_millis(5);

impl World {
    pub(super) fn connect(&mut self, worker: usize) {
        if self.workers[worker].at.is_some() {
            return;
        }
        let number = self.chance.below(self.setting.instances as u64) as usize;
        if self.faults.stands_still(number) {
            let after = self.chance.ms(200, 2000);
            return self.after(after, Happening::Connect(worker));
        }
        if self.workers[worker].lost_at.is_some_and(|at| at + AWAY_MAX < self.now) {
            self.goes_by_itself(worker);
        }
        let it = &self.workers[worker];
        let who = (it.id.clone(), it.protocol, Arc::clone(&it.permit));
        let protocol = it.protocol;
        let room =
            (!it.room.is_empty()).then(|| RoomName::new(it.room).expect("invariant: a valid name"));
        let ip = [203, 0, 113, u8::try_from(worker).unwrap_or(255)].into();
        let connection = self.open(number, who, room, Observed { ip, port: Some(1000) });
        self.connections.insert(connection, worker);
        self.workers[worker].at = Some((number, connection));
        self.note(format!("w{worker} connects to {number} as {}", connection.0));
        if protocol == Protocol::Baseline {
            self.report(worker);
        }
    }

    fn open(
        &mut self,
        number: usize,
        (worker, protocol, permit): (WorkerId, Protocol, Arc<Permit>),
        room: Option<RoomName>,
        observed: Observed,
    ) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let challenge = String::new();
        let input =
            Input::Connected { connection, worker, observed, protocol, room, challenge, permit };
        self.input(number, input);
        connection
    }

    /// Somebody without the key wants the id of a worker that has proved its own.
    fn steal(&mut self, worker: usize) {
        let number = self.chance.below(self.setting.instances as u64) as usize;
        let is_bound = self.workers[worker].bound_at.is_some_and(|at| at + AWAY_MAX < self.now);
        if !is_bound || self.faults.stands_still(number) {
            return;
        }
        let (id, permit) = (self.workers[worker].id.clone(), self.workers[worker].permit.clone());
        let is_baseline = self.chance.is(30);
        let protocol = if is_baseline { Protocol::Baseline } else { Protocol::V1 };
        let key = if self.chance.is(50) {
            format!(r#","key":"{}""#, "ee".repeat(32))
        } else {
            String::new()
        };
        let thief = Observed { ip: THIEVES, port: None };
        let connection = self.open(number, (id, protocol, permit), None, thief);
        self.note(format!("{} wants to be w{worker} at {number}", connection.0));
        for text in [format!(r#"{{"type":"hello"{key}}}"#), report_of(250)] {
            self.after(WAY * 3, Happening::Frame(number, connection, text));
        }
    }

    /// Whoever has a session with this worker that the rendezvous may have forgotten sees by itself whether its link is gone.
    pub(super) fn goes_by_itself(&mut self, worker: usize) {
        let id = self.workers[worker].id.clone();
        for other in 0..self.workers.len() {
            let own = self.workers[other].sessions.iter_mut();
            let with = own.filter(|(_, seen)| seen.peer == id).map(|(session, seen)| {
                seen.is_unsure = true;
                *session
            });
            for session in with.collect::<Vec<_>>() {
                self.after(GIVES_UP_AFTER, Happening::Report(other, session));
            }
        }
    }

    fn report(&mut self, worker: usize) {
        if self.workers[worker].sessions.is_empty() {
            self.workers[worker].wants_since.get_or_insert(self.now);
        }
        self.say(worker, report_of(worker));
    }

    fn say(&mut self, worker: usize, text: String) {
        let Some((number, connection)) = self.workers[worker].at else { return };
        self.after(WAY, Happening::Frame(number, connection, text));
    }

    /// Something comes to a worker.
    pub(super) fn act(&mut self, number: usize, connection: ConnectionId, action: Action) {
        let Some(&worker) = self.connections.get(&connection) else { return };
        if self.workers[worker].at != Some((number, connection)) {
            return;
        }
        match action {
            Action::Ping => self.after(WAY, Happening::Pong(number, connection)),
            Action::Close(reason) => {
                self.note(format!("w{worker} is closed: {reason}"));
                self.lose(worker);
            }
            Action::Send(text) | Action::Offer(text) | Action::Update(_, _, text) => {
                let heard = self.workers[worker].hear(&text, self.now);
                self.heard(worker, heard);
            }
        }
    }

    fn heard(&mut self, worker: usize, heard: Heard) {
        let is_mesh = self.workers[worker].kind() == Kind::Mesh;
        match heard {
            Heard::Welcome => {
                let hello = self.workers[worker].hello();
                self.say(worker, hello);
                self.report(worker);
            }
            Heard::Offer(session, peer, given_up) => {
                self.sessions += 1;
                self.note(format!("w{worker} is offered {peer}: {session}"));
                let own = &self.workers[worker].permit.tenant;
                let met = self.workers.iter().find(|it| it.id == peer);
                if met.is_none_or(|met| met.permit.tenant != *own) {
                    self.broken(&format!("w{worker} is offered {peer} of another tenant"));
                }
                given_up.into_iter().for_each(|session| self.say(worker, leave_of(session)));
                let others = self.workers[worker].sessions.len();
                if others > 1 && self.workers[worker].kind() == Kind::Pair {
                    let all = self.workers[worker].sessions.clone();
                    self.broken(&format!("w{worker} is in {others} pairs: {all:?}"));
                }
                self.after(Duration::from_millis(200), Happening::Report(worker, session));
            }
            Heard::Ended(session) => {
                self.note(format!("w{worker}: {session} is over"));
                if is_mesh {
                    self.report(worker);
                }
            }
            Heard::Nothing => {}
        }
    }

    /// A worker says what has become of a session: there is a link once both have it, and the worker gives up where there is none
    /// for too long.
    pub(super) fn report_link(&mut self, worker: usize, session: SessionId) {
        let Some(seen) = self.workers[worker].sessions.get(&session).cloned() else { return };
        let peer = self.workers.iter().find(|it| it.id == seen.peer);
        if peer.is_some_and(|peer| peer.sessions.contains_key(&session)) {
            let state = ["direct", "relayed", "direct"][self.chance.below(3) as usize];
            let number = seen.number;
            let text = format!(
                r#"{{"type":"link_state","session":"{session}","state":"{state}","strategy":"plain","number":{number}}}"#
            );
            self.say(worker, text);
        } else if seen.since + GIVES_UP_AFTER < self.now {
            self.leave(worker, session);
        } else {
            self.after(Duration::from_secs(1), Happening::Report(worker, session));
        }
    }

    fn leave(&mut self, worker: usize, session: SessionId) {
        self.note(format!("w{worker} leaves {session}"));
        self.workers[worker].sessions.remove(&session);
        self.say(worker, leave_of(session));
        self.report(worker);
    }

    /// A worker's connection is gone.
    pub(super) fn lose(&mut self, worker: usize) {
        let Some((number, connection)) = self.workers[worker].at.take() else { return };
        let it = &mut self.workers[worker];
        let since = self.faults.still.get(&number).copied().unwrap_or(self.now);
        (it.wants_since, it.lost_at, it.calls) = (None, Some(since), None);
        it.sessions.values_mut().for_each(|seen| seen.is_unsure = true);
        if self.chance.is(50) {
            // What it has said last is lost as well.
            let is_its =
                |it: &Happening| matches!(it, Happening::Frame(_, of, _) if *of == connection);
            self.happenings.retain(|_, it| !is_its(it));
        }
        let closing = self.closing(connection);
        self.after(WAY, Happening::Closed(number, connection, closing));
        let after = self.chance.ms(100, 3000);
        self.after(after, Happening::Connect(worker));
    }

    /// In which way a connection has ended: a server knows of an offer that it has not sent.
    pub(super) fn closing(&self, connection: ConnectionId) -> Closing {
        let is_offer = |it: &Happening| matches!(it, Happening::Action(_, of, Action::Offer(_)) if *of == connection);
        match self.happenings.values().any(is_offer) {
            true => Closing::OfferUnsent,
            false => Closing::Broken,
        }
    }

    pub(super) fn whim(&mut self, worker: usize) {
        let after = self.chance.ms(2_000, 40_000);
        self.after(after, Happening::Whim(worker));
    }

    pub(super) fn act_by_itself(&mut self, worker: usize) {
        if self.now > self.start + TROUBLE {
            return;
        }
        self.whim(worker);
        let it = &self.workers[worker];
        let (protocol, kind, is_there) = (it.protocol, it.kind(), it.at.is_some());
        let first = it.sessions.keys().next().copied();
        match (self.chance.below(6), first) {
            (0, Some(session)) if is_there => self.leave(worker, session),
            (1, _) if protocol == Protocol::Baseline => self.report(worker),
            (2, _) => {
                self.note(format!("w{worker} loses its connection"));
                self.lose(worker);
            }
            (3, Some(session)) if is_there => {
                self.leave(worker, session);
                self.note(format!("w{worker} loses its connection"));
                self.lose(worker);
            }
            (4, _) => self.steal(worker),
            (1 | 5, _) if kind == Kind::Call => {
                let other = self.chance.below(self.workers.len() as u64) as usize;
                self.call(worker, other);
            }
            _ => {}
        }
    }

    pub(super) fn call(&mut self, worker: usize, other: usize) {
        let it = &mut self.workers[worker];
        let is_again = it.calls.is_some_and(|(called, _)| called == other);
        if it.at.is_none() || worker == other || (it.calls.is_some() && !is_again) {
            return;
        }
        it.calls.get_or_insert((other, self.now));
        self.say(worker, format!(r#"{{"type":"call","peer":"w{other}"}}"#));
        self.after(CALLS_AGAIN_AFTER, Happening::Call(worker, other));
    }
}

fn report_of(worker: usize) -> String {
    format!(r#"{{"type":"update_udp_endpoint","udp_ip":"203.0.113.{worker}","udp_port":4000}}"#)
}

fn leave_of(session: SessionId) -> String {
    format!(r#"{{"type":"leave","session":"{session}"}}"#)
}
