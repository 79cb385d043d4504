//! The state of one search: its sockets, its order of packets, its bounds.

#[cfg(debug_assertions)]
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::Allocation;
use holepunch_wire::plan::{Aim, Announce, PER_SECOND_MAX, PROBES_MAX, Plan, SOCKETS_MAX, Search};
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::{ANNOUNCED_MAX, WorkerV1};
use holepunch_wire::stun::TransactionId;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::doors::{SocketId, Turn};
use crate::session::paths::Route;

/// Ports of the whole range that NATs give out: 1024 to 65535.
const FIRST_PORT: u32 = 1024;
pub(super) const PORTS: u32 = 64_512;
/// A step through all ports: prime, so that it has no factor in common with their number, and far
/// from any short cycle.
const PORT_STEP: u32 = 24_593;

/// Sockets that only send to the peer's endpoint do so again after this time, so that their mappings
/// live and a lost packet does not matter.
const ENDPOINT_AGAIN_AFTER: Duration = Duration::from_secs(4);
/// Announced ports are tried again after these times.
const ANNOUNCED_AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(150), Duration::from_millis(300), Duration::from_millis(600)];
/// A sweep of a wide window by one socket goes once more to the ports nearest to its centre, ...
const NEAR_PORTS: usize = 64;
/// ... after so many packets, two seconds: where the peer's packets all stay near, one that was lost, or came
/// before the port that it tries was open, has no other that makes up for it. The most likely ports are
/// tried first, before all sockets of the peer are open.
const NEAR_AGAIN_AFTER: usize = 192;
/// Where both sides predict, others may take up to so many ports, less one, on both NATs together
/// between the prediction and the packets: the n-th packet of one side goes so many ports further, in
/// turn, that some of them meet.
const SKEWS: usize = 3;
/// After a link, the sockets stay open for so long: the peer may nominate another path.
const LINGER: Duration = Duration::from_secs(3);
/// A search that cannot begin, because the peer does not accept or a server does not answer, is
/// given up.
const PREPARED_WITHIN: Duration = Duration::from_secs(5);
/// How often a search turns to another port that the peer's packets come from.
const TURNS_MAX: u32 = 4;

/// What a search needs to know beside its plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    pub(crate) endpoint: SocketAddr,
    /// The port that the peer's packets come from, where that is another.
    pub(crate) observed: Option<SocketAddr>,
    pub(crate) allocation: Allocation,
    pub(crate) stun: Option<SocketAddr>,
    pub(crate) opener: Option<(u8, Duration)>,
}

/// The TTL of a plan's first packets, and how long those after them are held back.
pub(crate) fn opener(plan: &Plan) -> Option<(u8, Duration)> {
    plan.opener_ttl.map(|ttl| (ttl, Duration::from_millis(u64::from(plan.delay_ms))))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Sockets open, and ports become known.
    Preparing,
    /// This side is ready.
    Accepted,
    /// Packets leave.
    Running { since: Instant },
    /// Nothing more leaves; answers may still come.
    Done,
}

