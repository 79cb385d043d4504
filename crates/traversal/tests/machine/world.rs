//! Two machines in a network that loses nothing and translates nothing, the rendezvous between them
//! played by the test, one clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_traversal::{
    Config, Event, Input, SessionEvent, SocketId, StunServer, Surroundings, Transmit, Traversal,
};
use holepunch_wire::WorkerId;
use holepunch_wire::check::{Check, CheckRequest, ParsedCheck};
use holepunch_wire::credentials::{IceCredentials, IceRole, RANDOM_BYTES};
use holepunch_wire::plan::{Aim, Announce, Plan, Search, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionDetails, SessionOffer, WorkerV1};
use holepunch_wire::stun::{BindingRequest, BindingSuccess, TransactionId};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::nats::HardNats;

/// One way between any two hosts.
pub(crate) const LATENCY: Duration = Duration::from_millis(15);
pub(crate) const SESSION: SessionId = SessionId(1);

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn stun_server() -> SocketAddr {
    address("192.0.2.1:3478")
}

/// The credentials of both sides: the first machine's, the second's.
pub(crate) fn credentials() -> [IceCredentials; 2] {
    [IceCredentials::from_random([1; RANDOM_BYTES]), IceCredentials::from_random([2; RANDOM_BYTES])]
}

/// What an offer may have more of than any worker should follow.
/// A check of the second machine's, with this number.
pub(crate) fn peer_check(number: u128) -> Vec<u8> {
    let [own, peer] = credentials();
    CheckRequest {
        transaction: TransactionId::from(number),
        remote_ufrag: own.ufrag(),
        local_ufrag: peer.ufrag(),
        priority: 1,
        role: IceRole::Controlled,
        tie_breaker: 1,
        use_candidate: false,
    }
    .encode(&own.check_key())
}

pub(crate) fn search(aim: Aim, announce: Announce) -> Search {
    Search {
        sockets: 60_000,
        fresh: false,
        aim,
        announce,
        probes_max: 60_000,
        per_second: 60_000,
        except: Vec::new(),
    }
}

pub(crate) fn plan(number: u32, strategy: Strategy, search: Option<Search>) -> Plan {
    Plan { number, search, ..Plan::new(strategy, "a test") }
}

/// A datagram that a machine has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Since the start.
    pub(crate) at: Duration,
    pub(crate) transmit: Transmit,
}

impl Sent {
    /// Whether it is a check, and not an answer or a question to a STUN server.
    pub(crate) fn is_check(&self) -> bool {
        let check = ParsedCheck::parse(&self.transmit.payload);
        check.is_ok_and(|it| matches!(it.check, Check::Request { .. }))
    }

    pub(crate) fn nominates(&self) -> bool {
        let check = ParsedCheck::parse(&self.transmit.payload);
        check.is_ok_and(|it| matches!(it.check, Check::Request { use_candidate: true, .. }))
    }
}

pub(crate) struct Party {
    pub(crate) machine: Traversal,
    /// Where its sockets are, and whether they are open.
    pub(crate) sockets: BTreeMap<SocketId, SocketAddr>,
    /// What others are told of its own socket.
    pub(crate) told: SocketAddr,
    pub(crate) opened: usize,
    pub(crate) closed: usize,
    /// Most that were open at once, if each is opened and closed when it is said.
    pub(crate) open_most: usize,
    pub(crate) log: Vec<(Duration, Event)>,
    pub(crate) sent: Vec<Sent>,
    /// Neither sends nor hears.
    pub(crate) is_dead: bool,
    /// Whether it can open sockets.
    pub(crate) can_open: bool,
}

impl Party {
    fn new(index: u8) -> Self {
        let id = WorkerId::new(if index == 0 { "a" } else { "b" }).unwrap();
        let config = Config { profile: false, ..Config::new(id) };
        let main = SocketAddr::from(([203, 0, 113, index + 1], 5000));
        Self {
            machine: Traversal::new(config, StdRng::seed_from_u64(u64::from(index))),
            sockets: BTreeMap::from([(SocketId::MAIN, main)]),
            told: main,
            opened: 0,
            closed: 0,
            open_most: 0,
            log: Vec::new(),
            sent: Vec::new(),
            is_dead: false,
            can_open: true,
        }
    }

    fn local(&self, socket: SocketId) -> SocketAddr {
        SocketAddr::new(self.told.ip(), u16::try_from(20_000 + socket.0).unwrap())
    }

    /// What it said of its sessions.
    pub(crate) fn session_events(&self) -> impl Iterator<Item = (Duration, &SessionEvent)> {
        self.log.iter().filter_map(|(at, event)| match event {
            Event::Session(_, _, event) => Some((*at, event)),
            _ => None,
        })
    }

    /// When it first said this.
    pub(crate) fn when(&self, is: impl Fn(&SessionEvent) -> bool) -> Option<Duration> {
        self.session_events().find(|(_, event)| is(event)).map(|(at, _)| at)
    }

