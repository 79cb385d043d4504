//! A small internet: one STUN server, the real matchmaker, workers behind NATs, one clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Action, Closing, ConnectionId, Input as ServerInput, Matchmaker, Observed, Protocol,
};
use holepunch_traversal::{Config, Event, Input, SocketId, StunServer, Traversal};
use holepunch_wire::WorkerId;
use holepunch_wire::signal::{FromServer, FromWorker, WorkerMessage};
use holepunch_wire::stun::{BindingRequest, BindingSuccess};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One way between any two hosts, and between a worker and the rendezvous.
const LATENCY: Duration = Duration::from_millis(20);
/// A NAT forgets a mapping that was idle for so long.
const MAPPING_LIFETIME: Duration = Duration::from_secs(30);
const STUN_SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 3478);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    None,
    EndpointIndependent,
    PortDependent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    None,
    PortDependent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NatKind {
    pub(crate) mapping: Mapping,
    pub(crate) filter: Filter,
}

/// A NAT with one inside socket. Its key is the destination, or nothing where the mapping does not
/// depend on it.
#[derive(Debug)]
struct Nat {
    kind: NatKind,
    public: Ipv4Addr,
    next_port: u16,
    /// Destination (or none) → external port, last use.
    mappings: BTreeMap<Option<SocketAddr>, (u16, Instant)>,
    /// (External port, outside address) → last packet outward.
    permitted: BTreeMap<(u16, SocketAddr), Instant>,
}

impl Nat {
    fn alive(at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) <= MAPPING_LIFETIME
    }

    fn outward(&mut self, to: SocketAddr, now: Instant) -> SocketAddr {
        let key = match self.kind.mapping {
            Mapping::None | Mapping::EndpointIndependent => None,
            Mapping::PortDependent => Some(to),
        };
        let known = self.mappings.get(&key).filter(|(_, at)| Self::alive(*at, now));
        let port = known.map_or_else(
            || {
                self.next_port += 7;
                self.next_port
            },
            |(port, _)| *port,
        );
        self.mappings.insert(key, (port, now));
        self.permitted.insert((port, to), now);
        SocketAddr::new(self.public.into(), port)
    }

    fn lets_in(&self, from: SocketAddr, port: u16, now: Instant) -> bool {
        let mapped =
            self.mappings.values().any(|(external, at)| *external == port && Self::alive(*at, now));
        let permitted = self.permitted.get(&(port, from)).is_some_and(|at| Self::alive(*at, now));
        mapped && (self.kind.filter == Filter::None || permitted)
    }
}

struct Host {
    /// One way to the rendezvous.
    to_server: Duration,
    id: WorkerId,
    machine: Traversal,
    nat: Nat,
    session: ConnectionId,
    registered: bool,
    dead: bool,
    log: Vec<(Instant, Event)>,
    reports: Vec<SocketAddr>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Parcel {
    /// A datagram on its way: from, to, bytes.
    Udp(SocketAddr, SocketAddr, Vec<u8>),
    /// A text frame to the rendezvous.
    ToServer(usize, String),
    /// A worker's answer to a ping of the rendezvous.
    Pong(ConnectionId),
    /// A text frame to a worker.
    ToWorker(usize, String),
}

pub(crate) struct World {
    now: Instant,
    rng: StdRng,
    loss_percent: u32,
    hosts: Vec<Host>,
    matchmaker: Matchmaker,
    parcels: BinaryHeap<Reverse<(Instant, u64, Parcel)>>,
    order: u64,
    sent: BTreeMap<SocketAddr, usize>,
    sessions: u64,
}

impl World {
    pub(crate) fn new(seed: u64, loss_percent: u32) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        Self {
            now: start,
            rng: StdRng::seed_from_u64(seed),
            loss_percent,
            hosts: Vec::new(),
            matchmaker: Matchmaker::new(
                holepunch_matchmaker::Config::default(),
                StdRng::seed_from_u64(seed),
            ),
            parcels: BinaryHeap::new(),
            order: 0,
            sent: BTreeMap::new(),
            sessions: 0,
        }
    }

    /// A worker that starts now.
    pub(crate) fn add(&mut self, name: &str, kind: NatKind) -> usize {
        self.add_far(name, kind, LATENCY)
    }