/// A question to a STUN server for the port of a new mapping.
#[derive(Debug)]
pub(super) struct Sample {
    /// Once it is open.
    pub(super) socket: Option<SocketId>,
    pub(super) transaction: TransactionId,
    pub(super) again_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct SearchRun {
    pub(super) number: u32,
    pub(super) spec: Search,
    pub(super) context: Prepared,
    /// Where sockets aim that all aim at one port, and how often that has become another.
    target: SocketAddr,
    turns: u32,
    pub(super) state: State,
    /// Sockets to send from, in the order in which they opened.
    pub(super) sockets: Vec<SocketId>,
    pub(super) locals: Vec<u16>,
    /// Sockets asked for that have not opened yet, and the one that samples.
    pub(super) opening: u16,
    pub(super) wanted: u16,
    pub(super) sample: Option<Sample>,
    pub(super) announced: Vec<u16>,
    pub(super) peer_ports: Option<Vec<u16>>,
    pub(super) order: Vec<u16>,
    pub(super) offset: u32,
    pub(super) shot: usize,
    pub(super) round: usize,
    pub(super) sent: u32,
    pub(super) next_at: Option<Instant>,
    /// When the next packet is to leave by the pace, whatever it waits for and however late it is.
    pub(super) due: Instant,
    pub(super) ends_at: Instant,
}

impl SearchRun {
    /// A search by `spec`, cut back to the bounds.
    pub(crate) fn new(number: u32, spec: Search, context: Prepared, (now, rng): Turn<'_>) -> Self {
        let spec = Search {
            sockets: spec.sockets.clamp(1, SOCKETS_MAX),
            probes_max: spec.probes_max.min(PROBES_MAX),
            per_second: spec.per_second.clamp(1, PER_SECOND_MAX),
            ..spec
        };
        let order = window(&spec);
        let observed = context.observed.filter(|_| spec.aim == Aim::Observed);
        let mut run = Self {
            number,
            spec,
            context,
            target: observed.unwrap_or(context.endpoint),
            turns: 0,
            state: State::Preparing,
            sockets: Vec::new(),
            locals: Vec::new(),
            opening: 0,
            wanted: 0,
            sample: None,
            announced: Vec::new(),
            peer_ports: None,
            order,
            offset: rng.random_range(0..PORTS),
            shot: 0,
            round: 0,
            sent: 0,
            next_at: Some(now),
            due: now,
            ends_at: now + PREPARED_WITHIN,
        };
        run.prepare(rng);
        run
    }

    /// Which sockets are needed before the search can begin.
    pub(super) fn prepare(&mut self, rng: &mut StdRng) {
        if !self.spec.fresh {
            self.sockets.push(SocketId::MAIN);
            self.locals.push(0);
        }
        if self.announces_next() || self.announces_own() {
            let transaction = TransactionId::from(rng.random::<u128>());
            self.sample = Some(Sample { socket: None, transaction, again_at: None });
            self.wanted += u16::from(self.announces_next());
        }
        if !self.is_lazy() {
            self.wanted += self.spec.sockets - u16::from(!self.spec.fresh);
        }
    }

    /// How many sockets the machine is to open now.
    pub(super) fn take_wanted(&mut self) -> u16 {
        let wanted = std::mem::take(&mut self.wanted);
        self.opening += wanted;
        wanted
    }

    /// Whether it is the search of this plan.
    pub(crate) fn is_by(&self, number: u32) -> bool {
        self.number == number
    }

    pub(crate) fn uses(&self, socket: SocketId) -> bool {
        let samples = self.sample.as_ref().is_some_and(|sample| sample.socket == Some(socket));
        samples || self.sockets.contains(&socket)
    }

    pub(super) fn opened(&mut self, socket: SocketId, local: SocketAddr, now: Instant) {
        self.go_on(now);
        let announces_next = self.announces_next();
        if let Some(sample) = self.sample.as_mut().filter(|sample| sample.socket.is_none()) {
            (sample.socket, sample.again_at) = (Some(socket), Some(now));
            if announces_next {
                // It only asks: what it has asked for is no mapping that the search can use.
                return;
            }
        }
        self.sockets.push(socket);
        self.locals.push(local.port());
    }

    /// The next packet leaves then.
    pub(super) fn wait_until(&mut self, at: Instant) {
        (self.next_at, self.due) = (Some(at), at);
    }

    /// A socket has opened, or cannot be: a search that waits for it goes on.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.opening = self.opening.saturating_sub(1);
        if self.is_lazy() && matches!(self.state, State::Running { .. }) {
            self.next_at = Some(now);
        }
    }

