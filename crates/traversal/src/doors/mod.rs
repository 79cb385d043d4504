//! What goes into the machine and what comes out.

mod event;
mod session;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::nat::SearchWish;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::{ServerV1, SessionOffer};
use rand::rngs::StdRng;

pub use event::{Event, FailReason, LostReason, NoEndpoint, OfferRefusal};
pub use session::{PathInfo, SearchRefusal, SessionEvent, SessionFailure, SessionStatus};

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
