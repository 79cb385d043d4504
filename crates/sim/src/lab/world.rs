//! Two or more workers, a rendezvous and a STUN server in one simulated network, under one clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Action, Config as ServerConfig, ConnectionId, Input as ServerInput, Matchmaker, Observed,
    Protocol,
};
use holepunch_traversal::{Input, SessionStatus};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::{NatProfile, SearchWish};
use holepunch_wire::signal::FromWorker;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::worker::{Out, Record, Worker};
use crate::net::{Datagram, Delivery, HostId, Network};
use crate::presets::Site;
use crate::stun;

/// The STUN server's two addresses, and its ports on each.
const STUN_IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const STUN_PORTS: [u16; 4] = [3478, 3479, 3480, 3481];

/// A frame on its way.
#[derive(Debug)]
enum Frame {
    ToServer(usize, String),
    ToWorker(usize, String),
    /// The answer to a ping.
    Pong(usize),
}

/// The world.
pub struct World {
    now: Instant,
    rng: StdRng,
    /// The network, for those who want to disturb it.
    pub net: Network,
    matchmaker: Matchmaker,
    stun_host: HostId,
    stun_addresses: Vec<SocketAddr>,
    workers: Vec<Option<Worker>>,
    /// One way of signalling, of each worker.
    ways: Vec<Duration>,
    connections: BTreeMap<ConnectionId, usize>,
    frames: BTreeMap<(Instant, u64), Frame>,
    order: u64,
}

impl World {
    /// A world without workers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut net = Network::new(rng.random());
        let ips: Vec<IpAddr> = STUN_IPS.iter().copied().map(IpAddr::from).collect();
        let stun_host = net.add_server(&ips);
        // Each port on both addresses before the next port: the first two differ in their address.
        let stun_addresses = STUN_PORTS
            .iter()
            .flat_map(|port| ips.iter().map(|ip| SocketAddr::new(*ip, *port)))
            .collect::<Vec<_>>();
        let config = ServerConfig { stun: stun_addresses.clone(), ..ServerConfig::default() };
        let matchmaker = Matchmaker::new(config, StdRng::seed_from_u64(rng.random()));
        Self {
            now,
            rng,
            net,
            matchmaker,
            stun_host,
            stun_addresses,
            workers: Vec::new(),
            ways: Vec::new(),
            connections: BTreeMap::new(),
            frames: BTreeMap::new(),
            order: 0,
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Starts a worker on a host, `way` from the rendezvous. It registers as its first STUN request
    /// leaves: signalling takes a way there and one back before the welcome.
    pub fn start(
        &mut self,
        site: &Site,
        way: Duration,
        observed: IpAddr,
        wish: SearchWish,
        lie: Option<fn(&mut NatProfile)>,
    ) -> usize {
        let index = self.workers.len();
        let id = WorkerId::new(&format!("worker-{index}")).expect("invariant: a valid id");
        let addresses = self.net.addresses(site.host).to_vec();
        let servers = self.stun_addresses.clone();
        let seed = self.rng.random();
        let worker = Worker::new(&id, site.host, addresses, servers, (wish, lie), seed);
        self.workers.push(Some(worker));
        self.ways.push(way);
        let connection = ConnectionId(u64::try_from(index).unwrap_or(u64::MAX) + 1);
        self.connections.insert(connection, index);
        let observed = Observed { ip: observed, port: Some(1) };
        let input = ServerInput::Connected {
            connection,
            worker: id,
            observed,
            protocol: Protocol::V1,
            room: None,
            challenge: String::new(),
            permit: Arc::default(),
        };
        self.matchmaker.handle_input(input, self.now);
        self.with_worker(index, |worker, now| worker.settle_in(now));
        self.with_worker(index, |worker, now| worker.input(Input::Registered, now));
        self.drain_matchmaker();
        index
    }

    /// Keeps a log of a worker's events and frames.
    pub fn watch(&mut self, index: usize) {
        if let Some(worker) = &mut self.workers[index] {
            worker.log = Some(Vec::new());
        }
    }

    /// A worker's timers are late from now on: its machine is busy with other things.
    pub fn busy(&mut self, index: usize) {
        if let Some(worker) = &mut self.workers[index] {
            worker.is_busy = true;
        }
    }

    /// The log of a worker that is watched, with times since `start`.
    #[must_use]
    pub fn log(&self, index: usize, start: Instant) -> Vec<String> {
        let log = self.workers[index].as_ref().and_then(|worker| worker.log.as_ref());
        let line = |(at, text): &(Instant, String)| {
            format!("{:9.3} s {text}", at.saturating_duration_since(start).as_secs_f64())
        };
        log.map(|log| log.iter().map(line).collect()).unwrap_or_default()
    }

    pub(super) fn record_of(&self, index: usize) -> Option<&Record> {
        self.workers.get(index)?.as_ref().map(|worker| &worker.record)
    }

    pub(super) fn record(&self, index: usize) -> Record {
        self.workers[index].as_ref().map(|worker| worker.record.clone()).unwrap_or_default()
    }

    /// What a worker has learnt of its NAT.
    #[must_use]
    pub fn profile(&self, index: usize) -> NatProfile {
        let worker = self.workers[index].as_ref();
        worker.map(|worker| worker.machine.profile().clone()).unwrap_or_default()
    }

    /// How a worker's only session stands.
    #[must_use]
    pub fn status(&self, index: usize) -> Option<SessionStatus> {
        self.workers[index].as_ref()?.machine.sessions(self.now).next()
    }

    /// How all sessions of a worker stand.
    pub(super) fn statuses(&self, index: usize) -> Vec<SessionStatus> {
        let worker = self.workers[index].as_ref();
        worker.map(|worker| worker.machine.sessions(self.now).collect()).unwrap_or_default()
    }

    /// A host has other addresses from now on.
    pub fn moved(&mut self, index: usize, addresses: Vec<IpAddr>) {
        self.with_worker(index, |worker, now| worker.moved(addresses, now));
    }

    /// Lets time pass until `end`, or until `done`.
    pub fn run(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            let wake = self.workers.iter_mut().flatten().filter_map(Worker::wake_at).min();
            let frame = self.frames.first_key_value().map(|((at, _), _)| *at);
            let server = self.matchmaker.poll_timeout().map(|(at, _)| at);
            let times = [wake, frame, server, self.net.poll_timeout()];
            let next = times.into_iter().flatten().min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            assert!(next >= self.now, "no machine asks for the past");
            self.now = next;
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(entry) = self.frames.first_entry().filter(|it| it.key().0 <= self.now) {
            let frame = entry.remove();
            self.frame(frame);
        }
        self.net.handle_timeout(self.now);
        while let Some(delivery) = self.net.poll_delivery() {
            self.delivery(delivery);
        }
        if self.matchmaker.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.matchmaker.handle_timeout(self.now);
            self.drain_matchmaker();
        }
        for index in 0..self.workers.len() {
            let due = |worker: &mut Worker, now| worker.wake_at().is_some_and(|at| at <= now);
            if self.workers[index].as_mut().is_some_and(|worker| due(worker, self.now)) {
                self.with_worker(index, Worker::timeout);
                let worker = self.workers[index].as_ref();
                let left = worker.and_then(|worker| worker.machine.poll_timeout());
                let left = left.filter(|(at, _)| *at <= self.now);
                assert_eq!(left, None, "a machine that was just called has nothing left to do now");
            }
        }
    }