    /// A socket cannot be opened: the search goes on with fewer. Whether it cannot be made without.
    pub(super) fn lacks_socket(&mut self, now: Instant) -> bool {
        self.go_on(now);
        self.spec.sockets = self.spec.sockets.saturating_sub(1);
        let asks_by_none = self.sample.as_ref().is_some_and(|sample| sample.socket.is_none());
        let comes = self.opening > 0 || self.wanted > 0 || self.is_lazy() && self.spec.sockets > 0;
        !comes && (asks_by_none || self.sockets.is_empty())
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Done)
    }

    /// The answer of the STUN server: the next mappings follow this port, or it is the one itself.
    pub(super) fn sampled(&mut self, port: u16) {
        if let Allocation::Sequential { step } = self.context.allocation
            && self.announces_next()
        {
            let skew = self.spec.announce == Announce::SkewedPorts;
            let ahead = |n: usize| if skew { n + (n - 1) % SKEWS } else { n };
            let ahead = (1..=ANNOUNCED_MAX).filter_map(|n| i32::try_from(ahead(n)).ok());
            let next = ahead.map(|n| i32::from(port) + i32::from(step) * n);
            self.announced = next.filter_map(|port| u16::try_from(port).ok()).collect();
        } else {
            self.announced = vec![port];
        }
        self.sample = None;
    }

    pub(super) fn announces_next(&self) -> bool {
        matches!(self.spec.announce, Announce::NextPorts | Announce::SkewedPorts)
    }

    fn announces_own(&self) -> bool {
        self.spec.announce == Announce::FreshPort
    }

    /// The peer is ready, and has announced these ports.
    pub(super) fn peer_is_ready(&mut self, ports: Vec<u16>) {
        let port = ports.first().copied().filter(|port| *port != 0);
        if let Some(port) = port.filter(|_| self.spec.aim == Aim::FreshPort) {
            self.target.set_port(port);
        }
        self.peer_ports = Some(ports);
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.wanted == 0 && self.opening == 0 && self.sample.is_none() && !self.sockets.is_empty()
            || self.is_lazy()
    }

    /// Whether sockets are opened one by one while the search runs.
    pub(super) fn is_lazy(&self) -> bool {
        self.aims_at_one() && self.spec.announce == Announce::Nothing
    }

    /// Whether all sockets send to one port.
    pub(super) fn aims_at_one(&self) -> bool {
        matches!(self.spec.aim, Aim::Endpoint | Aim::Observed | Aim::FreshPort)
    }

    /// The peer's packets come from there. Where that is another port of its than this search aims at,
    /// all sockets turn to it, and those that are not open yet follow.
    pub(crate) fn observe(&mut self, from: SocketAddr, now: Instant) {
        let is_other = from.ip() == self.target.ip() && from != self.target;
        if self.spec.aim != Aim::Observed || !is_other || self.turns == TURNS_MAX {
            return;
        }
        self.turns += 1;
        self.target = from;
        self.shot = 0;
        if matches!(self.state, State::Running { .. }) {
            self.wait_until(now);
        }
    }

    /// The TTL of a packet that is to open the own NAT and go no further. Sockets that only wait to be
    /// found never need to reach the peer first; those of a plan that holds nothing back may later.
    pub(super) fn opener_ttl(&self, is_first_round: bool) -> Option<u8> {
        let (ttl, held_back) = self.context.opener?;
        let opens = match self.aims_at_one() {
            true => is_first_round || !held_back.is_zero(),
            false => is_first_round && self.spec.aim == Aim::Announced,
        };
        opens.then_some(ttl)
    }

    /// What this side says when it is ready.
    pub(super) fn accepted(&self, session: SessionId) -> WorkerV1 {
        WorkerV1::PlanAccepted { session, number: self.number, ports: self.announcement() }
    }

    /// What the peer is told when this side accepts.
    pub(super) fn announcement(&self) -> Vec<u16> {
        match self.spec.announce {
            Announce::LocalPorts => self.locals.iter().copied().filter(|port| *port != 0).collect(),
            Announce::NextPorts | Announce::SkewedPorts | Announce::FreshPort => {
                self.announced.clone()
            }
            Announce::Nothing => Vec::new(),
        }
    }

    /// The n-th packet: from where to where; `None` when there are no more in this round.
    pub(super) fn shot(&self, n: usize) -> Option<Route> {
        let ip = self.context.endpoint.ip();
        let count = self.sockets.len();
        let (socket, to) = match self.spec.aim {
            Aim::Endpoint | Aim::Observed | Aim::FreshPort => (*self.sockets.get(n)?, self.target),
            Aim::Announced => {
                let port = *self.peer_ports.as_ref()?.get(n)?;
                let socket =
                    if self.spec.fresh { self.sockets.get(n) } else { self.sockets.first() };
                (*socket?, SocketAddr::new(ip, port))
            }
            Aim::Window { .. } => {
                let port = *self.order.get(n / count.max(1))?;
                (*self.sockets.get(n % count.max(1))?, SocketAddr::new(ip, port))
            }
            Aim::Random => {
                let n = u32::try_from(n).ok().filter(|n| *n < PORTS)?;
                let index = (u64::from(self.offset) + u64::from(n) * u64::from(PORT_STEP))
                    % u64::from(PORTS);
                let port = u16::try_from(u64::from(FIRST_PORT) + index).ok()?;
                (*self.sockets.first()?, SocketAddr::new(ip, port))
            }
        };
        Some(Route { socket, to })
    }

    /// When the next round begins, after one has ended.
    pub(super) fn next_round(&self, since: Instant, now: Instant) -> Option<Instant> {
        match self.spec.aim {
            Aim::Endpoint | Aim::Observed | Aim::FreshPort => {
                Some(now.max(since) + ENDPOINT_AGAIN_AFTER)
            }
            Aim::Announced => {
                let held_back = self.context.opener.map_or(Duration::ZERO, |(_, delay)| delay);
                let after = ANNOUNCED_AGAIN_AFTER.get(self.round)?;
                Some(now + if self.round == 0 { held_back.max(*after) } else { *after })
            }
            Aim::Window { .. } | Aim::Random => (self.round == 0).then_some(now),
        }
    }

    pub(crate) fn stop(&mut self, now: Instant) {
        self.state = State::Done;
        self.next_at = None;
        self.wanted = 0;
        self.ends_at = now + LINGER;
    }

    /// `own` are the sockets that it may use, `coming` the number of those that are not open yet.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self, own: &BTreeSet<SocketId>, coming: usize) {
        let sockets: BTreeSet<SocketId> = self.sockets.iter().copied().collect();
        assert_eq!(sockets.len(), self.sockets.len(), "a socket is there twice");
        assert_eq!(self.locals.len(), self.sockets.len(), "each socket has one port");
        assert!(self.sockets.len() <= usize::from(SOCKETS_MAX), "too many sockets");
        let sampling = self.sample.as_ref().and_then(|sample| sample.socket);
        let mut used = sockets.iter().copied().chain(sampling);
        assert!(used.all(|socket| own.contains(&socket)), "a socket is closed, or another's");
        assert!(usize::from(self.opening) <= coming, "it waits for sockets that do not come");
        assert!(self.sent <= u32::from(self.spec.probes_max), "{} packets", self.sent);
        assert!(self.order.len() <= usize::from(PROBES_MAX), "{} ports", self.order.len());
        assert!(self.turns <= TURNS_MAX, "{} turns", self.turns);
    }

    pub(crate) fn ends_at(&self) -> Option<Instant> {
        Some(self.ends_at)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = match self.state {
            State::Preparing => self.sample.as_ref().and_then(|sample| sample.again_at),
            State::Running { .. } => self.next_at,
            State::Accepted | State::Done => None,
        };
        Some(at.map_or(self.ends_at, |at| at.min(self.ends_at)))
    }
}

/// The ports of a window, from its centre outward.
fn window(spec: &Search) -> Vec<u16> {
    let Aim::Window { first, last, centre } = spec.aim else { return Vec::new() };
    let is_free = |port: &u16| !spec.except.contains(port);
    let mut ports: Vec<u16> = (first.max(1)..=last).filter(is_free).collect();
    ports.sort_by_key(|port| port.abs_diff(centre));
    if spec.sockets == 1 && ports.len() > NEAR_AGAIN_AFTER {
        let near = ports[..NEAR_PORTS].to_vec();
        ports.splice(NEAR_AGAIN_AFTER..NEAR_AGAIN_AFTER, near);
    }
    ports.truncate(usize::from(PROBES_MAX));
    ports
}
