//! A search for ports: it is prepared, waits until both sides are ready, and sends its packets at a
//! steady pace within hard bounds, whatever the plan says.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::nat::Allocation;
use holepunch_wire::plan::{Aim, Announce, Search};
use holepunch_wire::signal::v1::{ANNOUNCED_MAX, WorkerV1};
use holepunch_wire::stun::{TransactionId, binding_request};
use rand::RngExt;
use rand::rngs::StdRng;

use super::paths::Route;
use super::{Phase, Session};
use crate::doors::{Event, SessionEvent, SocketId, Transmit};

/// Sockets of one search.
pub(crate) const SOCKETS_MAX: u16 = 256;
/// Packets of one search. Conntrack tables of a few thousand entries are common in offices.
pub(crate) const PROBES_MAX: u16 = 2048;
/// Packets with a new pair of socket and destination, in a second: what NATs bind without trouble.
pub(crate) const PER_SECOND_MAX: u16 = 100;
const PACE_MAX: u32 = 100;

/// Ports of the whole range that NATs give out: 1024 to 65535.
const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 64_512;
/// A step through all ports: prime, so that it has no factor in common with their number, and far
/// from any short cycle.
const PORT_STEP: u32 = 24_593;

/// Sockets that only send to the peer's endpoint do so again after this time, so that their mappings
/// live and a lost packet does not matter.
const ENDPOINT_AGAIN_AFTER: Duration = Duration::from_secs(4);
/// Announced ports are tried again after these times.
const ANNOUNCED_AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(150), Duration::from_millis(300), Duration::from_millis(600)];
/// Where both sides predict, others may take up to so many ports, less one, on both NATs together
/// between the prediction and the packets: the n-th packet of one side goes so many ports further, in
/// turn, that some of them meet.
const SKEWS: usize = 3;
/// The last packet's answer may take so long.
const GRACE: Duration = Duration::from_millis(2500);
/// A side that only keeps its sockets ready waits for the peer's largest search.
const ENDPOINT_UNTIL: Duration = Duration::from_secs(24);
/// A search that cannot begin, because the peer does not accept or a server does not answer, is
/// given up.
const PREPARED_WITHIN: Duration = Duration::from_secs(5);
/// After a link, the sockets stay open for so long: the peer may nominate another path.
const LINGER: Duration = Duration::from_secs(3);
/// The question for the last port is repeated after this time.
const SAMPLE_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// What a search needs to know beside its plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    pub(crate) endpoint: SocketAddr,
    pub(crate) allocation: Allocation,
    pub(crate) stun: Option<SocketAddr>,
    /// TTL of all packets to the endpoint and of the first ones to announced ports, and how long the
    /// next ones are held back.
    pub(crate) opener: Option<(u8, Duration)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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
struct Sample {
    /// Once it is open.
    socket: Option<SocketId>,
    transaction: TransactionId,
    again_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct SearchRun {
    number: u32,
    spec: Search,
    context: Prepared,
    state: State,
    /// Sockets to send from, in the order in which they opened.
    sockets: Vec<SocketId>,
    locals: Vec<u16>,
    /// Sockets asked for that have not opened yet, and the one that samples.
    opening: u16,
    wanted: u16,
    sample: Option<Sample>,
    announced: Vec<u16>,
    peer_ports: Option<Vec<u16>>,
    order: Vec<u16>,
    offset: u32,
    shot: usize,
    round: usize,
    sent: u32,
    next_at: Option<Instant>,
    ends_at: Instant,
}

impl SearchRun {
    /// A search by `spec`, cut back to the bounds.
    pub(crate) fn new(
        number: u32,
        spec: Search,
        context: Prepared,
        now: Instant,
        rng: &mut StdRng,
    ) -> Self {
        let spec = Search {
            sockets: spec.sockets.clamp(1, SOCKETS_MAX),
            probes_max: spec.probes_max.min(PROBES_MAX),
            per_second: spec.per_second.clamp(1, PER_SECOND_MAX),
            ..spec
        };
        let order = window(&spec);
        let mut run = Self {
            number,
            spec,
            context,
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
            ends_at: now + PREPARED_WITHIN,
        };
        run.prepare(rng);
        run
    }

