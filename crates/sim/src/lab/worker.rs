//! One worker of the laboratory: the traversal machine, and what a worker program does around it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_traversal::{
    Config, Event, Input, PathInfo, SessionEvent, SocketId, StunServer, Surroundings, Traversal,
};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::{NatProfile, SearchWish};
use holepunch_wire::plan::Strategy;
use holepunch_wire::signal::v1::WorkerV1;
use holepunch_wire::signal::{FromServer, WorkerMessage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::telling;
use crate::net::{Datagram, HostId};

/// Port of the worker's own socket.
const MAIN_PORT: u16 = 8081;
/// Ports that the system gives to sockets that name none.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// The system's TTL.
const TTL: u8 = 64;
/// How late the timers of a busy machine are, in milliseconds.
const LATE_MS: std::ops::RangeInclusive<u64> = 50..=500;

/// What a worker has to say to the world around it.
#[derive(Debug)]
pub(super) enum Out {
    /// A text frame for the rendezvous.
    Frame(String),
    /// A datagram for the network.
    Udp(Datagram),
}

/// What has been seen of the worker's session.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// When the first report left.
    pub(super) reported_at: Option<Instant>,
    pub(super) offered_at: Option<Instant>,
    pub(super) linked: Option<(Instant, PathInfo)>,
    pub(super) verdict: Option<(Instant, String)>,
    pub(super) failed: Option<(Instant, String)>,
    pub(super) strategy: Option<Strategy>,
    /// Packets to the peer, or to where it was sought.
    pub(super) probes: u32,
    /// Of these, before the verdict.
    pub(super) probes_at_verdict: u32,
    /// Sockets that have sent to the peer, or to where it was sought.
    pub(super) sockets: usize,
    /// Most packets with a new pair of socket and destination, within any second.
    pub(super) new_flows_per_second: usize,
}

pub(super) struct Worker {
    pub(super) host: HostId,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) machine: Traversal,
    servers: Vec<SocketAddr>,
    sockets: BTreeMap<SocketId, u16>,
    ports: BTreeMap<u16, SocketId>,
    rng: StdRng,
    pub(super) record: Record,
    flows: BTreeMap<(SocketId, SocketAddr), Instant>,
    flow_times: Vec<Instant>,
    /// What the worker makes of its profile before it tells it.
    lie: Option<fn(&mut NatProfile)>,
    pub(super) log: Option<Vec<(Instant, String)>>,
    /// Where packets of the peer have come from, where a log is kept.
    heard: BTreeSet<SocketAddr>,
    /// Whether its timers are late.
    pub(super) is_busy: bool,
    /// When the machine last wanted to be called, and when it is, where timers are late.
    wake: Option<(Instant, Instant)>,
}

impl Worker {
    pub(super) fn new(
        id: &WorkerId,
        host: HostId,
        addresses: Vec<IpAddr>,
        servers: Vec<SocketAddr>,
        (search, lie): (SearchWish, Option<fn(&mut NatProfile)>),
        seed: u64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = Config { search, ..Config::new(id.clone()) };
        let machine = Traversal::new(config, StdRng::seed_from_u64(rng.random()));
        let mut sockets = BTreeMap::from([(SocketId::MAIN, MAIN_PORT)]);
        if addresses.iter().any(IpAddr::is_ipv6) {
            sockets.insert(SocketId::MAIN_V6, MAIN_PORT);
        }
        Self {
            host,
            addresses,
            machine,
            servers,
            sockets,
            ports: BTreeMap::new(),
            rng,
            record: Record::default(),
            flows: BTreeMap::new(),
            flow_times: Vec::new(),
            lie,
            log: None,
            heard: BTreeSet::new(),
            is_busy: false,
            wake: None,
        }
    }

