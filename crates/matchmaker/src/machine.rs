//! One rendezvous: its desks, the halls that it owns, and the way to the others, where there are any.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::SessionId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::{ASKED_AGAIN_AFTER, Packet, Reply, Request, Store, Switch, SwitchOut};
use crate::desk::{Answer, Arrival, Desk, Out, Question, Surroundings, WakeReason};
use crate::doors::{
    Action, Config, ConnectionId, DropReason, Event, Input, LeaveReason, NotAdmitted, Protocol,
    Told, Transmit, Worker,
};
use crate::halls::Halls;
use crate::seat::{InstanceId, Seat};

/// The pairing machine of one rendezvous.
#[derive(Debug)]
pub struct Matchmaker {
    config: Config,
    rng: StdRng,
    desks: BTreeMap<ConnectionId, Desk>,
    /// Those of whom the store has not said yet whether they may connect.
    arriving: BTreeMap<ConnectionId, Arrival>,
    halls: Halls,
    switch: Switch,
    /// Its own, where there is no other rendezvous.
    store: Option<Store>,
    /// What the store has not answered, and when it was asked.
    asked: BTreeMap<u64, (Request, Instant)>,
    next_request: u64,
    requests: VecDeque<(u64, Request)>,
    packets: VecDeque<(InstanceId, Packet)>,
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
    pub fn new(config: Config, rng: StdRng) -> Self {
        Self { store: Some(Store::default()), ..Self::with(Switch::alone(), config, rng) }
    }

    /// One of several, which has a store in common with the others.
    #[must_use]
    pub fn of_several(own: InstanceId, config: Config, rng: StdRng, now: Instant) -> Self {
        Self::with(Switch::new(own, now), config, rng)
    }

