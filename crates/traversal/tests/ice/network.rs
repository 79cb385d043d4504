//! A network of two ends: our machine, and an ICE agent of another project. One clock, no sockets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_traversal::{
    Config, Event, Input, PathInfo, SessionEvent, SocketId, Surroundings, Traversal,
};
use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::credentials::{IceCredentials, IceRole, RANDOM_BYTES};
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{SessionDetails, SessionOffer};
use is::stun::{StunMessage, StunPacket};
use is::{IceAgent, IceAgentEvent, IceCreds, Protocol};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) const SESSION: SessionId = SessionId(7);

/// How the two ends meet.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    /// The part that our machine is given.
    pub(crate) our_role: IceRole,
    /// Whether the agent is told to control.
    pub(crate) agent_controls: bool,
    /// The agent's tie-breaker; a random one without it.
    pub(crate) tie_breaker: Option<u64>,
    /// Whether the agent sends no checks of its own (RFC 8445 §2.5).
    pub(crate) lite: bool,
    /// Our addresses: IPv4, then IPv6.
    pub(crate) ours: Vec<SocketAddr>,
    /// Those of them that the agent is told.
    pub(crate) ours_told: Vec<SocketAddr>,
    pub(crate) theirs: Vec<SocketAddr>,
    /// Those that our machine is told; the first is the endpoint.
    pub(crate) theirs_told: Vec<SocketAddr>,
    pub(crate) loss_percent: u32,
    /// One way.
    pub(crate) latency: Duration,
    /// Which password is not the one that the other side expects.
    pub(crate) wrong: Option<Wrong>,
}

/// Whose knowledge of the other side's password is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Ours,
    Theirs,
    Both,
}

impl Setup {
    /// Two ends with an IPv4 and an IPv6 address each, which know all of each other.
    pub(crate) fn new(our_role: IceRole) -> Self {
        let ours = addresses(["198.51.100.1:5001", "[2001:db8:1::1]:5002"]);
        let theirs = addresses(["203.0.113.9:6001", "[2001:db8:9::9]:6002"]);
        Self {
            seed: 1,
            our_role,
            agent_controls: our_role == IceRole::Controlled,
            tie_breaker: None,
            lite: false,
            ours_told: ours.clone(),
            ours,
            theirs_told: theirs.clone(),
            theirs,
            loss_percent: 0,
            latency: Duration::from_millis(20),
            wrong: None,
        }
    }

    /// The same with the IPv4 addresses alone: one pair.
    pub(crate) fn one_pair(our_role: IceRole) -> Self {
        let mut setup = Self::new(our_role);
        for list in
            [&mut setup.ours, &mut setup.ours_told, &mut setup.theirs, &mut setup.theirs_told]
        {
            list.truncate(1);
        }
        setup
    }