    pub(crate) fn has(&self, is: impl Fn(&SessionEvent) -> bool) -> bool {
        self.when(is).is_some()
    }

    pub(crate) fn checks_to(&self, to: SocketAddr) -> usize {
        self.sent.iter().filter(|sent| sent.transmit.to == to && sent.is_check()).count()
    }

    /// Sockets that are open beside its own.
    pub(crate) fn fresh_sockets(&self) -> usize {
        self.sockets.len() - 1
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parcel {
    Udp { from: SocketAddr, to: SocketAddr, payload: Vec<u8> },
    Signal(usize, Box<ServerV1>),
}

pub(crate) struct World {
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) parties: [Party; 2],
    /// What is on its way, in the order of sending: all of it takes the same time.
    parcels: BinaryHeap<Reverse<(Instant, u64)>>,
    contents: BTreeMap<u64, Parcel>,
    posted: u64,
    /// Whether the rendezvous passes on what one side says to the other.
    pub(crate) passes_on: bool,
    /// What stands before both, if anything does.
    nats: Option<HardNats>,
    /// Whether there is a STUN server.
    has_stun: bool,
}

impl World {
    /// Two machines that know their endpoints.
    pub(crate) fn new() -> Self {
        Self::behind(None, true)
    }

    /// Two machines that know their interfaces, and no STUN server.
    pub(crate) fn without_stun() -> Self {
        Self::behind(None, false)
    }

    /// The same behind NATs that map by destination and let everybody in.
    pub(crate) fn behind_hard_nats() -> Self {
        Self::behind(Some(HardNats::default()), true)
    }

    pub(crate) fn hard_nats(&self) -> &HardNats {
        self.nats.as_ref().unwrap()
    }

    fn behind(nats: Option<HardNats>, has_stun: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            parties: [Party::new(0), Party::new(1)],
            parcels: BinaryHeap::new(),
            contents: BTreeMap::new(),
            posted: 0,
            passes_on: true,
            nats,
            has_stun,
        };
        for index in 0..2 {
            let main = world.parties[index].told;
            let interfaces = if has_stun { Vec::new() } else { vec![main.ip()] };
            let main = Some(main);
            let surroundings = Surroundings { main, interfaces, ..Surroundings::default() };
            world.input(index, Input::Surroundings(surroundings));
            if !has_stun {
                continue;
            }
            let name = "stun.test:3478".to_owned();
            let server = StunServer::at(name, stun_server());
            world.input(index, Input::Resolved(Ok(vec![server])));
        }
        world.run(Duration::from_secs(1));
        world
    }

    /// An offer of the other machine, with a plain plan.
    pub(crate) fn offer_for(&self, index: usize) -> SessionOffer {
        let [a, b] = credentials();
        let (own, peer, role) = match index {
            0 => (a, b, IceRole::Controlling),
            _ => (b, a, IceRole::Controlled),
        };
        SessionOffer {
            peer: WorkerId::new(if index == 0 { "b" } else { "a" }).unwrap(),
            endpoint: Some(self.parties[1 - index].told),
            details: SessionDetails {
                session: SESSION,
                role,
                credentials: own,
                peer_credentials: peer,
                peer_key: None,
                relay_token: None,
                relay_url: None,
                relay_udp: Vec::new(),
                candidates: Vec::new(),
                address_proof: AddressProof::Stun,
                turn: Vec::new(),
                guest: false,
                plan: plan(1, Strategy::Plain, None),
            },
        }
    }

    /// Offers each the other, after `change`.
    pub(crate) fn offer_both(&mut self, change: impl Fn(usize, &mut SessionOffer)) {
        for index in 0..2 {
            self.offer(index, |offer| change(index, offer));
        }
    }

    pub(crate) fn offer(&mut self, index: usize, change: impl Fn(&mut SessionOffer)) {
        let mut offer = self.offer_for(index);
        change(&mut offer);
        self.input(index, Input::SessionOffer(Box::new(offer)));
    }

    /// Two machines with a path.
    pub(crate) fn linked() -> Self {
        let mut world = Self::new();
        world.offer_both(|_, _| {});
        world.run(Duration::from_secs(1));
        assert!(world.parties.iter().all(|it| it.has(|e| matches!(e, SessionEvent::Linked(_)))));
        world
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A message of the rendezvous arrives.
    pub(crate) fn signal(&mut self, index: usize, message: ServerV1) {
        self.input(index, Input::V1(Box::new(message)));
    }

    /// A datagram arrives at the worker's own socket.
    pub(crate) fn inject(&mut self, index: usize, from: SocketAddr, payload: &[u8]) {
        self.input(index, Input::Datagram { socket: SocketId::MAIN, from, payload });
    }

    pub(crate) fn input(&mut self, index: usize, input: Input<'_>) {
        self.parties[index].machine.handle_input(input, self.now);
        self.drain(index);
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let parcel = self.parcels.peek().map(|Reverse((at, _))| *at);
            let wakes = self.parties.iter().filter_map(|party| party.machine.poll_timeout());
            let next = parcel.into_iter().chain(wakes.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            assert!(next >= self.now, "no machine asks for the past");
            self.now = next;
            self.step();
        }
        self.now = end;
    }

    /// Time passes, and nobody runs meanwhile.
    pub(crate) fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.step();
    }

