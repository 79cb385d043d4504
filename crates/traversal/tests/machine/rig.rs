//! One machine, to which anything may happen; after each thing, what must always hold is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_traversal::{Config, Event, Input, SocketId, Traversal};
use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::check::{Check, ParsedCheck};
use holepunch_wire::credentials::{IceCredentials, RANDOM_BYTES};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ServerV1, WorkerV1};
use holepunch_wire::stun::{BindingRequest, TransactionId};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Sockets open at once, beside the own two: a search's, the profiler's, and those of paths.
const SOCKETS_MAX: usize = 256 + 64;
/// Datagrams that one thing that happens may bring about: a check for every address of every session.
const BURST_MAX: usize = SESSIONS_MAX * 48;
/// Wake-ups in a second, of all sessions together, and beside them.
const WAKES_PER_SECOND: u64 = 2000;
const WAKES: u64 = 5000;
/// Checks and questions remembered for answers to them.
const REMEMBERED: usize = 64;
/// Acceptances remembered.
const ACCEPTED: usize = 2;

/// The numbers of sessions that operations name: more than a machine takes.
pub(crate) const SESSIONS: u8 = 70;

/// The credentials of a session: the machine's own, the peer's.
pub(crate) fn credentials(session: u8) -> [IceCredentials; 2] {
    [session, session | 0x80].map(|byte| IceCredentials::from_random([byte; RANDOM_BYTES]))
}

/// A check that the machine has sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) transaction: TransactionId,
    pub(crate) socket: SocketId,
    pub(crate) to: SocketAddr,
    /// For which session, where it is a check and not a question to a STUN server.
    pub(crate) session: Option<u8>,
}

pub(crate) struct Rig {
    pub(crate) machine: Traversal,
    pub(crate) now: Instant,
    open: BTreeSet<SocketId>,
    /// Asked for, and neither opened nor failed yet.
    pub(crate) wanted: Vec<SocketId>,
    opens_at_once: bool,
    pub(crate) asked: Vec<Asked>,
    /// The plans that the machine has accepted last.
    pub(crate) accepted: Vec<(SessionId, u32)>,
    sessions_of: BTreeMap<String, u8>,
    pub(crate) sent: u64,
}

impl Rig {
    pub(crate) fn new(opens_at_once: bool, profile: bool, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let config = Config { profile, ..Config::new(WorkerId::new("own").unwrap()) };
        let ufrag = |session| credentials(session)[1].ufrag().to_string();
        let mut rig = Self {
            machine: Traversal::new(config, StdRng::seed_from_u64(seed)),
            now,
            open: BTreeSet::new(),
            wanted: Vec::new(),
            opens_at_once,
            asked: Vec::new(),
            accepted: Vec::new(),
            sessions_of: (0..SESSIONS).map(|session| (ufrag(session), session)).collect(),
            sent: 0,
        };
        rig.settle();
        rig
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.machine.handle_input(input, self.now);
        self.settle();
    }

