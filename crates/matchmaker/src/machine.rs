//! One rendezvous alone: desks, halls and registry in one machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::session::{RelayToken, SessionId};
use holepunch_wire::signal::REPLACED_REASON;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::desk::{
    Answer, Arrival, CLOSE_GOING_AWAY, CLOSE_NORMAL, CLOSE_POLICY, CLOSE_TRY_AGAIN, Desk, Out,
    Question, Surroundings, WakeReason,
};
use crate::doors::{
    Action, Config, ConnectionId, Event, Input, LeaveReason, NotAdmitted, Protocol, RelayRefusal,
    Transmit, Worker,
};
use crate::halls::Halls;
use crate::registry::Registry;
use crate::seat::{InstanceId, Seat};

const SHUTDOWN_REASON: &str = "server is shutting down";

/// The pairing machine of one rendezvous.
#[derive(Debug)]
pub struct Matchmaker {
    config: Config,
    rng: StdRng,
    desks: BTreeMap<ConnectionId, Desk>,
    halls: Halls,
    registry: Registry,
    /// When each desk wants to be called.
    due: BTreeSet<(Instant, ConnectionId)>,
    /// When the machine was told what the wall clock shows, and that.
    wall_clock: Option<(Instant, Duration)>,
    /// The server stops: nobody registers any more.
    ended: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Matchmaker {
    /// A machine without connections. `rng` makes credentials, so it must be seeded from the operating
    /// system outside of tests.
    #[must_use]
    pub fn new(config: Config, mut rng: StdRng) -> Self {
        Self {
            halls: Halls::new(config.relay, StdRng::from_seed(rng.random())),
            config,
            rng,
            desks: BTreeMap::new(),
            registry: Registry::default(),
            due: BTreeSet::new(),
            wall_clock: None,
            ended: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes what happened on a socket.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        if let Input::WallClock { unix } = input {
            // Before what is due, which may need it; it comes with every call, which sees to what is due by itself.
            self.wall_clock = Some((now, unix));
            return;
        }
        self.handle_timeout(now);
        self.take(input, now);
        self.settle(now);
    }

    fn take(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Connected { connection, worker, observed, protocol, room, challenge } => {
                let needs_proof = self.registry.needs_proof(&worker, now);
                let arrival = Arrival { worker, observed, protocol, room, challenge, needs_proof };
                self.connected(connection, arrival, now);
            }
            Input::Message { connection, message, proved } => {
                self.at_desk(connection, now, |desk, at| desk.message(message, proved, at));
            }
            Input::Pong { connection } => self.at_desk(connection, now, Desk::pong),
            Input::Relay { session, end, is_open } => {
                self.halls.relay_changed((session, end), is_open, now);
            }
            Input::Closed { connection, closing } => {
                self.at_desk(connection, now, |desk, _| desk.closed(closing));
            }
            Input::WallClock { .. } => {}
            Input::Shutdown => self.shutdown(now),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, connection)) = self.due.first()
            && at <= now
        {
            self.at_desk(connection, now, Desk::handle_timeout);
        }
        self.halls.handle_timeout(now);
        self.settle(now);
        // A driver that is told to call again at once never gets to anything else.
        debug_assert!(self.poll_timeout().is_none_or(|(at, _)| at > now), "nothing is left to do");
    }