    fn delivery(&mut self, delivery: Delivery) {
        let Delivery { host, to, from, payload, .. } = delivery;
        if host == self.stun_host {
            let answer = stun::answer(&self.stun_addresses, &payload, from, to);
            if let Some(stun::Answer { from, to, payload }) = answer {
                let datagram = Datagram { from, to, ttl: 64, payload };
                self.net.send(host, datagram, self.now);
            }
            return;
        }
        let index =
            self.workers.iter().position(|it| it.as_ref().is_some_and(|it| it.host == host));
        if let Some(index) = index {
            self.with_worker(index, |worker, now| worker.datagram(to, from, &payload, now));
        }
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::ToServer(index, text) => {
                let Ok(message) = FromWorker::parse(&text) else { return };
                let connection = self.connection(index);
                let input = ServerInput::Message { connection, message, proved: None };
                self.matchmaker.handle_input(input, self.now);
                self.drain_matchmaker();
            }
            Frame::Pong(index) => {
                let connection = self.connection(index);
                self.matchmaker.handle_input(ServerInput::Pong { connection }, self.now);
                self.drain_matchmaker();
            }
            Frame::ToWorker(index, text) => {
                self.with_worker(index, |worker, now| worker.frame(&text, now));
            }
        }
    }

    fn connection(&self, index: usize) -> ConnectionId {
        ConnectionId(u64::try_from(index).unwrap_or(u64::MAX) + 1)
    }

    fn with_worker(&mut self, index: usize, act: impl FnOnce(&mut Worker, Instant) -> Vec<Out>) {
        let now = self.now;
        let Some(worker) = &mut self.workers[index] else { return };
        let host = worker.host;
        for out in act(worker, now) {
            match out {
                Out::Frame(text) => {
                    self.post(self.ways[index], Frame::ToServer(index, text));
                }
                Out::Udp(datagram) => self.net.send(host, datagram, now),
            }
        }
    }

    fn drain_matchmaker(&mut self) {
        #[cfg(debug_assertions)]
        self.matchmaker.check_invariants();
        while self.matchmaker.poll_event().is_some() {}
        while let Some(transmit) = self.matchmaker.poll_transmit() {
            let Some(&index) = self.connections.get(&transmit.connection) else { continue };
            let way = self.ways[index];
            match transmit.action {
                Action::Send(text) | Action::Offer(text) | Action::Update(_, _, text) => {
                    self.post(way, Frame::ToWorker(index, text));
                }
                Action::Ping => self.post(way * 2, Frame::Pong(index)),
                Action::Close(reason) => panic!("nobody is closed here: {reason}"),
            }
        }
    }

    fn post(&mut self, after: Duration, frame: Frame) {
        self.order += 1;
        self.frames.insert((self.now + after, self.order), frame);
    }
}