    /// When it is to be called.
    pub(super) fn wake_at(&mut self) -> Option<Instant> {
        let (at, _) = self.machine.poll_timeout()?;
        if !self.is_busy {
            return Some(at);
        }
        let known = self.wake.filter(|(asked, _)| *asked == at);
        let late = |rng: &mut StdRng| Duration::from_millis(rng.random_range(LATE_MS));
        let (_, wake) = *self.wake.insert(known.unwrap_or_else(|| (at, at + late(&mut self.rng))));
        Some(wake)
    }

    fn surroundings(&self) -> Surroundings {
        let v6 = self.addresses.iter().any(IpAddr::is_ipv6);
        let unspecified = |ip: [u8; 4]| SocketAddr::from((ip, MAIN_PORT));
        Surroundings {
            interfaces: self.addresses.clone(),
            main: Some(unspecified([0, 0, 0, 0])),
            main_v6: v6.then(|| SocketAddr::from(([0_u16; 8], MAIN_PORT))),
            port_mapped: None,
        }
    }

    /// Begins, or goes on in another network.
    pub(super) fn settle_in(&mut self, now: Instant) -> Vec<Out> {
        let surroundings = self.surroundings();
        self.input(Input::Surroundings(surroundings), now)
    }

    pub(super) fn moved(&mut self, addresses: Vec<IpAddr>, now: Instant) -> Vec<Out> {
        self.addresses = addresses;
        self.settle_in(now)
    }

    pub(super) fn input(&mut self, input: Input<'_>, now: Instant) -> Vec<Out> {
        self.machine.handle_input(input, now);
        self.drain(now)
    }

    pub(super) fn timeout(&mut self, now: Instant) -> Vec<Out> {
        self.machine.handle_timeout(now);
        self.drain(now)
    }