    /// A worker that starts now, so far away from the rendezvous, one way.
    pub(crate) fn add_far(&mut self, name: &str, kind: NatKind, to_server: Duration) -> usize {
        let index = self.hosts.len();
        let id = WorkerId::new(name).unwrap();
        let config = Config { profile: false, ..Config::new(id.clone()) };
        let machine = Traversal::new(config, StdRng::seed_from_u64(self.rng.random()));
        let public = Ipv4Addr::new(203, 0, 113, u8::try_from(index + 1).unwrap());
        let nat = Nat {
            kind,
            public,
            next_port: 4000,
            mappings: BTreeMap::new(),
            permitted: BTreeMap::new(),
        };
        self.hosts.push(Host {
            to_server,
            id,
            machine,
            nat,
            session: ConnectionId(0),
            registered: false,
            dead: false,
            log: Vec::new(),
            reports: Vec::new(),
        });
        self.drain(index);
        self.register(index);
        index
    }

    pub(crate) fn register(&mut self, index: usize) {
        self.sessions += 1;
        let session = ConnectionId(self.sessions);
        let host = &mut self.hosts[index];
        (host.session, host.registered) = (session, true);
        let observed = Observed { ip: host.nat.public.into(), port: Some(1) };
        let input = ServerInput::Connected {
            connection: session,
            worker: host.id.clone(),
            observed,
            protocol: Protocol::Baseline,
            room: None,
            challenge: String::new(),
            permit: Default::default(),
        };
        self.matchmaker.handle_input(input, self.now);
        self.host_input(index, Input::Registered);
    }

    pub(crate) fn unregister(&mut self, index: usize) {
        self.hosts[index].registered = false;
        let session = self.hosts[index].session;
        self.matchmaker.handle_input(
            ServerInput::Closed { connection: session, closing: Closing::Broken },
            self.now,
        );
        self.host_input(index, Input::Unregistered);
    }

    /// The process is gone: it neither sends nor hears.
    pub(crate) fn kill(&mut self, index: usize) {
        self.unregister(index);
        self.hosts[index].dead = true;
    }

    /// The NAT forgets everything and goes on at other ports.
    pub(crate) fn rebind(&mut self, index: usize) {
        let nat = &mut self.hosts[index].nat;
        nat.mappings.clear();
        nat.permitted.clear();
        nat.next_port += 1000;
    }

    /// A datagram arrives at a worker, past its NAT.
    pub(crate) fn inject(&mut self, index: usize, from: SocketAddr, text: String) {
        self.host_input(
            index,
            Input::Datagram { socket: SocketId::MAIN, from, payload: text.as_bytes() },
        );
    }

    pub(crate) fn sent_to(&self, to: SocketAddr) -> usize {
        self.sent.get(&to).copied().unwrap_or_default()
    }

    pub(crate) fn reports(&self, index: usize) -> &[SocketAddr] {
        &self.hosts[index].reports
    }

    pub(crate) fn count(&self, index: usize, is: impl Fn(&Event) -> bool) -> usize {
        self.hosts[index].log.iter().filter(|(_, event)| is(event)).count()
    }

    pub(crate) fn is_linked(&self, index: usize) -> bool {
        let changes = |event: &Event| match event {
            Event::LinkEstablished { .. } => Some(true),
            Event::PeerLost(..) | Event::LinkFailed { .. } => Some(false),
            _ => None,
        };
        self.hosts[index].log.iter().rev().find_map(|(_, event)| changes(event)).unwrap_or(false)
    }

    /// Time from the last offer to the link.
    pub(crate) fn link_time(&self, index: usize) -> Duration {
        let after = self.hosts[index].log.iter().rev().find_map(|(_, event)| match event {
            Event::LinkEstablished { after, .. } => Some(*after),
            _ => None,
        });
        after.expect("linked")
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Jumps from one thing that happens to the next.
    pub(crate) fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + time;
        while !done(self) {
            let parcel = self.parcels.peek().map(|Reverse((at, _, _))| *at);
            let wake = (0..self.hosts.len()).filter_map(|index| self.wake(index)).min();
            let server = self.matchmaker.poll_timeout().map(|(at, _)| at);
            let next = parcel.into_iter().chain(wake).chain(server).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            assert!(next >= self.now, "no machine asks for the past");
            self.now = next;
            self.step();
        }
    }

    fn wake(&self, index: usize) -> Option<Instant> {
        let host = &self.hosts[index];
        host.machine.poll_timeout().filter(|_| !host.dead).map(|(at, _)| at)
    }

