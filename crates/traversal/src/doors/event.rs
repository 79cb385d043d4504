//! What happens, for whoever drives the machine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use holepunch_wire::WorkerId;
use holepunch_wire::address::AddressKind;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::WorkerV1;

use super::{SessionEvent, SocketId, StunServer};
use crate::discovery::nat::NatMapping;

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
    /// Resolve the STUN servers' names and answer with [`Input::Resolved`](crate::Input::Resolved).
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
    /// Open a UDP socket on any port, and answer with [`Input::SocketOpened`](crate::Input::SocketOpened) or
    /// [`Input::SocketFailed`](crate::Input::SocketFailed).
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
