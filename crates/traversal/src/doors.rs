//! What goes into the machine and what comes out.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::nat::{NatProfile, SearchWish};
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::{ServerV1, SessionOffer, WorkerV1};
use rand::rngs::StdRng;

use crate::discovery::nat::NatMapping;

/// How the machine behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The worker's own id.
    pub own_id: WorkerId,
    /// How often discovery is repeated after it failed; for ever without a bound.
    pub stun_retries_max: Option<u32>,
    /// The pause before each repetition; exponential backoff without it.
    pub stun_retry_delay: Option<Duration>,
    /// Whether the NAT profile is measured, beyond the public endpoint.
    pub profile: bool,
    /// Whether peers are told the addresses of the own interfaces.
    pub host_candidates: bool,
    /// Which searches the worker takes part in.
    pub search: SearchWish,
}

impl Config {
    /// What a worker does without further settings.
    #[must_use]
    pub fn new(own_id: WorkerId) -> Self {
        Self {
            own_id,
            stun_retries_max: None,
            stun_retry_delay: None,
            profile: true,
            host_candidates: true,
            search: SearchWish::Usual,
        }
    }
}

/// One UDP socket of the machine. The driver has the worker's own open from the start, and opens
/// and closes the others when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

impl SocketId {
    /// The worker's own IPv4 socket: STUN, waiting and data.
    pub const MAIN: Self = Self(0);
    /// The worker's own IPv6 socket, where it has one.
    pub const MAIN_V6: Self = Self(1);
    /// The first of the sockets that come and go.
    pub(crate) const FRESH_FIRST: Self = Self(2);
}

/// What the driver knows of the machine's surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The addresses of all interfaces at which a peer could reach a socket that is bound to all.
    pub interfaces: Vec<IpAddr>,
    /// Where the own IPv4 socket is bound.
    pub main: Option<SocketAddr>,
    /// Where the own IPv6 socket is bound, if there is one.
    pub main_v6: Option<SocketAddr>,
    /// The external address of a port that the router has opened for the own IPv4 socket.
    pub port_mapped: Option<SocketAddr>,
}

impl Surroundings {
    /// Whether an address that a server has seen is one at which an own socket is bound: nothing has translated it. The
    /// loopback is this host's, too, though no peer could reach it there.
    pub(crate) fn is_own(&self, seen: SocketAddr) -> bool {
        let main = if seen.is_ipv4() { self.main } else { self.main_v6 };
        let is_of_host = self.interfaces.contains(&seen.ip()) || seen.ip().is_loopback();
        is_of_host && main.is_some_and(|main| main.port() == seen.port())
    }

    /// Whether an interface has an IPv4 address. As long as none is known, it may.
    pub(crate) fn has_ipv4(&self) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(IpAddr::is_ipv4)
    }

    /// Whether an interface has an IPv6 address that is no local one.
    pub(crate) fn has_global_v6(&self) -> bool {
        let is_global = |ip: &IpAddr| ip.is_ipv6() && AddressKind::of(*ip) == AddressKind::Ordinary;
        self.main_v6.is_some() && self.interfaces.iter().any(is_global)
    }

    /// The own sockets at the addresses of the interfaces, in the order of those.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = SocketAddr> {
        let is_useful =
            |ip: &&IpAddr| ip.is_ipv4() || AddressKind::of(**ip) != AddressKind::LinkLocal;
        self.interfaces.iter().filter(is_useful).filter_map(|ip| {
            let main = if ip.is_ipv4() { self.main } else { self.main_v6 };
            Some(SocketAddr::new(*ip, main?.port()))
        })
    }
}

/// A STUN server, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// Its name as configured, `host:port`.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// The local address from which packets to it leave, where the driver knows it.
    pub local: Option<SocketAddr>,
    /// Further addresses of its name, of IPv4 alone, which are asked, too, while it stays silent; each with the local address toward it.
    pub others: Vec<(SocketAddr, Option<SocketAddr>)>,
}