    /// The next thing to do.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let desk = self.due.first().and_then(|(_, id)| self.desks.get(id)?.poll_timeout());
        desk.into_iter().chain(self.halls.poll_timeout()).min_by_key(|(at, _)| *at)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every registered worker, by connection.
    pub fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        self.desks.values().filter_map(Desk::seen)
    }

    /// Every registered worker behind this id, or every one at all, by id.
    pub fn workers_after(&self, id: Option<&WorkerId>) -> impl Iterator<Item = Worker<'_>> {
        let seats = self.registry.seats_after(id);
        seats.filter_map(|seat| self.desks.get(&seat.connection)?.seen())
    }

    /// How many workers are registered, and how many of them wait for a peer.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.registry.count(), self.halls.ready_count())
    }

    /// The workers that wait for a peer, room by room, the longest waiter first.
    pub fn ready(&self) -> impl Iterator<Item = &WorkerId> {
        self.halls.ready()
    }

    /// Whether there is room for `worker`, which comes from `ip`: see [`Registry::admits`].
    ///
    /// # Errors
    /// All places are taken, or those of its address or site.
    pub fn admits(&self, worker: &WorkerId, ip: IpAddr) -> Result<(), NotAdmitted> {
        self.registry.admits(worker, ip, &self.config)
    }

    /// Which of the two workers of a session opens its relay with this token.
    ///
    /// # Errors
    /// There is no such session, or the token is not one of it.
    pub fn relay_end(&self, id: SessionId, token: &RelayToken) -> Result<usize, RelayRefusal> {
        self.halls.relay_end(id, token)
    }

    fn connected(&mut self, connection: ConnectionId, arrival: Arrival, now: Instant) {
        // Both may have changed since the WebSocket was asked for.
        if self.ended {
            return self.send_close(connection, CLOSE_GOING_AWAY, SHUTDOWN_REASON);
        }
        if let Err(why) = self.admits(&arrival.worker, arrival.observed.ip) {
            let reason = match why {
                NotAdmitted::Full => "too many workers",
                NotAdmitted::ShareOfAddress(_) => "too many workers from this address",
                NotAdmitted::ShareOfSite(_) => "too many workers from this IPv6 site (/48)",
            };
            return self.send_close(connection, CLOSE_TRY_AGAIN, reason);
        }
        if arrival.needs_proof && arrival.protocol != Protocol::V1 {
            let reason = "this id is bound to a key, which only a worker of holepunch.v1 can prove";
            self.events.push_back(Event::Refused(arrival.worker, reason));
            return self.send_close(connection, CLOSE_POLICY, reason);
        }
        self.registry.arrive(seat(connection), arrival.observed.ip);
        let at = Surroundings { config: &self.config, now, unix: unix(self.wall_clock, now) };
        let desk = Desk::new(arrival, &mut self.rng, at);
        self.due.extend(desk.poll_timeout().map(|(at, _)| (at, connection)));
        self.desks.insert(connection, desk);
        self.at_desk(connection, now, |_, _| {});
    }

    fn send_close(&mut self, connection: ConnectionId, code: u16, reason: &'static str) {
        self.transmits.push_back(Transmit { connection, action: Action::Close { code, reason } });
    }

    /// Something happens at a desk, and all that follows from it.
    fn at_desk(
        &mut self,
        connection: ConnectionId,
        now: Instant,
        act: impl FnOnce(&mut Desk, Surroundings<'_>),
    ) {
        let at = Surroundings { config: &self.config, now, unix: unix(self.wall_clock, now) };
        let Some(desk) = self.desks.get_mut(&connection) else { return };
        let before = desk.poll_timeout().map(|(at, _)| at);
        act(desk, at);
        self.carry_out(connection, now);
        let after = self.desks.get(&connection).and_then(Desk::poll_timeout).map(|(at, _)| at);
        if before != after {
            before.map(|at| self.due.remove(&(at, connection)));
            self.due.extend(after.map(|at| (at, connection)));
        }
    }

    /// What a desk wants done.
    fn carry_out(&mut self, connection: ConnectionId, now: Instant) {
        while let Some(desk) = self.desks.get_mut(&connection) {
            let Some(out) = desk.poll_out() else {
                if desk.is_gone() {
                    self.desks.remove(&connection);
                }
                return;
            };
            let (worker, ip) = (desk.worker().clone(), desk.ip());
            let holder = (seat(connection), ip);
            match out {
                Out::Act(action) => self.transmits.push_back(Transmit { connection, action }),
                Out::Command(room, command) => self.halls.command(&room, holder.0, command, now),
                Out::Ask(question) => self.answer(connection, &worker, (holder, question), now),
                Out::Is(whereabouts) => self.registry.is(&worker, holder.0, whereabouts),
                Out::Gone { outlives, has_sessions } => {
                    self.registry.release(&worker, holder, (outlives, has_sessions), now);
                }
                Out::Event(event) => self.events.push_back(event),
            }
            // In this order, since what a hall says may be an answer.
            self.settle_events();
        }
    }

    fn answer(
        &mut self,
        connection: ConnectionId,
        worker: &WorkerId,
        (holder, question): ((Seat, IpAddr), Question),
        now: Instant,
    ) {
        let answer = match question {
            Question::Claim(key) => {
                let claimed = self.registry.claim(worker, holder, key, now);
                if let Some(old) = claimed.as_ref().ok().and_then(|claimed| claimed.replaced) {
                    self.at_desk(old.connection, now, |desk, _| {
                        desk.close(CLOSE_NORMAL, REPLACED_REASON, LeaveReason::Replaced);
                    });
                }
                Answer::Claim(claimed)
            }
            Question::Find(called) => Answer::Found(self.registry.find(&called)),
        };
        let at = Surroundings { config: &self.config, now, unix: unix(self.wall_clock, now) };
        if let Some(desk) = self.desks.get_mut(&connection) {
            desk.answer(answer, at);
        }
    }

    /// What the halls have said goes to the desks, until nobody has anything to say.
    fn settle(&mut self, now: Instant) {
        self.settle_events();
        while let Some((room, to, effect)) = self.halls.poll_effect() {
            self.at_desk(to.connection, now, |desk, at| desk.effect(&room, effect, at));
        }
    }

    fn settle_events(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.halls.poll_event()));
    }

    fn shutdown(&mut self, now: Instant) {
        self.ended = true;
        let connections: Vec<ConnectionId> = self.desks.keys().copied().collect();
        for connection in connections {
            self.at_desk(connection, now, |desk, _| {
                desk.close(CLOSE_GOING_AWAY, SHUTDOWN_REASON, LeaveReason::Shutdown);
            });
        }
    }

    /// Looks at everything, which takes time in proportion to all that is known. Only with debug
    /// assertions.
    ///
    /// # Panics
    /// Two tables do not agree, or one is larger than it may be.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        let holders = self.desks.iter().map(|(id, desk)| (seat(*id), desk.ip()));
        for (worker, seat) in self.registry.check_invariants(holders) {
            let desk = self.desks.get(&seat.connection);
            assert!(desk.is_some_and(|desk| desk.worker() == worker), "{worker} is elsewhere");
        }
        assert!(!self.ended || self.desks.is_empty(), "somebody is here after the end");
        assert_eq!(self.due.len(), self.desks.len(), "each has one time");
        let members = self.halls.check_invariants(|seat| self.desks.get(&seat.connection));
        let at_home = self.desks.values().filter(|desk| desk.home().is_some()).count();
        assert_eq!(members, at_home, "each is in one room");
    }
}

/// There is one instance, and it needs no number.
fn seat(connection: ConnectionId) -> Seat {
    Seat { instance: InstanceId(0), connection }
}

/// What the wall clock shows now.
fn unix(told: Option<(Instant, Duration)>, now: Instant) -> Option<Duration> {
    told.map(|(at, unix)| unix + now.saturating_duration_since(at))
}