    pub(super) fn datagram(
        &mut self,
        to: SocketAddr,
        from: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> Vec<Out> {
        let socket = if to.port() != MAIN_PORT {
            match self.ports.get(&to.port()) {
                Some(socket) => *socket,
                None => return Vec::new(),
            }
        } else if to.is_ipv4() {
            SocketId::MAIN
        } else {
            SocketId::MAIN_V6
        };
        if self.log.is_some() && !self.is_server(from) && self.heard.insert(from) {
            self.note(now, || Some(telling::first_heard(from)));
        }
        self.input(Input::Datagram { socket, from, payload }, now)
    }

    pub(super) fn frame(&mut self, text: &str, now: Instant) -> Vec<Out> {
        self.note(now, || telling::frame(text));
        let input = match FromServer::parse(text) {
            Ok(FromServer::SessionOffer(Ok(offer))) => {
                self.record.offered_at.get_or_insert(now);
                Input::SessionOffer(offer)
            }
            Ok(FromServer::V1(Ok(message))) => Input::V1(message),
            Ok(FromServer::Offer(Ok(offer))) => Input::Offer(offer),
            _ => return Vec::new(),
        };
        self.input(input, now)
    }

    /// Writes a line into the log, where one is kept.
    fn note(&mut self, now: Instant, text: impl FnOnce() -> Option<String>) {
        if let Some(log) = &mut self.log {
            log.extend(text().map(|text| (now, text)));
        }
    }

    fn drain(&mut self, now: Instant) -> Vec<Out> {
        #[cfg(debug_assertions)]
        self.machine.check_invariants();
        let mut out = Vec::new();
        loop {
            let before = out.len();
            let mut had_event = false;
            while let Some(event) = self.machine.poll_event() {
                had_event = true;
                self.event(event, now, &mut out);
            }
            while let Some(transmit) = self.machine.poll_transmit() {
                let Some(port) = self.sockets.get(&transmit.socket) else { continue };
                let v4 = transmit.to.is_ipv4();
                let Some(ip) = self.addresses.iter().find(|ip| ip.is_ipv4() == v4) else {
                    continue;
                };
                let from = SocketAddr::new(*ip, *port);
                let ttl = transmit.ttl.unwrap_or(TTL);
                let datagram = Datagram { from, to: transmit.to, ttl, payload: transmit.payload };
                self.count(transmit.socket, transmit.to, &datagram.payload, now);
                out.push(Out::Udp(datagram));
            }
            if !had_event && out.len() == before {
                return out;
            }
        }
    }

    fn is_server(&self, address: SocketAddr) -> bool {
        self.servers.iter().any(|server| server.ip() == address.ip())
    }

    /// Counts what leaves for the peer.
    fn count(&mut self, socket: SocketId, to: SocketAddr, payload: &[u8], now: Instant) {
        if self.is_server(to) {
            return;
        }
        let is_request = payload.first() == Some(&0);
        if is_request && self.record.linked.is_none() {
            self.record.probes += 1;
        }
        if self.flows.insert((socket, to), now).is_none() {
            self.note(now, || Some(telling::first_packet(socket, to)));
            self.flow_times.push(now);
            if self.flows.keys().filter(|(other, _)| *other == socket).count() == 1 {
                self.record.sockets += 1;
            }
            let second_ago = now.checked_sub(Duration::from_secs(1));
            let recent = self.flow_times.iter().rev();
            let recent = recent.take_while(|at| second_ago.is_none_or(|since| **at > since));
            let count = recent.count();
            let most = &mut self.record.new_flows_per_second;
            *most = (*most).max(count);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is for logs")]
    fn event(&mut self, event: Event, now: Instant, out: &mut Vec<Out>) {
        self.note(now, || telling::event(&event));
        match event {
            Event::Resolve => {
                let servers = self.servers.iter().take(2).map(|address| StunServer {
                    local: self
                        .addresses
                        .iter()
                        .find(|ip| ip.is_ipv4())
                        .map(|ip| SocketAddr::new(*ip, MAIN_PORT)),
                    ..StunServer::at(address.to_string(), *address)
                });
                let servers = servers.collect();
                self.machine.handle_input(Input::Resolved(Ok(servers)), now);
            }
            Event::Report(endpoint) => {
                self.record.reported_at.get_or_insert(now);
                out.push(Out::Frame(WorkerMessage::report(endpoint).encode()));
            }
            Event::Signal(mut message) => {
                if let (Some(lie), WorkerV1::NatProfile { profile }) = (self.lie, &mut message) {
                    lie(profile);
                }
                if message == WorkerV1::Ready {
                    self.record.reported_at.get_or_insert(now);
                }
                out.push(Out::Frame(WorkerMessage::V1(message).encode()));
            }
            Event::OpenSocket(socket) => {
                let port = loop {
                    let port = self.rng.random_range(EPHEMERAL);
                    if !self.ports.contains_key(&port) {
                        break port;
                    }
                };
                self.sockets.insert(socket, port);
                self.ports.insert(port, socket);
                let local = SocketAddr::from(([0, 0, 0, 0], port));
                self.machine.handle_input(Input::SocketOpened(socket, local), now);
            }
            Event::CloseSocket(socket) => {
                if let Some(port) = self.sockets.remove(&socket) {
                    self.ports.remove(&port);
                }
            }
            Event::Session(_, _, event) => self.session_event(event, now),
            _ => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not measured")]
    fn session_event(&mut self, event: SessionEvent, now: Instant) {
        let record = &mut self.record;
        match event {
            SessionEvent::Started(offer) if record.linked.is_none() => {
                record.strategy = Some(offer.details.plan.strategy);
            }
            SessionEvent::Replanned(plan) if record.linked.is_none() => {
                record.strategy = Some(plan.strategy);
            }
            SessionEvent::Linked(info) => {
                record.linked.get_or_insert((now, info));
            }
            SessionEvent::Verdict(reason) if record.verdict.is_none() => {
                record.verdict = Some((now, reason));
                record.probes_at_verdict = record.probes;
            }
            SessionEvent::Failed(failure) => {
                record.failed.get_or_insert((now, failure.to_string()));
            }
            SessionEvent::SearchRefused(refusal) => {
                record.failed.get_or_insert((now, refusal.to_string()));
            }
            _ => {}
        }
    }
}