    fn step(&mut self) {
        while self.parcels.peek().is_some_and(|Reverse((at, _, _))| *at <= self.now) {
            let Some(Reverse((_, _, parcel))) = self.parcels.pop() else { return };
            self.deliver(parcel);
        }
        self.matchmaker.handle_timeout(self.now);
        self.drain_matchmaker();
        for index in 0..self.hosts.len() {
            if self.wake(index).is_some_and(|at| at <= self.now) {
                self.hosts[index].machine.handle_timeout(self.now);
                let again = self.wake(index).is_some_and(|at| at <= self.now);
                assert!(!again, "a machine that was just called has nothing left for this moment");
                self.drain(index);
            }
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Udp(from, STUN_SERVER, payload) => {
                let Ok(request) = BindingRequest::parse(&payload) else { return };
                let origin = STUN_SERVER;
                let answer = BindingSuccess { mapped: from, origin, other: None, proof: None };
                self.udp(STUN_SERVER, from, request.success(&answer));
            }
            Parcel::Udp(from, to, payload) => {
                let now = self.now;
                let reached = self.hosts.iter().position(|host| {
                    to.ip() == host.nat.public && host.nat.lets_in(from, to.port(), now)
                });
                if let Some(index) = reached {
                    self.host_input(
                        index,
                        Input::Datagram { socket: SocketId::MAIN, from, payload: &payload },
                    );
                }
            }
            Parcel::ToServer(index, text) => {
                let session = self.hosts[index].session;
                let message = FromWorker::parse(&text).unwrap();
                let input = ServerInput::Message { connection: session, message, proved: None };
                self.matchmaker.handle_input(input, self.now);
                self.drain_matchmaker();
            }
            Parcel::Pong(session) => {
                self.matchmaker.handle_input(ServerInput::Pong { connection: session }, self.now);
                self.drain_matchmaker();
            }
            Parcel::ToWorker(index, text) => {
                if let Ok(FromServer::Offer(Ok(offer))) = FromServer::parse(&text) {
                    self.host_input(index, Input::Offer(offer));
                }
            }
        }
    }

    fn drain_matchmaker(&mut self) {
        #[cfg(debug_assertions)]
        self.matchmaker.check_invariants();
        while let Some(transmit) = self.matchmaker.poll_transmit() {
            let index = self.hosts.iter().position(|host| host.session == transmit.connection);
            match (index, transmit.action) {
                (
                    Some(index),
                    Action::Send(text) | Action::Update(_, _, text) | Action::Offer(text),
                ) => {
                    self.post(self.hosts[index].to_server, Parcel::ToWorker(index, text));
                }
                (Some(_), Action::Ping) => {
                    self.post(LATENCY * 2, Parcel::Pong(transmit.connection));
                }
                (Some(_), Action::Close(reason)) => {
                    panic!("the world closes nobody: {reason}")
                }
                (None, _) => {}
            }
        }
    }

    fn host_input(&mut self, index: usize, input: Input<'_>) {
        if !self.hosts[index].dead {
            self.hosts[index].machine.handle_input(input, self.now);
            self.drain(index);
        }
    }

    fn drain(&mut self, index: usize) {
        #[cfg(debug_assertions)]
        self.hosts[index].machine.check_invariants();
        while let Some(event) = self.hosts[index].machine.poll_event() {
            match &event {
                Event::Resolve => {
                    let name = "stun.test:3478".to_owned();
                    let server = StunServer::at(name, STUN_SERVER);
                    let input = Input::Resolved(Ok(vec![server]));
                    self.hosts[index].machine.handle_input(input, self.now);
                }
                Event::Report(endpoint) => {
                    self.hosts[index].reports.push(*endpoint);
                    let text = WorkerMessage::report(*endpoint).encode();
                    self.post(self.hosts[index].to_server, Parcel::ToServer(index, text));
                }
                _ => {}
            }
            self.hosts[index].log.push((self.now, event));
        }
        while let Some(transmit) = self.hosts[index].machine.poll_transmit() {
            *self.sent.entry(transmit.to).or_default() += 1;
            let from = self.hosts[index].nat.outward(transmit.to, self.now);
            self.udp(from, transmit.to, transmit.payload);
        }
    }

    fn udp(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        if self.rng.random_range(0..100) >= self.loss_percent {
            self.post(LATENCY * 2, Parcel::Udp(from, to, payload));
        }
    }

    fn post(&mut self, after: Duration, parcel: Parcel) {
        self.order += 1;
        self.parcels.push(Reverse((self.now + after, self.order, parcel)));
    }
}