impl StunServer {
    /// A server at its only address.
    #[must_use]
    pub fn at(name: String, address: SocketAddr) -> Self {
        Self { name, address, local: None, others: Vec::new() }
    }

    /// Its name; of one that has several addresses, with all that are asked.
    #[must_use]
    pub fn in_full(&self) -> String {
        if self.others.is_empty() {
            return self.name.clone();
        }
        let others = self.others.iter().map(|(other, _)| other);
        let all: Vec<String> =
            std::iter::once(&self.address).chain(others).map(ToString::to_string).collect();
        format!("{} ({})", self.name, all.join(", "))
    }

    /// Whether a datagram from there may be its answer.
    pub(crate) fn is_at(&self, from: SocketAddr) -> bool {
        self.address == from || self.others.iter().any(|(other, _)| *other == from)
    }

    /// It has answered from there: it is asked there alone from now on.
    pub(crate) fn settle_at(&mut self, from: SocketAddr) {
        if let Some((address, local)) = self.others.iter().find(|(other, _)| *other == from) {
            (self.address, self.local) = (*address, *local);
        }
        self.others.clear();
    }
}

/// What happens.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came on the socket.
    Datagram {
        /// On this socket.
        socket: SocketId,
        /// From there.
        from: SocketAddr,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// The answer to [`Event::Resolve`]: the servers to which this host has a route, one for each family and name
    /// at most, or why there is none.
    Resolved(Result<Vec<StunServer>, String>),
    /// The worker is registered, in a session that knows no endpoint of it yet.
    Registered,
    /// The signalling connection is gone. Socket, punch and link go on.
    Unregistered,
    /// The rendezvous offers a peer.
    Offer(Offer),
    /// The rendezvous sent an offer that cannot be followed. It has taken the worker off its queue
    /// all the same.
    BadOffer(String),
    /// The interfaces, the sockets' addresses or the mapped port: at first, and whenever they change.
    Surroundings(Surroundings),
    /// The socket of [`Event::OpenSocket`] is open, at this local address.
    SocketOpened(SocketId, SocketAddr),
    /// The socket of [`Event::OpenSocket`] cannot be opened.
    SocketFailed(SocketId),
    /// The rendezvous offers a session.
    SessionOffer(Box<SessionOffer>),
    /// Another message of the sub-protocol `holepunch.v1`.
    V1(Box<ServerV1>),
    /// The worker wants no more of a session.
    Leave(SessionId),
    /// Whether the two of a session can talk through a relay. As long as they can, or may soon, the
    /// session is not left for want of a direct path, and a path that was lost is sought further.
    Relayed(SessionId, RelayState),
    /// Data was sent on the path in use, and nothing has come back: it is to be asked whether it answers.
    Doubt(SessionId),
}

/// What a relay does for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayState {
    /// Nothing.
    #[default]
    Absent,
    /// It may serve soon.
    Hoped,
    /// The two talk through it, or can at any time.
    Serves,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From this socket.
    pub socket: SocketId,
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Time to live (hop limit), where it is not the system's default.
    pub ttl: Option<u8>,
}

impl Transmit {
    /// A datagram from the worker's own IPv4 socket.
    pub(crate) fn new(to: SocketAddr, payload: Vec<u8>) -> Self {
        Self { socket: SocketId::MAIN, to, payload, ttl: None }
    }
}

/// Why the machine wants to be called at its next time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// A STUN request is to be sent again, or given up.
    StunRetransmission,
    /// The mapping is to be refreshed.
    MappingRefresh,
    /// Discovery is to be tried again.
    DiscoveryRetry,
    /// The next PINGs of a punch are due.
    Ping,
    /// A punch has had its time.
    PunchDeadline,
    /// A linked peer is to be asked whether it is still there.
    PeerKeepAlive,
    /// A report was put off until now.
    Report,
    /// The NAT profile has another test to make, or has waited long enough for an answer.
    Profile,
    /// The next checks of a session are due, or it has had its time.
    Check,
    /// The next packet of a search is due.
    Search,
    /// The path of a session is to be asked whether it still answers.
    Consent,
}

