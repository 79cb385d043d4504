//! The world: instances, a store, the ways between them, and workers.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Action, Closing, Config, ConnectionId, Input, InstanceId, LEASE, Matchmaker, Observed, Packet,
    Protocol, Reply, Request, Store,
};
use holepunch_wire::WorkerId;
use holepunch_wire::session::{RoomName, SessionId};
use holepunch_wire::signal::FromWorker;

use super::faults::{Fault, Faults};
use super::worker::{Heard, Worker};
use super::{Broken, Chance, Failing, Setting};

/// Time with faults, and time after them in which everything has to come right.
const TROUBLE: Duration = Duration::from_secs(120);
const PEACE: Duration = Duration::from_secs(100);
/// What one worker knows of a pair, the other one knows by then, or the first is told: the longest that a session waits for
/// a worker, and the longest that the instances need to find each other.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// A worker whose session has no link by then leaves it.
const GIVES_UP_AFTER: Duration = Duration::from_secs(40);
const AWAY_MAX: Duration = Duration::from_secs(4);
const LOG_MAX: usize = 400;

#[derive(Debug)]
enum Happening {
    /// To an instance, on a connection.
    Frame(usize, ConnectionId, String),
    Pong(usize, ConnectionId),
    Closed(usize, ConnectionId, Closing),
    /// To a worker.
    Action(usize, ConnectionId, Action),
    Packet(InstanceId, InstanceId, Packet),
    Request(usize, InstanceId, u64, Box<Request>),
    Reply(usize, InstanceId, u64, Reply),
    Connect(usize),
    Report(usize, SessionId),
    /// A worker does something by itself.
    Whim(usize),
    Fault(Fault),
}

struct Instance {
    machine: Matchmaker,
    /// What has come while it stands still.
    backlog: VecDeque<Happening>,
    /// What has come on a connection that waits for the store.
    held: BTreeMap<ConnectionId, VecDeque<String>>,
    born: u64,
}

pub(super) struct World {
    start: Instant,
    now: Instant,
    chance: Chance,
    setting: Setting,
    config: Config,
    instances: Vec<Instance>,
    workers: Vec<Worker>,
    connections: BTreeMap<ConnectionId, usize>,
    store: Store,
    faults: Faults,
    happenings: BTreeMap<(Instant, u64), Happening>,
    order: u64,
    next_connection: u64,
    sessions: usize,
    log: VecDeque<String>,
    broken: Option<String>,
}

