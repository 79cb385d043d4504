//! One rendezvous as one machine: its board, and the desks of all its connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::SessionId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::board::Board;
use crate::cluster::{Epoch, Packet, Reply, Request};
use crate::desk::{Arrival, Desk, Note, Out, Surroundings, WakeReason};
use crate::doors::{
    Action, Config, ConnectionId, DropReason, Event, Input, NotAdmitted, Told, Transmit, Worker,
};
use crate::names::{Member, Room};
use crate::registry::Registry;
use crate::seat::InstanceId;

/// The pairing machine of one rendezvous: for tests and simulations, which have all connections in one place. A server has each
/// desk where its WebSocket is.
#[derive(Debug)]
pub struct Matchmaker {
    config: Config,
    rng: StdRng,
    desks: BTreeMap<ConnectionId, Desk>,
    board: Board,
    /// When each desk wants to be called.
    due: BTreeSet<(Instant, ConnectionId)>,
    /// When the machine was told what the wall clock shows, and that.
    wall_clock: Option<(Instant, Duration)>,
    /// The server stops: nobody registers any more.
    ended: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Told>,
}

impl Matchmaker {
    /// A machine without connections, which is alone. `rng` makes credentials, so it must be seeded from the operating
    /// system outside of tests.
    #[must_use]
    pub fn new(config: Config, mut rng: StdRng) -> Self {
        let own = StdRng::from_seed(rng.random());
        Self::with(Board::new(config.clone(), own), config, rng)
    }

    /// One of several, which has a store in common with the others.
    #[must_use]
    pub fn of_several(own: InstanceId, config: Config, mut rng: StdRng, now: Instant) -> Self {
        let of_board = StdRng::from_seed(rng.random());
        Self::with(Board::of_several(own, config.clone(), of_board, now), config, rng)
    }

    fn with(board: Board, config: Config, rng: StdRng) -> Self {
        let (desks, due, transmits, events) = Default::default();
        let (wall_clock, ended) = (None, false);
        Self { config, rng, desks, board, due, wall_clock, ended, transmits, events }
    }