/// Why an offer is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferRefusal {
    /// It names the worker itself.
    #[error("it names this worker itself")]
    OwnId,
    /// It names another worker than the one that this one wants to be linked with.
    #[error("it names {named}, and this worker is to link with {wanted} and no other")]
    NotWanted {
        /// Whom it names.
        named: WorkerId,
        /// Who is wanted.
        wanted: WorkerId,
    },
    /// It names a worker that is none of those whom this one lets call it.
    #[error("it names {named}, which is none of those that may call this worker")]
    NotNamed {
        /// Whom it names.
        named: WorkerId,
    },
    /// No single host answers at its address.
    #[error("{ip} is a{}", kind.describe())]
    NotUnicast {
        /// The address.
        ip: IpAddr,
        /// Its kind.
        kind: AddressKind,
    },
    /// The UDP socket is IPv4, as all baseline peers are.
    #[error("{0} is an IPv6 address, and this worker's UDP socket is IPv4")]
    NotIpv4(IpAddr),
    /// It came before the worker's own endpoint was known.
    #[error("this worker's own UDP endpoint is not known yet{}", because(why.as_deref()))]
    NotReady {
        /// Why the last attempt to learn it came to nothing, where one has.
        why: Option<String>,
    },
    /// There were too many in a short time.
    #[error("the rendezvous sends offers faster than any could be followed")]
    TooMany,
    /// It is incomplete or malformed.
    #[error("{0}")]
    Malformed(String),
}

/// A reason behind a colon, where there is one.
fn because(why: Option<&str>) -> String {
    why.map_or(String::new(), |why| format!(": {why}"))
}

/// Why a punch came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    /// Nothing of the peer arrived.
    #[error("no datagram of the peer arrived: one of the two NATs lets nothing through")]
    Silence,
    /// PINGs arrived, but no answer.
    #[error("the peer's PINGs arrive, but it answers none of ours: they do not reach it")]
    OnlyPings,
    /// Answers arrived, but no PING.
    #[error("the peer answers, but sends no PINGs of its own: it may not have been offered us")]
    OnlyPongs,
}

/// Why a linked peer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    /// It answered nothing for so long.
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    /// The rendezvous offered another peer.
    #[error("the rendezvous offered another peer")]
    Replaced,
}