impl World {
    pub(super) fn new(setting: Setting, mut chance: Chance) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let config = Config::default();
        let machine = |number: usize, chance: &mut Chance| Instance {
            machine: Matchmaker::of_several(
                InstanceId(number as u64),
                config.clone(),
                chance.rng(),
                start,
            ),
            backlog: VecDeque::new(),
            held: BTreeMap::new(),
            born: 0,
        };
        let instances = (0..setting.instances).map(|number| machine(number, &mut chance)).collect();
        let workers = (0..setting.workers).map(|number| {
            let protocol = if chance.is(25) { Protocol::Baseline } else { Protocol::V1 };
            let room = if protocol == Protocol::V1 {
                ["", "r", "s"][chance.below(3) as usize]
            } else {
                ""
            };
            Worker::new(number, protocol, room)
        });
        let workers = workers.collect();
        let mut world = Self {
            start,
            now: start,
            chance,
            setting,
            config: config.clone(),
            instances,
            workers,
            connections: BTreeMap::new(),
            store: Store::default(),
            faults: Faults::default(),
            happenings: BTreeMap::new(),
            order: 0,
            next_connection: 1,
            sessions: 0,
            log: VecDeque::new(),
            broken: None,
        };
        world.plan();
        world
    }

    /// What is to happen, from the beginning.
    fn plan(&mut self) {
        for worker in 0..self.setting.workers {
            let after = self.chance.ms(0, 20_000);
            self.after(after, Happening::Connect(worker));
            self.whim(worker);
        }
        if self.setting.faults.is_empty() {
            return;
        }
        let n = self.setting.instances as u64;
        for _ in 0..self.chance.below(8) {
            let at = self.chance.ms(0, 110_000);
            let lasts = self.chance.ms(50, 20_000);
            let one = self.chance.below(n) as usize;
            let other = self.chance.below(n) as usize;
            let kind = self.chance.below(self.setting.faults.len() as u64) as usize;
            let (begins, ends) = match self.setting.faults[kind] {
                Failing::Fabric => (Fault::Lossy(true), Some(Fault::Lossy(false))),
                Failing::Partition if one == other => continue,
                Failing::Partition => {
                    (Fault::Cut(one, other, true), Some(Fault::Cut(one, other, false)))
                }
                Failing::Store => (Fault::Store(true), Some(Fault::Store(false))),
                Failing::FailOver => (Fault::FailOver, None),
                Failing::Pause => (Fault::Still(one, true), Some(Fault::Still(one, false))),
                Failing::Crash => (Fault::Crash(one), None),
                Failing::Connection => {
                    let worker = self.chance.below(self.setting.workers as u64);
                    (Fault::Break(worker as usize), None)
                }
            };
            let lasts = if matches!(begins, Fault::Still(..)) && self.chance.is(30) {
                lasts * 3
            } else {
                lasts
            };
            let end = (at + lasts).min(TROUBLE);
            self.after(at, Happening::Fault(begins));
            ends.into_iter().for_each(|fault| self.after(end, Happening::Fault(fault)));
        }
    }

    pub(super) fn run(&mut self) -> Result<usize, Broken> {
        let end = self.start + TROUBLE + PEACE;
        loop {
            let machines = self.instances.iter().enumerate();
            let awake = machines.filter(|(number, _)| !self.faults.still.contains(number));
            let timeout = awake.filter_map(|(_, it)| it.machine.poll_timeout()).map(|(at, _)| at);
            let happening = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timeout.chain(happening).min().filter(|at| *at <= end) else { break };
            if next < self.now && self.faults.still.is_empty() {
                self.broken("a machine asks for the past");
            }
            self.now = next.max(self.now);
            self.step();
            self.check();
            if let Some(what) = self.broken.take() {
                return Err(self.verdict(what));
            }
        }
        self.now = end;
        self.check_peace();
        match self.broken.take() {
            Some(what) => Err(self.verdict(what)),
            None => Ok(self.sessions),
        }
    }

    fn verdict(&self, what: String) -> Broken {
        let after = self.now.saturating_duration_since(self.start);
        Broken { after, what, log: self.log.iter().cloned().collect() }
    }

    fn step(&mut self) {
        while let Some(entry) = self.happenings.first_entry().filter(|it| it.key().0 <= self.now) {
            let happening = entry.remove();
            self.happen(happening);
        }
        for number in 0..self.instances.len() {
            let machine = &mut self.instances[number].machine;
            let is_due = machine.poll_timeout().is_some_and(|(at, _)| at <= self.now);
            if is_due && !self.faults.still.contains(&number) {
                machine.handle_timeout(self.now);
                self.drain(number);
            }
        }
        self.faults.back_up(&self.store, self.now);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Frame(number, ..)
            | Happening::Pong(number, _)
            | Happening::Closed(number, ..)
            | Happening::Reply(number, ..)
                if self.faults.still.contains(&number) =>
            {
                self.instances[number].backlog.push_back(happening);
            }
            Happening::Frame(number, connection, text) => self.frame(number, connection, text),
            Happening::Pong(number, connection) => {
                self.input(number, Input::Pong { connection });
            }
            Happening::Closed(number, connection, before) => {
                let unsent = [before, self.closing(connection)].contains(&Closing::OfferUnsent);
                let closing = if unsent { Closing::OfferUnsent } else { Closing::Broken };
                self.instances[number].held.remove(&connection);
                self.input(number, Input::Closed { connection, closing });
            }
            Happening::Action(number, connection, action) => self.act(number, connection, action),
            Happening::Packet(from, to, packet) => self.packet(from, to, packet),
            Happening::Request(number, instance, id, request) => {
                self.request(number, (instance, id), *request);
            }
            Happening::Reply(number, instance, id, reply) => {
                let machine = &mut self.instances[number].machine;
                // One that has been born anew has asked for nothing.
                if machine.instance().0 >> 40 == instance.0 >> 40 {
                    machine.handle_reply(id, reply, self.now);
                    self.drain(number);
                }
            }
            Happening::Connect(worker) => self.connect(worker),
            Happening::Report(worker, session) => self.report_link(worker, session),
            Happening::Whim(worker) => self.act_by_itself(worker),
            Happening::Fault(fault) => self.fault(fault),
        }
    }

    fn input(&mut self, number: usize, input: Input<'_>) {
        self.instances[number].machine.handle_input(input, self.now);
        self.drain(number);
    }

    fn frame(&mut self, number: usize, connection: ConnectionId, text: String) {
        if self.instances[number].machine.is_busy(connection) {
            return self.instances[number].held.entry(connection).or_default().push_back(text);
        }
        if let Ok(message) = FromWorker::parse(&text) {
            self.input(number, Input::Message { connection, message, proved: None });
        }
    }

    /// What an instance has to say goes its ways.
    fn drain(&mut self, number: usize) {
        let way = Duration::from_millis(5);
        while let Some(transmit) = self.instances[number].machine.poll_transmit() {
            let (connection, action) = (transmit.connection, transmit.action);
            self.after(way, Happening::Action(number, connection, action));
        }
        let own = self.instances[number].machine.instance();
        while let Some((to, packet)) = self.instances[number].machine.poll_packet() {
            let copies = if self.chance.is(self.faults.lost) {
                0
            } else {
                1 + u64::from(self.chance.is(self.faults.doubled))
            };
            for _ in 0..copies {
                let late = self.chance.ms(1, 60);
                self.after(late, Happening::Packet(own, to, packet.clone()));
            }
        }
        while let Some((id, request)) = self.instances[number].machine.poll_request() {
            let late = self.chance.ms(1, 10);
            self.after(late, Happening::Request(number, own, id, Box::new(request)));
        }
        while self.instances[number].machine.poll_event().is_some() {}
        let instance = &mut self.instances[number];
        let free = instance
            .held
            .iter()
            .find(|(id, held)| !held.is_empty() && !instance.machine.is_busy(**id));
        if let Some(connection) = free.map(|(id, _)| *id)
            && let Some(text) = instance.held.get_mut(&connection).and_then(VecDeque::pop_front)
        {
            self.frame(number, connection, text);
        }
    }

    fn request(&mut self, number: usize, (instance, id): (InstanceId, u64), request: Request) {
        if self.faults.store_is_away {
            return;
        }
        let reply = self.store.answer(instance, request, &self.config, self.now);
        let late = self.chance.ms(1, 10);
        self.after(late, Happening::Reply(number, instance, id, reply));
    }

    fn packet(&mut self, from: InstanceId, to: InstanceId, packet: Packet) {
        let found = self.instances.iter().position(|it| it.machine.instance() == to);
        let (Some(number), sender) = (found, from.0 as u32 as usize % self.setting.instances)
        else {
            return;
        };
        if self.faults.are_cut(number, sender)
            || self.faults.still.contains(&number) && self.chance.is(50)
        {
            return;
        }
        if self.faults.still.contains(&number) {
            return self.instances[number].backlog.push_back(Happening::Packet(from, to, packet));
        }
        self.instances[number].machine.handle_packet(from, packet, self.now);
        self.drain(number);
    }

    fn connect(&mut self, worker: usize) {
        if self.workers[worker].at.is_some() {
            return;
        }
        let number = self.chance.below(self.setting.instances as u64) as usize;
        if self.faults.still.contains(&number) {
            let after = self.chance.ms(200, 2000);
            return self.after(after, Happening::Connect(worker));
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.insert(connection, worker);
        self.was_away(worker);
        let it = &mut self.workers[worker];
        it.at = Some((number, connection));
        let room = (it.protocol == Protocol::V1 && !it.room.is_empty())
            .then(|| RoomName::new(it.room).expect("invariant: a valid name"));
        let ip = [203, 0, 113, u8::try_from(worker).unwrap_or(255)].into();
        let input = Input::Connected {
            connection,
            worker: it.id.clone(),
            observed: Observed { ip, port: Some(1000) },
            protocol: it.protocol,
            room,
            challenge: String::new(),
        };
        let is_baseline = it.protocol == Protocol::Baseline;
        self.note(format!("w{worker} connects to {number} as {}", connection.0));
        self.input(number, input);
        if is_baseline {
            self.report(worker);
        }
    }

    /// A session whose worker is away for longer goes on without the rendezvous, which tells nobody.
    fn was_away(&mut self, worker: usize) {
        let is_long = |at: Instant| at + AWAY_MAX < self.now;
        if !self.workers[worker].lost_at.is_some_and(is_long) {
            return;
        }
        let id = self.workers[worker].id.clone();
        for other in &mut self.workers {
            let seen = other.sessions.values_mut().filter(|seen| seen.peer == id);
            seen.for_each(|seen| seen.is_unsure = true);
        }
    }

    fn report(&mut self, worker: usize) {
        let text = format!(
            r#"{{"type":"update_udp_endpoint","udp_ip":"203.0.113.{worker}","udp_port":4000}}"#
        );
        if self.workers[worker].sessions.is_empty() {
            self.workers[worker].wants_since.get_or_insert(self.now);
        }
        self.say(worker, text);
    }

    fn say(&mut self, worker: usize, text: String) {
        let Some((number, connection)) = self.workers[worker].at else { return };
        self.after(Duration::from_millis(5), Happening::Frame(number, connection, text));
    }

    /// Something comes to a worker.
    fn act(&mut self, number: usize, connection: ConnectionId, action: Action) {
        let Some(&worker) = self.connections.get(&connection) else { return };
        if self.workers[worker].at != Some((number, connection)) {
            return;
        }
        match action {
            Action::Ping => {
                self.after(Duration::from_millis(5), Happening::Pong(number, connection));
            }
            Action::Close(reason) => {
                self.note(format!("w{worker} is closed: {reason}"));
                self.lose(worker);
            }
            Action::Send(text) | Action::Offer(text) | Action::Update(_, _, text) => {
                match self.workers[worker].hear(&text, self.now) {
                    Heard::Welcome => self.hello(worker),
                    Heard::Offer(session, peer) => {
                        self.sessions += 1;
                        self.note(format!("w{worker} is offered {peer}: {session}"));
                        self.offered(worker, session);
                    }
                    Heard::Ended(session) => {
                        self.note(format!("w{worker}: {session} is over: {text}"))
                    }
                    Heard::Nothing => {}
                }
            }
        }
    }

    fn hello(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        let room =
            if it.room.is_empty() { String::new() } else { format!(r#","room":"{}""#, it.room) };
        let resume = it.resume.clone().map(|token| format!(r#","resume":"{token}""#));
        if resume.is_none() {
            it.sessions.clear();
        }
        self.say(worker, format!(r#"{{"type":"hello"{room}{}}}"#, resume.unwrap_or_default()));
        for session in self.workers[worker].left.clone() {
            self.say(worker, format!(r#"{{"type":"leave","session":"{session}"}}"#));
        }
        self.report(worker);
    }

    fn offered(&mut self, worker: usize, session: SessionId) {
        let others = self.workers[worker].sessions.len();
        if others > 1 {
            let all = self.workers[worker].sessions.clone();
            self.broken(&format!("w{worker} is in {others} pairs: {all:?}"));
        }
        self.after(Duration::from_millis(200), Happening::Report(worker, session));
    }

    /// A worker says what has become of a session: there is a link once both have it, and the worker gives up where there is none
    /// for too long.
    fn report_link(&mut self, worker: usize, session: SessionId) {
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
        self.workers[worker].left.insert(session);
        self.say(worker, format!(r#"{{"type":"leave","session":"{session}"}}"#));
        self.report(worker);
    }

    /// A worker's connection is gone.
    fn lose(&mut self, worker: usize) {
        let Some((number, connection)) = self.workers[worker].at.take() else { return };
        self.workers[worker].wants_since = None;
        self.workers[worker].lost_at = Some(self.now);
        self.workers[worker].sessions.values_mut().for_each(|seen| seen.is_unsure = true);
        let is_offer = |it: &Happening| matches!(it, Happening::Action(_, of, Action::Offer(_)) if *of == connection);
        let closing = match self.happenings.values().any(is_offer) {
            true => Closing::OfferUnsent,
            false => Closing::Broken,
        };
        self.after(Duration::from_millis(5), Happening::Closed(number, connection, closing));
        let after = self.chance.ms(100, 3000);
        self.after(after, Happening::Connect(worker));
    }

    /// In which way a connection has ended: a server knows of an offer that it has not sent.
    fn closing(&self, connection: ConnectionId) -> Closing {
        let is_offer = |it: &Happening| matches!(it, Happening::Action(_, of, Action::Offer(_)) if *of == connection);
        match self.happenings.values().any(is_offer) {
            true => Closing::OfferUnsent,
            false => Closing::Broken,
        }
    }

    fn whim(&mut self, worker: usize) {
        let after = self.chance.ms(2_000, 40_000);
        self.after(after, Happening::Whim(worker));
    }

    fn act_by_itself(&mut self, worker: usize) {
        if self.now > self.start + TROUBLE {
            return;
        }
        self.whim(worker);
        let first = self.workers[worker].sessions.keys().next().copied();
        match (self.chance.below(4), first) {
            (0, Some(session)) if self.workers[worker].at.is_some() => {
                self.leave(worker, session);
            }
            (1, _) if self.workers[worker].protocol == Protocol::Baseline => self.report(worker),
            (2, _) => {
                self.note(format!("w{worker} loses its connection"));
                self.lose(worker);
            }
            _ => {}
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.note(format!("{fault:?}"));
        match fault {
            Fault::Lossy(begins) => {
                (self.faults.lost, self.faults.doubled) = if begins { (30, 20) } else { (0, 0) };
            }
            Fault::Cut(a, b, true) => drop(self.faults.cut.insert((a.min(b), a.max(b)))),
            Fault::Cut(a, b, false) => drop(self.faults.cut.remove(&(a.min(b), a.max(b)))),
            Fault::Store(is_away) => self.faults.store_is_away = is_away,
            Fault::FailOver => {
                if let Some((_, mut backup)) = self.faults.backup.take() {
                    backup.number = self.store.number + 1;
                    self.store = backup;
                }
            }
            Fault::Still(number, true) => drop(self.faults.still.insert(number)),
            Fault::Still(number, false) => {
                self.faults.still.remove(&number);
                for happening in std::mem::take(&mut self.instances[number].backlog) {
                    self.happen(happening);
                }
            }
            Fault::Crash(number) => self.crash(number),
            Fault::Break(worker) => self.lose(worker),
        }
    }

    fn crash(&mut self, number: usize) {
        self.faults.still.remove(&number);
        let born = self.instances[number].born + 1;
        let own = InstanceId(born << 40 | number as u64);
        let machine = Matchmaker::of_several(own, self.config.clone(), self.chance.rng(), self.now);
        self.instances[number] =
            Instance { machine, backlog: VecDeque::new(), held: BTreeMap::new(), born };
        for worker in 0..self.workers.len() {
            if self.workers[worker].at.is_some_and(|(at, _)| at == number) {
                self.lose(worker);
            }
        }
    }

    fn after(&mut self, after: Duration, happening: Happening) {
        self.order += 1;
        self.happenings.insert((self.now + after, self.order), happening);
    }

    fn note(&mut self, line: String) {
        if self.log.len() >= LOG_MAX {
            self.log.pop_front();
        }
        let at = self.now.saturating_duration_since(self.start).as_secs_f64();
        self.log.push_back(format!("{at:9.3} {line}"));
    }

    fn broken(&mut self, what: &str) {
        self.broken.get_or_insert_with(|| what.to_owned());
    }

    /// What must hold at every step.
    fn check(&mut self) {
        #[cfg(debug_assertions)]
        for instance in &self.instances {
            instance.machine.check_invariants();
        }
        let mut paired: BTreeMap<&WorkerId, SessionId> = BTreeMap::new();
        let mut broken = None;
        let awake =
            self.instances.iter().enumerate().filter(|(it, _)| !self.faults.still.contains(it));
        for (session, ends) in awake.flat_map(|(_, it)| it.machine.sessions()) {
            // In one of them, a worker may be that is said to be gone elsewhere.
            for (worker, _) in ends.iter().filter(|(_, is_here)| *is_here) {
                if let Some(other) = paired.insert(worker, session) {
                    broken = Some(format!("{worker} is in {session} and in {other}"));
                }
            }
        }
        for (number, worker) in self.workers.iter().enumerate() {
            for (session, seen) in worker.sessions.iter().filter(|(_, seen)| !seen.is_unsure) {
                let peer = self.workers.iter().find(|it| it.id == seen.peer);
                let knows = peer.is_some_and(|peer| peer.sessions.contains_key(session));
                // In trouble, nobody can be told.
                let settled_at = seen.since.max(self.start + TROUBLE) + SETTLED_WITHIN;
                if !knows && settled_at < self.now && worker.at.is_some() {
                    let peer = &seen.peer;
                    broken = Some(format!("w{number} has {session} with {peer}, which does not"));
                }
            }
        }
        broken.into_iter().for_each(|what| self.broken(&what));
    }

    /// What must hold after a time without faults.
    fn check_peace(&mut self) {
        let waits = |worker: &&Worker| {
            let since = worker.wants_since;
            worker.sessions.is_empty()
                && since.is_some_and(|at| at + LEASE + SETTLED_WITHIN / 2 < self.now)
        };
        for room in ["", "r", "s"] {
            let waiting: Vec<String> = self
                .workers
                .iter()
                .filter(|worker| worker.room == room)
                .filter(waits)
                .map(|worker| format!("{} ({:?})", worker.id, worker.protocol))
                .collect();
            if waiting.len() > 1 {
                return self.broken(&format!("these wait in room {room:?}: {waiting:?}"));
            }
        }
    }
}