    fn with(switch: Switch, config: Config, mut rng: StdRng) -> Self {
        Self {
            halls: Halls::new(config.relay.clone(), StdRng::from_seed(rng.random())),
            config,
            rng,
            desks: BTreeMap::new(),
            arriving: BTreeMap::new(),
            switch,
            store: None,
            asked: BTreeMap::new(),
            next_request: 0,
            requests: VecDeque::new(),
            packets: VecDeque::new(),
            due: BTreeSet::new(),
            wall_clock: None,
            ended: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Its number, by which the others know it. It has another one after it has lost its lease.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.switch.own()
    }

    /// Whether what comes from this connection has to wait for an answer of the store.
    #[must_use]
    pub fn is_busy(&self, connection: ConnectionId) -> bool {
        let desk = self.desks.get(&connection);
        self.arriving.contains_key(&connection) || desk.is_some_and(Desk::is_busy)
    }

    /// Takes what happened on a socket.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        if let Input::WallClock { unix } = input {
            // Before what is due, which may need it; it comes with every call, which sees to what is due by itself.
            self.wall_clock = Some((now, unix));
            self.halls.wall_clock(unix, now);
            return;
        }
        self.handle_timeout(now);
        self.take(input, now);
        self.settle(now);
    }

    fn take(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Connected { connection, worker, observed, protocol, room, challenge } => {
                let arrival = Arrival { worker, observed, protocol, room, challenge };
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
                self.halls.relay_changed((session, end), is_open, now);
            }
            Input::Closed { connection, .. } if self.arriving.remove(&connection).is_some() => {}
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
        self.switch.handle_timeout(&mut self.halls, now);
        self.ask_again(now);
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
        let switch = self.switch.poll_timeout().map(|at| (at, WakeReason::Switch));
        let asked = self.asked.values().map(|(_, at)| *at + ASKED_AGAIN_AFTER).min();
        let asked = asked.map(|at| (at, WakeReason::Switch));
        let halls = self.halls.poll_timeout();
        desk.into_iter().chain(halls).chain(switch).chain(asked).min_by_key(|(at, _)| *at)
    }

    /// The next question to the store, by its number; the same one again where no answer has come.
    pub fn poll_request(&mut self) -> Option<(u64, Request)> {
        self.requests.pop_front()
    }

    /// The store has answered.
    pub fn handle_reply(&mut self, number: u64, reply: Reply, now: Instant) {
        self.handle_timeout(now);
        // One that comes twice, or was given up, is none.
        if let Some((request, asked_at)) = self.asked.remove(&number) {
            self.reply((&request, asked_at), reply, now);
        }
        self.settle(now);
    }

    /// The next packet to another instance.
    pub fn poll_packet(&mut self) -> Option<(InstanceId, Packet)> {
        self.packets.pop_front()
    }

    /// A packet came from another instance.
    pub fn handle_packet(&mut self, from: InstanceId, packet: Packet, now: Instant) {
        self.handle_timeout(now);
        let is_here = |connection| self.desks.contains_key(&connection);
        self.switch.receive(from, packet, is_here, &mut self.halls, now);
        self.settle(now);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Told> {
        self.events.pop_front()
    }

    /// Every registered worker, by connection.
    pub fn workers(&self) -> impl Iterator<Item = Worker<'_>> {
        self.desks.values().filter_map(Desk::seen)
    }

    /// Every registered worker behind this id, or every one at all, by id.
    pub fn workers_after(&self, id: Option<&WorkerId>) -> impl Iterator<Item = Worker<'_>> {
        let seats = self.store.iter().flat_map(move |store| store.registry.seats_after(id));
        seats.filter_map(|seat| self.desks.get(&seat.connection)?.seen())
    }

    /// How many workers are registered, and how many of them wait for a peer.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let count = self.store.as_ref().map(|store| store.registry.count());
        (count.unwrap_or(self.desks.len()), self.halls.ready_count())
    }

    /// The workers that wait for a peer, room by room, the longest waiter first.
    pub fn ready(&self) -> impl Iterator<Item = &WorkerId> {
        self.halls.ready()
    }

    /// The sessions of the halls that are here: their number, and both workers, with whether each is connected.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, [(&WorkerId, bool); 2])> {
        self.halls.sessions()
    }

    /// Whether there is room for `worker`, which comes from `ip`, as far as that is known here: see [`Registry::admits`](crate::Registry::admits).
    ///
    /// # Errors
    /// All places are taken, or those of its address or site.
    pub fn admits(&self, worker: &WorkerId, ip: IpAddr) -> Result<(), NotAdmitted> {
        let store = self.store.as_ref();
        store.map_or(Ok(()), |store| store.registry.admits(worker, ip, &self.config))
    }

    fn connected(&mut self, connection: ConnectionId, arrival: Arrival, now: Instant) {
        if self.ended {
            return self.send_close(connection, CloseReason::ShuttingDown);
        }
        let (worker, ip) = (arrival.worker.clone(), arrival.observed.ip);
        self.arriving.insert(connection, arrival);
        let seat = self.seat(connection);
        self.request(Request::Arrive { seat, worker, ip }, now);
    }

    /// The store has said whether a connection may be.
    fn arrived(
        &mut self,
        connection: ConnectionId,
        arrival: Arrival,
        needs_proof: Result<bool, NotAdmitted>,
        now: Instant,
    ) {
        let needs_proof = match needs_proof {
            Ok(needs_proof) => needs_proof,
            Err(why) => {
                let reason = why.close_reason();
                self.events.push_back(Event::Refused(arrival.worker, reason).told(arrival.room));
                return self.send_close(connection, reason);
            }
        };
        if needs_proof && arrival.protocol != Protocol::V1 {
            let reason = CloseReason::NeedsV1;
            let (worker, ip) = (arrival.worker, arrival.observed.ip);
            self.events.push_back(Event::Refused(worker.clone(), reason).told(arrival.room));
            self.send_close(connection, reason);
            return self.release(connection, (worker, ip), (false, false), now);
        }
        let at = Surroundings { config: &self.config, now, unix: unix(self.wall_clock, now) };
        let desk = Desk::new((arrival, needs_proof), &mut self.rng, at);
        self.due.extend(desk.poll_timeout().map(|(at, _)| (at, connection)));
        self.desks.insert(connection, desk);
        self.at_desk(connection, now, |_, _| {});
    }

    fn release(
        &mut self,
        connection: ConnectionId,
        (worker, ip): (WorkerId, IpAddr),
        (outlives, has_sessions): (bool, bool),
        now: Instant,
    ) {
        let seat = self.seat(connection);
        self.request(Request::Release { seat, worker, ip, outlives, has_sessions }, now);
    }

    fn send_close(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.transmits.push_back(Transmit { connection, action: Action::Close(reason) });
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
            let seat = self.seat(connection);
            match out {
                Out::Act(action) => self.transmits.push_back(Transmit { connection, action }),
                Out::Command(room, command) => {
                    self.switch.command((seat, room), command, &mut self.halls, now);
                }
                Out::Ask(Question::Claim(key)) => {
                    self.request(Request::Claim { seat, worker, ip, key, again: None }, now);
                }
                Out::Ask(Question::Reclaim(key, before)) => {
                    let again = Some(before);
                    self.request(Request::Claim { seat, worker, ip, key, again }, now);
                }
                Out::Ask(Question::Find(worker)) => {
                    self.request(Request::Find { seat, worker }, now);
                }
                Out::Is(is) => self.request(Request::Is { seat, worker, is }, now),
                Out::Gone { outlives, has_sessions } => {
                    self.release(connection, (worker, ip), (outlives, has_sessions), now);
                }
                Out::Event(event) => self.events.push_back(event),
            }
            // In this order, since what a hall says may be an answer.
            self.settle_events();
        }
    }

    /// Asks the store, which answers at once where it is this one's own.
    fn request(&mut self, request: Request, now: Instant) {
        if let Some(store) = &mut self.store {
            let reply = store.answer(self.switch.own(), request.clone(), &self.config, now);
            return self.reply((&request, now), reply, now);
        }
        self.next_request += 1;
        self.requests.push_back((self.next_request, request.clone()));
        self.asked.insert(self.next_request, (request, now));
    }

    fn reply(&mut self, (request, asked_at): (&Request, Instant), reply: Reply, now: Instant) {
        match reply {
            Reply::Renewed { .. } | Reply::Owner { .. } => {
                self.switch.reply((&reply, asked_at), &mut self.halls, now);
            }
            Reply::Arrived(Seat { connection, .. }, needs_proof) => {
                if let Some(arrival) = self.arriving.remove(&connection) {
                    self.arrived(connection, arrival, needs_proof, now);
                } else if let (Ok(_), Request::Arrive { worker, ip, .. }) = (needs_proof, request) {
                    // It has gone meanwhile.
                    self.release(connection, (worker.clone(), *ip), (false, false), now);
                }
            }
            Reply::Claimed(Seat { connection, .. }, claimed) => {
                if let Some(old) = claimed.as_ref().ok().and_then(|claimed| claimed.replaced) {
                    self.switch.replaced(old, now);
                    self.settle_switch(now);
                }
                self.at_desk(connection, now, |desk, at| desk.answer(Answer::Claim(claimed), at));
            }
            Reply::Found(Seat { connection, .. }, found) => {
                self.at_desk(connection, now, |desk, at| desk.answer(Answer::Found(found), at));
            }
            Reply::Done => {}
        }
    }

    /// What the store has not answered in time is asked again. (The switchboard sees to the lease and to owners by itself: an
    /// answer to what it asked long ago says nothing of now.)
    fn ask_again(&mut self, now: Instant) {
        let is_late = |_: &u64, (_, at): &mut (Request, Instant)| *at + ASKED_AGAIN_AFTER <= now;
        let late: Vec<_> = self.asked.extract_if(.., is_late).collect();
        for (number, (request, _)) in late {
            if !matches!(request, Request::Renew | Request::Own { .. }) {
                self.requests.push_back((number, request.clone()));
                self.asked.insert(number, (request, now));
            }
        }
    }

    /// What the halls have said goes to the desks, until nobody has anything to say.
    fn settle(&mut self, now: Instant) {
        self.settle_events();
        loop {
            if let Some((room, to, effect)) = self.halls.poll_effect() {
                self.switch.effect(room, to, effect, now);
            } else if !self.settle_switch(now) {
                break;
            }
        }
        for room in self.halls.emptied() {
            self.switch.forget_if_unused(&room, &self.halls);
        }
        self.settle_switch(now);
        self.settle_events();
    }

    /// What the switchboard wants done; whether there was anything.
    fn settle_switch(&mut self, now: Instant) -> bool {
        let mut has_any = false;
        while let Some(out) = self.switch.poll() {
            has_any = true;
            match out {
                SwitchOut::Effect(connection, room, effect) => {
                    self.at_desk(connection, now, |desk, at| desk.effect(&room, effect, at));
                }
                SwitchOut::Rejoin(connection, room) => {
                    self.at_desk(connection, now, |desk, _| desk.rejoin(&room));
                }
                SwitchOut::Rewant(connection, room) => {
                    self.at_desk(connection, now, |desk, at| desk.want_again(&room, at));
                }
                SwitchOut::Again(connection, room, command) => {
                    self.at_desk(connection, now, |desk, _| desk.say_again(room, command));
                }
                SwitchOut::Replaced(connection) => self.at_desk(connection, now, |desk, _| {
                    desk.close(CloseReason::Replaced, LeaveReason::Replaced);
                }),
                SwitchOut::Reclaim(instance) => self.reclaim(instance, now),
                SwitchOut::Store(request) => self.request(request, now),
                SwitchOut::Send(to, packet) => self.packets.push_back((to, packet)),
            }
        }
        has_any
    }

    fn reclaim(&mut self, instance: InstanceId, now: Instant) {
        for seat in self.asked.values_mut().filter_map(|(request, _)| request.seat_mut()) {
            seat.instance = self.switch.own();
        }
        for connection in self.desks.keys().copied().collect::<Vec<_>>() {
            let before = Seat { instance, connection };
            self.at_desk(connection, now, |desk, _| desk.reclaim(before));
        }
    }

    fn settle_events(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.halls.poll_event()));
    }

    /// Where a connection is, for the others.
    fn seat(&self, connection: ConnectionId) -> Seat {
        Seat { instance: self.switch.own(), connection }
    }

    fn shutdown(&mut self, now: Instant) {
        self.ended = true;
        let connections: Vec<ConnectionId> = self.desks.keys().copied().collect();
        for connection in connections {
            self.at_desk(connection, now, |desk, _| {
                desk.close(CloseReason::ShuttingDown, LeaveReason::Shutdown);
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
        assert!(!self.ended || self.desks.is_empty(), "somebody is here after the end");
        assert_eq!(self.due.len(), self.desks.len(), "each has one time");
        let Some(store) = &self.store else {
            // What a hall knows of a desk is of a moment ago, and that may be elsewhere.
            self.halls.check_invariants(None);
            return;
        };
        let holders = self.desks.iter().map(|(id, desk)| (self.seat(*id), desk.ip()));
        for (worker, seat) in store.registry.check_invariants(holders) {
            let desk = self.desks.get(&seat.connection);
            assert!(desk.is_some_and(|desk| desk.worker() == worker), "{worker} is elsewhere");
        }
        let members = self.halls.check_invariants(Some(&self.desks));
        let at_home = self.desks.values().filter(|desk| desk.home().is_some()).count();
        assert_eq!(members, at_home, "each is in one room");
    }
}

/// What the wall clock shows now.
fn unix(told: Option<(Instant, Duration)>, now: Instant) -> Option<Duration> {
    told.map(|(at, unix)| unix + now.saturating_duration_since(at))
}