    fn step(&mut self) {
        while let Some(Reverse((at, number))) = self.parcels.peek().copied() {
            if at > self.now {
                break;
            }
            self.parcels.pop();
            if let Some(parcel) = self.contents.remove(&number) {
                self.deliver(parcel);
            }
        }
        for index in 0..2 {
            let due =
                |party: &Party, now| party.machine.poll_timeout().is_some_and(|(at, _)| at <= now);
            if due(&self.parties[index], self.now) {
                self.parties[index].machine.handle_timeout(self.now);
                assert!(!due(&self.parties[index], self.now), "nothing is left for this moment");
                self.drain(index);
            }
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Udp { from, to, payload } if to == stun_server() => {
                let Ok(request) = BindingRequest::parse(&payload) else { return };
                let answer = BindingSuccess { mapped: from, origin: to, other: None, proof: None };
                self.post(Parcel::Udp { from: to, to: from, payload: request.success(&answer) });
            }
            Parcel::Udp { from, to, payload } => {
                if let Some(nats) = &self.nats {
                    if let Some((index, socket)) = nats.inward(to, self.now) {
                        self.input(index, Input::Datagram { socket, from, payload: &payload });
                    }
                    return;
                }
                let at = |party: &Party| {
                    party.sockets.iter().find(|(_, at)| **at == to).map(|(socket, _)| *socket)
                };
                let found = (0..2).find_map(|index| Some((index, at(&self.parties[index])?)));
                if let Some((index, socket)) = found.filter(|(it, _)| !self.parties[*it].is_dead) {
                    self.input(index, Input::Datagram { socket, from, payload: &payload });
                }
            }
            Parcel::Signal(index, message) => self.signal(index, *message),
        }
    }

    fn drain(&mut self, index: usize) {
        #[cfg(debug_assertions)]
        self.parties[index].machine.check_invariants();
        let (mut opened, mut resolves) = (Vec::new(), false);
        while let Some(event) = self.parties[index].machine.poll_event() {
            let party = &mut self.parties[index];
            match &event {
                Event::OpenSocket(socket) => {
                    party.opened += 1;
                    party.open_most = party.open_most.max(party.opened - party.closed);
                    opened.push(*socket);
                }
                Event::CloseSocket(socket) => {
                    party.closed += 1;
                    assert!(party.sockets.remove(socket).is_some(), "{socket:?} was open");
                }
                Event::Signal(message) => self.pass_on(1 - index, message.clone()),
                Event::Resolve => resolves = !self.has_stun,
                _ => {}
            }
            let at = self.elapsed();
            self.parties[index].log.push((at, event));
        }
        while let Some(transmit) = self.parties[index].machine.poll_transmit() {
            let at = self.elapsed();
            let party = &mut self.parties[index];
            let local = *party.sockets.get(&transmit.socket).expect("it sends from open sockets");
            let flow = (index, transmit.socket, transmit.to);
            let from = match &mut self.nats {
                Some(nats) => nats.outward(flow, local, self.now),
                None => local,
            };
            let (to, payload, reaches) =
                (transmit.to, transmit.payload.clone(), transmit.ttl.is_none());
            party.sent.push(Sent { at, transmit });
            if reaches && !party.is_dead {
                self.post(Parcel::Udp { from, to, payload });
            }
        }
        if resolves {
            self.input(index, Input::Resolved(Ok(Vec::new())));
        }
        for socket in opened {
            let local = self.parties[index].local(socket);
            if self.parties[index].can_open {
                self.parties[index].sockets.insert(socket, local);
                self.input(index, Input::SocketOpened(socket, local));
            } else {
                self.input(index, Input::SocketFailed(socket));
            }
        }
    }

    fn pass_on(&mut self, to: usize, message: WorkerV1) {
        let message = match message {
            WorkerV1::PlanAccepted { session, number, ports } => {
                ServerV1::PeerAccepted { session, number, ports }
            }
            WorkerV1::Leave { session } => ServerV1::ended(session, EndReason::PeerLeft),
            _ => return,
        };
        if self.passes_on {
            self.post(Parcel::Signal(to, Box::new(message)));
        }
    }

    fn post(&mut self, parcel: Parcel) {
        self.posted += 1;
        self.parcels.push(Reverse((self.now + LATENCY, self.posted)));
        self.contents.insert(self.posted, parcel);
    }
}