    /// Which sockets are needed before the search can begin.
    fn prepare(&mut self, rng: &mut StdRng) {
        if !self.spec.fresh {
            self.sockets.push(SocketId::MAIN);
            self.locals.push(0);
        }
        if self.announces_next() {
            let transaction = TransactionId::from(rng.random::<u128>());
            self.sample = Some(Sample { socket: None, transaction, again_at: None });
            self.wanted += 1;
        }
        let is_lazy = self.spec.aim == Aim::Endpoint && self.spec.announce == Announce::Nothing;
        if !is_lazy {
            self.wanted += self.spec.sockets - u16::from(!self.spec.fresh);
        }
    }

    /// How many sockets the machine is to open now.
    fn take_wanted(&mut self) -> u16 {
        let wanted = std::mem::take(&mut self.wanted);
        self.opening += wanted;
        wanted
    }

    pub(crate) fn uses(&self, socket: SocketId) -> bool {
        let samples = self.sample.as_ref().is_some_and(|sample| sample.socket == Some(socket));
        samples || self.sockets.contains(&socket)
    }

    fn opened(&mut self, socket: SocketId, local: SocketAddr, now: Instant) {
        self.go_on(now);
        if let Some(sample) = &mut self.sample
            && sample.socket.is_none()
        {
            (sample.socket, sample.again_at) = (Some(socket), Some(now));
        } else {
            self.sockets.push(socket);
            self.locals.push(local.port());
        }
    }

    /// A socket has opened, or cannot be: a search that waits for it goes on.
    fn go_on(&mut self, now: Instant) {
        self.opening = self.opening.saturating_sub(1);
        if self.is_lazy() && matches!(self.state, State::Running { .. }) {
            self.next_at = Some(now);
        }
    }