    fn offer(&self, own: IceCredentials, peer: IceCredentials) -> SessionOffer {
        let host = |at: &SocketAddr| Candidate::new(CandidateKind::Host, *at);
        SessionOffer {
            peer: WorkerId::new("agent").unwrap(),
            endpoint: self.theirs_told.first().copied().filter(SocketAddr::is_ipv4),
            details: SessionDetails {
                session: SESSION,
                role: self.our_role,
                credentials: own,
                peer_credentials: peer,
                peer_key: None,
                relay_token: None,
                relay_url: None,
                relay_udp: Vec::new(),
                candidates: self.theirs_told.iter().map(host).collect(),
                address_proof: AddressProof::Stun,
                turn: Vec::new(),
                guest: false,
                plan: Plan::new(Strategy::Plain, "a test"),
            },
        }
    }
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn host(address: SocketAddr) -> is::Candidate {
    is::Candidate::host(address, Protocol::Udp).unwrap()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

pub(crate) struct Network {
    pub(crate) setup: Setup,
    start: Instant,
    pub(crate) now: Instant,
    rng: StdRng,
    pub(crate) machine: Traversal,
    pub(crate) agent: IceAgent,
    /// No datagram arrives any more.
    pub(crate) is_cut: bool,
    parcels: BinaryHeap<Reverse<(Instant, u64, Parcel)>>,
    sent: u64,
    /// What our machine said, and when.
    log: Vec<(Instant, SessionEvent)>,
    /// The part that our last check claimed.
    pub(crate) our_part: Option<IceRole>,
    /// How often it has changed.
    pub(crate) part_changes: u32,
    /// What the agent sends on: its own address, ours.
    pub(crate) agent_path: Option<(SocketAddr, SocketAddr)>,
}

impl Network {
    /// Both ends start now.
    pub(crate) fn start(setup: Setup) -> Self {
        let mut network = Self::without_offer(setup);
        network.offer();
        network
    }

    /// The agent starts now; our machine waits for its offer.
    pub(crate) fn without_offer(setup: Setup) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let config = Config { profile: false, ..Config::new(WorkerId::new("ours").unwrap()) };
        let mut machine = Traversal::new(config, StdRng::seed_from_u64(rng.random()));
        let bound = |is_v4: bool| setup.ours.iter().find(|at| at.is_ipv4() == is_v4).copied();
        let surroundings =
            Surroundings { main: bound(true), main_v6: bound(false), ..Surroundings::default() };
        machine.handle_input(Input::Surroundings(surroundings), start);
        let [_, theirs] = credentials();
        let mut agent = IceAgent::new(creds(&theirs));
        agent.set_ice_lite(setup.lite);
        agent.set_controlling(setup.agent_controls);
        if let Some(tie_breaker) = setup.tie_breaker {
            agent.set_control_tie_breaker(tie_breaker);
        }
        let [expected, _] = credentials();
        let is_wrong = matches!(setup.wrong, Some(Wrong::Theirs | Wrong::Both));
        agent.set_remote_credentials(creds(&if is_wrong { forged(&expected) } else { expected }));
        for at in &setup.theirs {
            agent.add_local_candidate(host(*at));
        }
        for at in &setup.ours_told {
            agent.add_remote_candidate(host(*at));
        }
        agent.handle_timeout(start);
        Self {
            setup,
            start,
            now: start,
            rng,
            machine,
            agent,
            is_cut: false,
            parcels: BinaryHeap::new(),
            sent: 0,
            log: Vec::new(),
            our_part: None,
            part_changes: 0,
            agent_path: None,
        }
    }

    /// Our machine is offered the agent.
    pub(crate) fn offer(&mut self) {
        let [ours, theirs] = credentials();
        let is_wrong = matches!(self.setup.wrong, Some(Wrong::Ours | Wrong::Both));
        let theirs = if is_wrong { forged(&theirs) } else { theirs };
        let offer = Box::new(self.setup.offer(ours, theirs));
        self.machine.handle_input(Input::SessionOffer(offer), self.now);
        self.drain();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The path that our machine uses now.
    pub(crate) fn our_path(&self) -> Option<(SocketAddr, SocketAddr)> {
        let path = self.machine.sessions(self.now).find_map(|session| session.path)?;
        Some((self.address(path.socket), path.remote))
    }

    fn address(&self, socket: SocketId) -> SocketAddr {
        let is_v4 = socket == SocketId::MAIN;
        *self.setup.ours.iter().find(|at| at.is_ipv4() == is_v4).unwrap()
    }

    /// Whether both ends send on one and the same pair of addresses.
    pub(crate) fn agree(&self) -> bool {
        let (ours, theirs) = (self.our_path(), self.agent_path);
        ours.is_some() && ours == theirs.map(|(own, peer)| (peer, own))
    }

    /// When our machine first said this, after the start.
    pub(crate) fn when(&self, is: impl Fn(&SessionEvent) -> bool) -> Option<Duration> {
        self.log.iter().find(|(_, event)| is(event)).map(|(at, _)| *at - self.start)
    }

    /// How often our machine has said this.
    pub(crate) fn count(&self, is: impl Fn(&SessionEvent) -> bool) -> usize {
        self.log.iter().filter(|(_, event)| is(event)).count()
    }

    pub(crate) fn linked(&self) -> Option<PathInfo> {
        self.log.iter().find_map(|(_, event)| match event {
            SessionEvent::Linked(path) => Some(*path),
            _ => None,
        })
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Jumps from one thing that happens to the next; whether `done` came true in `time`.
    pub(crate) fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        self.drain();
        while !done(self) {
            let parcel = self.parcels.peek().map(|Reverse((at, _, _))| *at);
            let ours = self.machine.poll_timeout().map(|(at, _)| at);
            let theirs = self.agent.poll_timeout();
            let next = [parcel, ours, theirs].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return false;
            };
            assert!(next >= self.now, "nobody asks for the past");
            self.now = next;
            self.step();
        }
        true
    }

    fn step(&mut self) {
        while self.parcels.peek().is_some_and(|Reverse((at, _, _))| *at <= self.now) {
            let Some(Reverse((_, _, parcel))) = self.parcels.pop() else { return };
            self.deliver(&parcel);
            self.drain();
        }
        if self.machine.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.machine.handle_timeout(self.now);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|(at, _)| at > self.now), "nothing is left for this moment");
        }
        if self.agent.poll_timeout().is_some_and(|at| at <= self.now) {
            self.agent.handle_timeout(self.now);
        }
        self.drain();
    }

    fn deliver(&mut self, parcel: &Parcel) {
        let Parcel { from, to, ref payload } = *parcel;
        if self.setup.theirs.contains(&to) {
            let message = StunMessage::parse(payload).expect("the other side reads what we write");
            let proto = Protocol::Udp;
            let packet = StunPacket { proto, source: from, destination: to, message };
            self.agent.handle_packet(self.now, packet);
        } else if self.setup.ours.contains(&to) {
            let socket = if to.is_ipv4() { SocketId::MAIN } else { SocketId::MAIN_V6 };
            self.machine.handle_input(Input::Datagram { socket, from, payload }, self.now);
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            if let Event::Session(SESSION, _, event) = event {
                self.log.push((self.now, event));
            }
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.note_part(&transmit.payload);
            let from = self.address(transmit.socket);
            self.post(from, transmit.to, transmit.payload);
        }
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend { source, destination, .. } = event {
                self.agent_path = Some((source, destination));
            }
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            self.post(transmit.source, transmit.destination, transmit.contents.to_vec());
        }
    }

    fn note_part(&mut self, payload: &[u8]) {
        let message = StunMessage::parse(payload).expect("the other side reads what we write");
        if message.is_binding_request() {
            let controls = message.ice_controlling().is_some();
            let part = if controls { IceRole::Controlling } else { IceRole::Controlled };
            self.part_changes += u32::from(self.our_part.is_some_and(|before| before != part));
            self.our_part = Some(part);
        }
    }

    fn post(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        let is_lost = self.rng.random_range(0..100) < self.setup.loss_percent;
        if is_lost || self.is_cut {
            return;
        }
        self.sent += 1;
        let at = self.now + self.setup.latency;
        self.parcels.push(Reverse((at, self.sent, Parcel { from, to, payload })));
    }
}

/// Ours and the agent's.
fn credentials() -> [IceCredentials; 2] {
    [IceCredentials::from_random([1; RANDOM_BYTES]), IceCredentials::from_random([2; RANDOM_BYTES])]
}

/// With the right username fragment and another password.
fn forged(credentials: &IceCredentials) -> IceCredentials {
    IceCredentials::new(credentials.ufrag().as_str(), "AnotherPasswordAltogether").unwrap()
}

fn creds(credentials: &IceCredentials) -> IceCreds {
    let ufrag = credentials.ufrag().as_str().to_owned();
    IceCreds { ufrag, pass: credentials.password().to_owned() }
}