/// What happened, and what the driver is to do beside sending datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Resolve the STUN servers' names and answer with [`Input::Resolved`].
    Resolve,
    /// A Binding request leaves for this server for the first time.
    StunAsked(StunServer),
    /// A server has not answered for so long; it is asked further.
    StunSilent(StunServer, Duration),
    /// A server saw the socket at this address.
    Mapped {
        /// The server.
        server: StunServer,
        /// What it saw.
        mapped: SocketAddr,
        /// The endpoint that this one replaces, if it does.
        replaces: Option<SocketAddr>,
        /// Whether this is the endpoint that is reported and kept alive.
        is_endpoint: bool,
        /// What all answers together say of the NAT.
        nat: NatMapping,
    },
    /// A server that was asked by IPv6 saw the socket at this address, for the first time or at another one
    /// than before. Behind a NAT64 it is an IPv4 address.
    MappedV6 {
        /// The server.
        server: StunServer,
        /// What it saw.
        mapped: SocketAddr,
        /// Whether peers are told of it.
        is_candidate: bool,
        /// Whether it is another address than those of the socket.
        is_translated: bool,
    },
    /// A server answered with an error (its code), or without an address.
    StunRefused(StunServer, Option<u16>),
    /// The mapping could not be refreshed: all servers are asked anew.
    MappingUnconfirmed(StunServer),
    /// All servers of one round are through and the endpoint is known: what they say together.
    RoundComplete(NatMapping),
    /// One attempt at discovery, which is by IPv4, failed.
    DiscoveryFailed {
        /// Which one, from 1.
        attempt: u32,
        /// Why.
        reason: String,
        /// When it is tried again; `None`: not in this session.
        retry_in: Option<Duration>,
        /// Whether a server has answered by IPv6, or may yet do so.
        ipv6: bool,
    },
    /// The worker is registered, and no STUN server answers by IPv4: said at first, when it is another case,
    /// and once in a while.
    NoEndpoint(NoEndpoint),
    /// Send this endpoint to the rendezvous.
    Report(SocketAddr),
    /// An offer is not followed.
    OfferIgnored(OfferRefusal),
    /// PINGs leave for this peer at this address.
    PunchStarted(WorkerId, SocketAddr),
    /// A PING of the peer came from an address that nobody advertised; PINGs go there too.
    SourceObserved(WorkerId, SocketAddr),
    /// A PING of the peer came and was answered; the count says the how-manieth it is.
    PingReceived(WorkerId, SocketAddr, u32),
    /// A PONG of the peer came; the count says the how-manieth it is.
    PongReceived(WorkerId, SocketAddr, u32),
    /// A PING of somebody else (the id that it claims, its source) came and was answered.
    StrangerPing(String, SocketAddr),
    /// Both a PING and a PONG of the peer have come.
    LinkEstablished {
        /// The peer.
        peer: WorkerId,
        /// The address that answered.
        address: SocketAddr,
        /// Time since the offer.
        after: Duration,
        /// Time from the answered PING to its PONG.
        rtt: Duration,
        /// PINGs sent.
        probes: u32,
    },
    /// A punch came to nothing.
    LinkFailed {
        /// The peer.
        peer: WorkerId,
        /// Why.
        reason: FailReason,
        /// PINGs sent.
        probes: u32,
    },
    /// A linked peer answers at another address than before.
    PathMoved(WorkerId, SocketAddr),
    /// A linked peer is gone.
    PeerLost(WorkerId, LostReason),
    /// Send this message of the sub-protocol `holepunch.v1` to the rendezvous.
    Signal(WorkerV1),
    /// Open a UDP socket on any port, and answer with [`Input::SocketOpened`] or
    /// [`Input::SocketFailed`].
    OpenSocket(SocketId),
    /// Close a socket.
    CloseSocket(SocketId),
    /// The NAT profile has changed.
    Profile(Box<NatProfile>),
    /// What happened to a session.
    Session(SessionId, WorkerId, SessionEvent),
}

/// No STUN server has told a public endpoint, which is of IPv4: who was asked, and what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoEndpoint {
    /// The names of the servers that have not answered, by IPv4, or by IPv6 where none has; none where no name
    /// has led to an address that could be asked.
    pub asked: Vec<String>,
    /// Why the last attempt came to nothing, where one has.
    pub why: Option<String>,
    /// Whether a server has answered by IPv6: UDP gets out.
    pub ipv6: bool,
    /// Whether an interface has an IPv4 address.
    pub has_ipv4: bool,
    /// Whether the rendezvous speaks `holepunch.v1`, in which workers without an endpoint are offered
    /// peers, too.
    pub v1: bool,
    /// The addresses at which peers seek the worker all the same.
    pub candidates: Vec<SocketAddr>,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session of this offer has begun: checks leave by its plan.
    Started(Box<SessionOffer>),
    /// The rendezvous has another plan.
    Replanned(Box<Plan>),
    /// A plan's search is not made.
    SearchRefused(SearchRefusal),
    /// The peer's first check has come, by this socket and from this address: a packet to there will
    /// most likely reach it.
    Heard(SocketId, SocketAddr),
    /// Both sides have accepted the plan: the search begins.
    SearchStarted(Strategy),
    /// A check was answered for the first time.
    Linked(PathInfo),
    /// Another path is used from now on.
    PathChanged(PathInfo),
    /// On the path in use, the peer sees this side at another address than before: this one.
    Rebound(SocketAddr),
    /// What is sent by this socket to this address is answered from another one, where the two NATs map
    /// by destination: what comes from there belongs to this path. `None`: no more.
    AnswersFrom(SocketId, SocketAddr, Option<SocketAddr>),
    /// The path answers no more; others are tried.
    Suspect(SocketAddr),
    /// A path answers again.
    Repaired(PathInfo),
    /// No direct path is to be expected.
    Verdict(String),
    /// Every strategy has been tried in vain.
    Failed(SessionFailure),
    /// It is over: the peer has left, or the rendezvous has ended it; why, for programs and for people.
    Ended(EndReason, String),
}