    /// The answer of the STUN server: the next mappings follow this port.
    fn sampled(&mut self, port: u16) {
        if let Allocation::Sequential { step } = self.context.allocation {
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

    fn announces_next(&self) -> bool {
        matches!(self.spec.announce, Announce::NextPorts | Announce::SkewedPorts)
    }

    fn is_prepared(&self) -> bool {
        self.wanted == 0 && self.opening == 0 && self.sample.is_none() && !self.sockets.is_empty()
            || self.is_lazy()
    }

    /// Whether sockets are opened one by one while the search runs.
    fn is_lazy(&self) -> bool {
        self.spec.aim == Aim::Endpoint && self.spec.announce == Announce::Nothing
    }

    /// What the peer is told when this side accepts.
    fn announcement(&self) -> Vec<u16> {
        match self.spec.announce {
            Announce::LocalPorts => self.locals.iter().copied().filter(|port| *port != 0).collect(),
            Announce::NextPorts | Announce::SkewedPorts => self.announced.clone(),
            Announce::Nothing => Vec::new(),
        }
    }

    /// The n-th packet: from where to where; `None` when there are no more in this round.
    fn shot(&self, n: usize) -> Option<Route> {
        let ip = self.context.endpoint.ip();
        let count = self.sockets.len();
        let (socket, to) = match self.spec.aim {
            Aim::Endpoint => (*self.sockets.get(n)?, self.context.endpoint),
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
    fn next_round(&self, since: Instant, now: Instant) -> Option<Instant> {
        match self.spec.aim {
            Aim::Endpoint => Some(now.max(since) + ENDPOINT_AGAIN_AFTER),
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
    ports.truncate(usize::from(PROBES_MAX));
    ports
}

impl Session {
    /// Sockets that the search wants to be opened.
    pub(crate) fn take_wanted_sockets(&mut self) -> u16 {
        self.search.as_mut().map_or(0, SearchRun::take_wanted)
    }

    pub(crate) fn socket_opened(
        &mut self,
        socket: SocketId,
        local: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) {
        if let Some(search) = &mut self.search {
            search.opened(socket, local, now);
        }
        self.run_search(now, rng);
    }

    pub(crate) fn socket_failed(&mut self, now: Instant, rng: &mut StdRng) {
        if let Some(search) = &mut self.search {
            search.go_on(now);
            search.spec.sockets = search.spec.sockets.saturating_sub(1).max(1);
        }
        self.run_search(now, rng);
    }

    /// Takes the answer of a STUN server to the question of a search.
    pub(crate) fn handle_sample(
        &mut self,
        socket: SocketId,
        transaction: TransactionId,
        port: u16,
        now: Instant,
        rng: &mut StdRng,
    ) -> bool {
        let Some(search) = &mut self.search else { return false };
        let asked = search.sample.as_ref();
        if !asked.is_some_and(|it| it.socket == Some(socket) && it.transaction == transaction) {
            return false;
        }
        search.sampled(port);
        self.run_search(now, rng);
        true
    }

    /// The peer is ready.
    pub(crate) fn handle_accepted(
        &mut self,
        number: u32,
        ports: Vec<u16>,
        now: Instant,
        rng: &mut StdRng,
    ) {
        // Its acceptance may come before this side has its plan, or after a later one.
        self.peer_accepted = Some((number, ports));
        self.run_search(now, rng);
    }

    /// Does what is due in the search, if there is one.
    pub(super) fn run_search(&mut self, now: Instant, rng: &mut StdRng) {
        let Some(search) = &mut self.search else { return };
        if search.peer_ports.is_none()
            && let Some((_, ports)) =
                self.peer_accepted.take_if(|(number, _)| *number == search.number)
        {
            search.peer_ports = Some(ports);
        }
        self.take_sample(now);
        let Some(search) = &mut self.search else { return };
        if search.state == State::Preparing && search.is_prepared() {
            search.state = State::Accepted;
            let accepted = WorkerV1::PlanAccepted {
                session: self.id,
                number: search.number,
                ports: search.announcement(),
            };
            self.events.push_back(Event::Signal(accepted));
        }
        if search.state == State::Accepted && search.peer_ports.is_some() {
            search.state = State::Running { since: now };
            search.next_at = Some(now);
            search.ends_at = now + ENDPOINT_UNTIL;
            self.tell(SessionEvent::SearchStarted(self.plan.strategy));
        }
        self.shoot(now, rng);
        let linked = matches!(self.phase, Phase::Linked(_));
        self.search.take_if(|search| linked && search.ends_at <= now);
    }

    /// Asks a STUN server for the port of a new mapping.
    fn take_sample(&mut self, now: Instant) {
        let Some(search) = &mut self.search else { return };
        let Some(sample) = &mut search.sample else { return };
        let Some(stun) = search.context.stun else {
            // There is nobody to ask: the search ends with its time for preparation.
            sample.again_at = None;
            return;
        };
        let due = sample.again_at.is_some_and(|at| at <= now);
        let Some(socket) = sample.socket.filter(|_| due) else { return };
        // One answer counts: the mapping of the first question stays the same.
        sample.again_at = Some(now + SAMPLE_AGAIN_AFTER);
        let payload = binding_request(sample.transaction);
        self.transmits.push_back(Transmit { socket, to: stun, payload, ttl: None });
    }

    /// Sends the packet whose time has come.
    fn shoot(&mut self, now: Instant, rng: &mut StdRng) {
        loop {
            let Some(search) = &mut self.search else { return };
            let State::Running { since } = search.state else { return };
            if search.next_at.is_none_or(|at| at > now) {
                return;
            }
            let interval = Duration::from_secs(1) / u32::from(search.spec.per_second);
            // Another plan is no reason to hurry, nor a new allowance.
            let soonest = self.last_shot.map(|at| at + Duration::from_secs(1) / PACE_MAX);
            if let Some(soonest) = soonest.filter(|at| *at > now) {
                search.next_at = Some(soonest);
                return;
            }
            let spent = self.shots >= u32::from(PROBES_MAX);
            if search.sent >= u32::from(search.spec.probes_max) || spent {
                search.next_at = None;
                search.state = State::Done;
                search.ends_at = search.ends_at.min(now + GRACE);
                return;
            }
            let is_first_round = search.round == 0;
            let may_open = search.is_lazy() && is_first_round;
            let open = u16::try_from(search.sockets.len()).unwrap_or(u16::MAX);
            if may_open && search.shot >= search.sockets.len() && open < search.spec.sockets {
                // The packet leaves when the socket is open.
                search.wanted = 1;
                search.next_at = None;
                return;
            }
            let Some(route) = search.shot(search.shot) else {
                search.shot = 0;
                search.next_at = search.next_round(since, now);
                search.round += 1;
                if search.next_at.is_none() {
                    search.state = State::Done;
                    search.ends_at = now + GRACE;
                }
                continue;
            };
            search.shot += 1;
            search.sent += 1;
            search.next_at = Some(now + interval);
            self.last_shot = Some(now);
            self.shots += 1;
            // Sockets that only wait to be found never need to reach the peer first.
            let opens = search.spec.aim == Aim::Endpoint
                || (is_first_round && search.spec.aim == Aim::Announced);
            let ttl = search.context.opener.filter(|_| opens).map(|(ttl, _)| ttl);
            self.send_check(route, false, ttl, now, rng);
        }
    }

    /// Whether the searches of this session have used up what there is for one.
    pub(crate) fn has_searched_enough(&self) -> bool {
        self.shots >= u32::from(PROBES_MAX)
    }

    /// The address whose owner a search is aimed at.
    pub(crate) fn search_target(&self) -> Option<IpAddr> {
        self.endpoint.map(|endpoint| endpoint.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    fn run(aim: Aim, sockets: u16) -> SearchRun {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let spec = Search {
            sockets,
            fresh: false,
            aim,
            announce: Announce::Nothing,
            probes_max: u16::MAX,
            per_second: u16::MAX,
            except: vec![103],
        };
        let context = Prepared {
            endpoint: "203.0.113.1:4000".parse().unwrap(),
            allocation: Allocation::Random,
            stun: None,
            opener: None,
        };
        SearchRun::new(1, spec, context, now, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_plan_is_cut_back_to_the_bounds() {
        let run = run(Aim::Random, u16::MAX);
        assert_eq!(run.spec.sockets, 256);
        assert_eq!(run.spec.probes_max, 2048);
        assert_eq!(run.spec.per_second, 100);
    }

    #[test]
    fn random_ports_are_all_different_and_in_range() {
        let run = run(Aim::Random, 1);
        let ports: BTreeSet<u16> =
            (0..PORTS as usize).map(|n| run.shot(n).unwrap().to.port()).collect();
        assert_eq!(ports.len(), PORTS as usize);
        assert_eq!(ports.first(), Some(&1024));
        assert_eq!(run.shot(PORTS as usize), None);
    }

    #[test]
    fn a_window_is_swept_from_its_centre_by_every_socket() {
        let mut run = run(Aim::Window { first: 100, last: 104, centre: 102 }, 2);
        let now = run.ends_at;
        run.opened(SocketId(9), "0.0.0.0:5".parse().unwrap(), now);
        let shots: Vec<(u32, u16)> =
            (0..).map_while(|n| run.shot(n)).map(|it| (it.socket.0, it.to.port())).collect();
        assert_eq!(shots.len(), 8);
        assert_eq!(shots[..2], [(0, 102), (9, 102)]);
        assert_eq!(shots.iter().map(|(_, port)| port).collect::<BTreeSet<_>>().len(), 4);
    }
}