    /// Time passes, and the driver keeps up with it.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.machine.poll_timeout().map(|(at, _)| at).filter(|at| *at <= end) {
            self.now = at;
            self.settle();
            wakes += 1;
            assert!(
                wakes <= WAKES + WAKES_PER_SECOND * time.as_secs(),
                "{wakes} wake-ups in {time:?}; the next one: {:?}",
                self.machine.poll_timeout()
            );
        }
        self.now = end;
    }

    /// Time passes, and the driver does not run meanwhile.
    pub(crate) fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    /// Drains the machine, does what is due, and looks at what must always hold.
    fn settle(&mut self) {
        self.drain();
        if self.machine.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        if let Some((at, reason)) = self.machine.poll_timeout() {
            assert!(at > self.now, "{reason:?} is left for this moment");
        }
        assert!(self.machine.sessions(self.now).count() <= SESSIONS_MAX);
        assert!(self.open.len() <= SOCKETS_MAX, "{} sockets", self.open.len());
    }

    fn drain(&mut self) {
        #[cfg(debug_assertions)]
        self.machine.check_invariants();
        // First what is to be sent: a socket may be closed right after.
        let mut burst = 0;
        while let Some(transmit) = self.machine.poll_transmit() {
            burst += 1;
            let (socket, to) = (transmit.socket, transmit.to);
            assert!(self.is_usable(socket), "{socket:?} is not open");
            assert_eq!(to.is_ipv4(), socket != SocketId::MAIN_V6, "{to} from {socket:?}");
            let is_unicast = AddressKind::of(to.ip()).is_reachable_unicast();
            assert!(is_unicast && to.port() != 0, "something leaves for {to}");
            assert!(transmit.payload.len() <= 1280);
            self.remember(socket, to, &transmit.payload);
        }
        assert!(burst <= BURST_MAX, "{burst} datagrams at once");
        self.sent += burst as u64;
        let mut to_open = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::OpenSocket(socket) => {
                    assert!(!self.is_usable(socket), "{socket:?} is open already");
                    to_open.push(socket);
                }
                Event::CloseSocket(socket) => {
                    assert!(self.open.remove(&socket), "{socket:?} was not open");
                }
                Event::Signal(WorkerV1::PlanAccepted { session, number, .. }) => {
                    self.accepted.insert(0, (session, number));
                    self.accepted.truncate(ACCEPTED);
                }
                _ => {}
            }
        }
        self.wanted.extend(to_open);
        while self.opens_at_once && !self.wanted.is_empty() {
            self.open_wanted(0, true);
        }
    }

    /// One of the sockets that are open beside the own one; that one where there are none.
    pub(crate) fn fresh_socket(&self, which: usize) -> SocketId {
        let open = self.open.iter().nth(which % self.open.len().max(1));
        open.copied().unwrap_or(SocketId::MAIN)
    }

    fn is_usable(&self, socket: SocketId) -> bool {
        socket == SocketId::MAIN || socket == SocketId::MAIN_V6 || self.open.contains(&socket)
    }

    fn remember(&mut self, socket: SocketId, to: SocketAddr, payload: &[u8]) {
        let Some(transaction) = TransactionId::of(payload) else { return };
        let session = match ParsedCheck::parse(payload).map(|parsed| parsed.check) {
            Ok(Check::Request { username, .. }) => {
                self.sessions_of.get(username.receiver()).copied()
            }
            // Answers of ours.
            Ok(_) => return,
            Err(_) if BindingRequest::parse(payload).is_ok() => None,
            Err(_) => return,
        };
        if self.asked.len() == REMEMBERED {
            self.asked.remove(0);
        }
        self.asked.push(Asked { transaction, socket, to, session });
    }

    /// A socket that the machine has asked for is there, or cannot be opened.
    pub(crate) fn open_wanted(&mut self, which: usize, succeeds: bool) {
        if self.wanted.is_empty() {
            return;
        }
        let socket = self.wanted.remove(which % self.wanted.len());
        let input = if succeeds {
            self.open.insert(socket);
            let port = 10_000 + u16::try_from(socket.0 % 50_000).unwrap();
            Input::SocketOpened(socket, SocketAddr::from(([10, 0, 0, 1], port)))
        } else {
            Input::SocketFailed(socket)
        };
        self.machine.handle_input(input, self.now);
        self.drain();
    }

    /// All sessions end; then nothing may be left but what the mapping needs.
    pub(crate) fn end(mut self) {
        for session in 0..SESSIONS {
            let session = SessionId(u64::from(session));
            let ended = ServerV1::ended(session, EndReason::PeerLeft);
            self.input(Input::V1(Box::new(ended)));
        }
        assert_eq!(self.machine.sessions(self.now).count(), 0);
        for which in 0..self.wanted.len() {
            self.open_wanted(0, which % 2 == 0);
        }
        // The profiler's measurements have their time, and what a baseline peer is owed is sent.
        self.wait(Duration::from_secs(600));
        while !self.wanted.is_empty() {
            self.open_wanted(0, true);
        }
        self.wait(Duration::from_secs(600));
        assert!(self.open.is_empty(), "left open: {:?}", self.open);
        let before = self.sent;
        self.wait(Duration::from_secs(600));
        let sent = self.sent - before;
        assert!(sent <= 600, "{sent} datagrams in ten minutes without a session");
    }
}
