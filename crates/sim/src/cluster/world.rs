//! The world: instances, a store, the ways between them, and workers, under one clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Action, Closing, Config, ConnectionId, Epoch, Input, InstanceId, Matchmaker, Packet, Permit,
    Reply, Request, Room, Store,
};
use holepunch_wire::session::SessionId;
use holepunch_wire::tenant::Tenant;

use super::faults::{Fault, Faults};
use super::worker::{self, Worker};
use super::{Broken, Chance, Setting};

/// Time with faults, and time after them in which everything has to come right.
pub(super) const TROUBLE: Duration = Duration::from_secs(120);
const PEACE: Duration = Duration::from_secs(100);
const LOG_MAX: usize = 400;
/// Every third worker is of another tenant where there are so many: at least two, and four others.
const TWO_TENANTS_FROM: usize = 6;

#[derive(Debug)]
pub(super) enum Happening {
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
    /// A worker calls another one, until that is answered.
    Call(usize, usize),
    /// A worker does something by itself.
    Whim(usize),
    Fault(Fault),
}

pub(super) struct Instance {
    pub(super) machine: Matchmaker,
    /// What has come while it stands still.
    pub(super) backlog: VecDeque<Happening>,
    /// What has come on a connection that waits for the store.
    pub(super) held: BTreeMap<ConnectionId, VecDeque<String>>,
    pub(super) born: u64,
}

impl Instance {
    pub(super) fn new(
        (number, born): (usize, u64),
        setting: &Setting,
        config: &Config,
        chance: &mut Chance,
        now: Instant,
    ) -> Self {
        // One that is born anew is another process.
        let own = InstanceId(born * setting.instances as u64 + number as u64);
        let machine = Matchmaker::of_several(own, config.clone(), chance.rng(), now);
        Self { machine, backlog: VecDeque::new(), held: BTreeMap::new(), born }
    }
}

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) chance: Chance,
    pub(super) setting: Setting,
    pub(super) config: Config,
    pub(super) instances: Vec<Instance>,
    pub(super) workers: Vec<Worker>,
    pub(super) connections: BTreeMap<ConnectionId, usize>,
    pub(super) store: Store,
    pub(super) faults: Faults,
    pub(super) happenings: BTreeMap<(Instant, u64), Happening>,
    order: u64,
    pub(super) next_connection: u64,
    pub(super) sessions: usize,
    /// Since when a hall has had a worker in a session of which the worker does not know.
    pub(super) unheard: BTreeMap<(SessionId, usize), Instant>,
    /// The last owner of each room.
    pub(super) owners: BTreeMap<Room, (Epoch, usize)>,
    log: VecDeque<String>,
    broken: Option<String>,
}

impl World {
    pub(super) fn new(setting: Setting, mut chance: Chance) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let config = Config::default();
        let numbers = 0..setting.instances;
        let instances =
            numbers.map(|number| Instance::new((number, 0), &setting, &config, &mut chance, start));
        let instances = instances.collect();
        let rooms = worker::ROOMS[chance.below(worker::ROOMS.len() as u64) as usize];
        let named = Tenant::new("t").expect("invariant: a valid name");
        let [unnamed, named] =
            [Tenant::Unnamed, named].map(|tenant| Arc::new(Permit { tenant, ..Permit::default() }));
        // In the same rooms as the others, where there are enough.
        let is_apart = |number: usize| setting.workers >= TWO_TENANTS_FROM && number % 3 == 2;
        let permit = |number| Arc::clone(if is_apart(number) { &named } else { &unnamed });
        let numbers = (0..setting.workers).map(|number| (number, permit(number)));
        let workers = numbers.map(|it| Worker::new(it, rooms, &mut chance)).collect();
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
            unheard: BTreeMap::new(),
            owners: BTreeMap::new(),
            log: VecDeque::new(),
            broken: None,
        };
        for worker in 0..setting.workers {
            let after = world.chance.ms(0, 20_000);
            world.after(after, Happening::Connect(worker));
            world.whim(worker);
        }
        world.plan_faults();
        world
    }

    pub(super) fn run(&mut self) -> Result<usize, Broken> {
        let end = self.start + TROUBLE + PEACE;
        loop {
            let machines = self.instances.iter().enumerate();
            let awake = machines.filter(|(number, _)| !self.faults.stands_still(*number));
            let timeout = awake.filter_map(|(_, it)| it.machine.poll_timeout()).map(|(at, _)| at);
            let happening = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timeout.chain(happening).min().filter(|at| *at <= end) else { break };
            if next < self.now && self.faults.still.is_empty() {
                self.broken("a machine asks for the past");
            }
            self.now = next.max(self.now);
            self.step();
            self.check();
            self.verdict()?;
        }
        self.now = end;
        self.check_peace();
        self.verdict().map(|()| self.sessions)
    }

    fn verdict(&mut self) -> Result<(), Broken> {
        let Some(what) = self.broken.take() else { return Ok(()) };
        let after = self.now.saturating_duration_since(self.start);
        Err(Broken { after, what, log: self.log.iter().cloned().collect() })
    }

    fn step(&mut self) {
        while let Some(entry) = self.happenings.first_entry().filter(|it| it.key().0 <= self.now) {
            let happening = entry.remove();
            self.happen(happening);
        }
        for number in 0..self.instances.len() {
            let machine = &mut self.instances[number].machine;
            let is_due = machine.poll_timeout().is_some_and(|(at, _)| at <= self.now);
            if is_due && !self.faults.stands_still(number) {
                machine.handle_timeout(self.now);
                self.drain(number);
            }
        }
        self.faults.back_up(&self.store, self.now);
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Frame(number, ..)
            | Happening::Pong(number, _)
            | Happening::Closed(number, ..)
            | Happening::Reply(number, ..)
                if self.faults.stands_still(number) =>
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
                self.reply(number, (instance, id), reply);
            }
            Happening::Connect(worker) => self.connect(worker),
            Happening::Report(worker, session) => self.report_link(worker, session),
            Happening::Call(worker, other) => self.call(worker, other),
            Happening::Whim(worker) => self.act_by_itself(worker),
            Happening::Fault(fault) => self.fault(fault),
        }
    }

    pub(super) fn after(&mut self, after: Duration, happening: Happening) {
        self.order += 1;
        self.happenings.insert((self.now + after, self.order), happening);
    }

    pub(super) fn note(&mut self, line: String) {
        if self.log.len() >= LOG_MAX {
            self.log.pop_front();
        }
        let at = self.now.saturating_duration_since(self.start).as_secs_f64();
        self.log.push_back(format!("{at:9.3} {line}"));
    }

    pub(super) fn broken(&mut self, what: &str) {
        self.broken.get_or_insert_with(|| what.to_owned());
    }
}