    /// Its number, by which the others know it. It has another one after it has lost its lease.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.board.instance()
    }

    /// Whether what comes from this connection has to wait for an answer of the store.
    #[must_use]
    pub fn is_busy(&self, connection: ConnectionId) -> bool {
        self.desks.get(&connection).is_some_and(Desk::is_busy)
    }

    /// Takes what happened on a socket.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        if let Input::WallClock { unix } = input {
            // Before what is due, which may need it; it comes with every call, which sees to what is due by itself.
            self.wall_clock = Some((now, unix));
            self.board.wall_clock(unix, now);
            return;
        }
        self.handle_timeout(now);
        self.take(input, now);
        self.settle(now);
    }

    fn take(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Connected {
                connection,
                worker,
                observed,
                protocol,
                room,
                challenge,
                permit,
            } => {
                let arrival = Arrival { worker, observed, protocol, room, challenge, permit };
                self.connected(connection, arrival, now);
            }
            Input::Message { connection, message, proved } => {
                if !self.desks.contains_key(&connection) {
                    return self.events.push_back(Event::Dropped(DropReason::Gone).told(None));
                }
                self.at_desk(connection, now, |desk, at| desk.message(message, proved, at));
            }
            Input::Pong { connection } => self.at_desk(connection, now, Desk::pong),
            Input::Relay { session, end, is_open } => {
                self.board.relay_changed((session, end), is_open, now);
            }
            Input::Closed { connection, closing } => {
                self.at_desk(connection, now, |desk, _| desk.closed(closing));
            }
            Input::WallClock { .. } => {}
            Input::Shutdown => {
                self.ended = true;
                self.tell_all(&Note::Shutdown, now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, connection)) = self.due.first()
            && at <= now
        {
            self.at_desk(connection, now, Desk::handle_timeout);
        }
        self.board.handle_timeout(now);
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
        desk.into_iter().chain(self.board.poll_timeout()).min_by_key(|(at, _)| *at)
    }

    /// The next question to the store, by its number; the same one again where no answer has come.
    pub fn poll_request(&mut self) -> Option<(u64, Request)> {
        self.board.poll_request()
    }

    /// The store has answered.
    pub fn handle_reply(&mut self, number: u64, reply: Reply, now: Instant) {
        self.handle_timeout(now);
        self.board.handle_reply(number, reply, now);
        self.settle(now);
    }

    /// The next packet to another instance.
    pub fn poll_packet(&mut self) -> Option<(InstanceId, Packet)> {
        self.board.poll_packet()
    }

    /// A packet came from another instance.
    pub fn handle_packet(&mut self, from: InstanceId, packet: Packet, now: Instant) {
        self.handle_timeout(now);
        self.board.handle_packet((from, self.board.instance()), packet, now);
        self.settle(now);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Told> {
        self.events.pop_front()
    }

    /// Every registered worker, by id.
    pub fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        self.board.registry().into_iter().flat_map(Registry::workers)
    }

    /// How many workers are registered, and how many of them wait for a peer.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let count = self.board.registry().map_or(self.desks.len(), Registry::count);
        (count, self.board.halls().ready_count(None))
    }

    /// The workers that wait for a peer, room by room, the longest waiter first.
    pub fn ready(&self) -> impl Iterator<Item = &WorkerId> {
        self.board.halls().ready(None)
    }

    /// The sessions of the halls that are here: their number, and both workers, with whether each is connected.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, [(&WorkerId, bool); 2])> {
        self.board.halls().sessions()
    }

    /// The rooms that this one owns, and with which epoch.
    pub fn own_rooms(&self, now: Instant) -> impl Iterator<Item = (&Room, Epoch)> {
        self.board.own_rooms(now)
    }

    /// Whether there is room for `worker`, which comes from `ip`, as far as that is known here: see [`Registry::admits`](crate::Registry::admits).
    ///
    /// # Errors
    /// All places are taken, or those of its address or site.
    pub fn admits(&self, worker: &WorkerId, ip: IpAddr) -> Result<(), NotAdmitted> {
        let worker = &Member::unnamed(worker.clone());
        let registry = self.board.registry();
        registry.map_or(Ok(()), |registry| registry.admits(worker, ip, &self.config))
    }

    fn connected(&mut self, connection: ConnectionId, arrival: Arrival, now: Instant) {
        if self.ended {
            let action = Action::Close(CloseReason::ShuttingDown);
            return self.transmits.push_back(Transmit { connection, action });
        }
        let at = Surroundings { config: &self.config, now, unix: unix(self.wall_clock, now) };
        let desk = Desk::new(arrival, &mut self.rng, at);
        self.due.extend(desk.poll_timeout().map(|(at, _)| (at, connection)));
        self.desks.insert(connection, desk);
        self.at_desk(connection, now, |_, _| {});
    }

    /// Something happens at a desk, and what it wants done is passed on.
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
        while let Some(out) = desk.poll_out() {
            match out {
                Out::Act(action) => self.transmits.push_back(Transmit { connection, action }),
                Out::Errand(errand) => {
                    self.board.take(connection, (desk.member(), desk.ip()), errand, now);
                }
                Out::Event(event) => self.events.push_back(event),
            }
            // In this order, since what a hall says may be an answer.
            self.events.extend(std::iter::from_fn(|| self.board.poll_event()));
        }
        let after = desk.poll_timeout().map(|(at, _)| at);
        if desk.is_gone() {
            self.desks.remove(&connection);
        }
        if before != after {
            before.map(|at| self.due.remove(&(at, connection)));
            self.due.extend(after.map(|at| (at, connection)));
        }
    }

    /// What the board says goes to the desks, until nobody has anything to say.
    fn settle(&mut self, now: Instant) {
        while let Some((to, note)) = self.board.poll_note() {
            match to {
                None => self.tell_all(&note, now),
                Some(to) if self.desks.contains_key(&to) => {
                    self.at_desk(to, now, |desk, at| desk.note(note, at));
                }
                Some(to) => self.board.undelivered(to, note, now),
            }
        }
        self.events.extend(std::iter::from_fn(|| self.board.poll_event()));
    }

    fn tell_all(&mut self, note: &Note, now: Instant) {
        for connection in self.desks.keys().copied().collect::<Vec<_>>() {
            self.at_desk(connection, now, |desk, at| desk.note(note.clone(), at));
        }
    }

    /// Looks at everything, which takes time in proportion to all that is known. Only with debug
    /// assertions.
    ///
    /// # Panics
    /// Two tables do not agree, or one is larger than it may be.
    #[cfg(debug_assertions)]
    pub fn check_invariants(&self) {
        assert!(!self.ended || self.desks.is_empty(), "somebody is here after the end");
        assert_eq!(self.due.len(), self.desks.len(), "each has one time");
        let Some(registry) = self.board.registry() else {
            // What a hall knows of a desk is of a moment ago, and that may be elsewhere.
            self.board.halls().check_invariants(None);
            return;
        };
        let holders = self
            .desks
            .iter()
            .map(|(id, desk)| (self.board.seat(*id), (desk.member().tenant.clone(), desk.ip())));
        for (worker, seat) in registry.check_invariants(holders) {
            let desk = self.desks.get(&seat.connection);
            assert!(desk.is_some_and(|desk| desk.member() == worker), "{worker} is elsewhere");
        }
        let members = self.board.halls().check_invariants(Some(&self.desks));
        let at_home = self.desks.values().filter(|desk| desk.home().is_some()).count();
        assert_eq!(members, at_home, "each is in one room");
    }
}

/// What the wall clock shows now.
fn unix(told: Option<(Instant, Duration)>, now: Instant) -> Option<Duration> {
    told.map(|(at, unix)| unix + now.saturating_duration_since(at))
}