/// A path that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathInfo {
    /// The socket that is sent from.
    pub socket: SocketId,
    /// The address that is sent to.
    pub remote: SocketAddr,
    /// How that address was learnt.
    pub kind: CandidateKind,
    /// Time from a check to its answer.
    pub rtt: Duration,
    /// Time from the offer to the first answer.
    pub after: Duration,
    /// Packets sent in this session.
    pub probes: u32,
}

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The session.
    pub id: SessionId,
    /// The peer.
    pub peer: WorkerId,
    /// The strategy of its plan.
    pub strategy: Strategy,
    /// The path in use, once there is one.
    pub path: Option<PathInfo>,
    /// When that path answered last.
    pub answered_at: Option<Instant>,
    /// Whether it has stopped answering, and others are tried.
    pub is_suspect: bool,
    /// Packets sent in this session.
    pub probes: u32,
}

/// Why a session came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionFailure {
    /// Nothing of the peer arrived.
    #[error("no check of the peer arrived: one of the two NATs lets nothing through")]
    Silence,
    /// Checks arrived, but no answer.
    #[error("the peer's checks arrive, but none of ours is answered: they do not reach it")]
    Unanswered,
    /// A search was never begun.
    #[error("the search could not begin: one of the two was not ready for it in time")]
    SearchUnready,
    /// A search has used up its budget.
    #[error("the search has used up its budget of packets without a hit")]
    SearchExhausted,
    /// The path that there was answers no more.
    #[error("the path has not answered for so long that the peer's consent has expired")]
    Lost,
}

/// Why a search is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchRefusal {
    /// Nobody vouches for the peer's address.
    #[error(
        "nothing proves that the peer's address is its own, and many packets could harm another"
    )]
    Unproven,
    /// There is no address to send to.
    #[error("the peer has no IPv4 endpoint")]
    NoEndpoint,
    /// Another search is under way.
    #[error("another search is under way")]
    Busy,
    /// There have been too many searches toward that address.
    #[error("there has been a search toward that address within a minute, or four within an hour")]
    TooMany,
    /// The worker's own settings forbid it.
    #[error("this worker takes part in no searches")]
    Unwanted,
    /// No socket could be opened.
    #[error("no further UDP socket could be opened")]
    NoSocket,
}

/// Datagrams that were dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Neither STUN nor a probe.
    pub unknown: u64,
    /// A probe that is not UTF-8 or too long.
    pub malformed_probe: u64,
    /// A PONG of nobody's, or for a PING that was never sent.
    pub stray_pong: u64,
    /// A STUN message that answers no request.
    pub stray_stun: u64,
    /// A PING or check beyond what is answered in a second.
    pub rate_limited: u64,
    /// A check that does not prove that its sender knows the session's password.
    pub unauthenticated: u64,
}

/// What has been said and has not been polled yet.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
}

impl Out {
    /// Takes all that `other` has said.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.transmits.append(&mut other.transmits);
        self.events.append(&mut other.events);
    }
}

/// When something happens, and the randomness for what comes of it.
pub(crate) type Turn<'a> = (Instant, &'a mut StdRng);

/// A wake-up: when, and why.
pub(crate) type WakeUp = (Instant, WakeReason);

/// The earlier of two wake-ups.
pub(crate) fn earlier(a: Option<WakeUp>, b: Option<WakeUp>) -> Option<WakeUp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
