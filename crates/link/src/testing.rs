//! Two links over loopback, for tests of what runs on a link. Keys, encryption and streams are the
//! real ones; there is no rendezvous, no relay and no NAT, and so no change of path.
//! And what arrives, without a socket or a stream, for the fuzz targets.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::session::SessionId;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::identity::Identity;
use crate::link::{HANDSHAKE_BYTES, Link, LinkPath, PathKind, PathState, Peer, Windows};
use crate::protocol::Protocols;
use crate::quic;

pub use crate::links::testing::{greeting, proof};
pub use crate::mux::testing::{
    DATAGRAM_BYTES_MAX, datagrams_of_batch, datagrams_of_frame, is_quic,
};

/// Keeps the sockets of a pair; drop it after the links.
#[derive(Debug)]
pub struct Sockets {
    _endpoints: [noq::Endpoint; 2],
}

/// Two QUIC connections that are the two ends of one, before anything was said over them.
pub(crate) struct Ends {
    /// The one that has connected, and the one that has accepted.
    pub(crate) connections: [noq::Connection; 2],
    identities: [Identity; 2],
    addresses: [SocketAddr; 2],
    pub(crate) sockets: Sockets,
}

/// Connects two endpoints.
#[cfg(test)]
pub(crate) async fn connected() -> Ends {
    connected_through(async |address| address).await
}

/// Connects two endpoints; the first to what `way` makes of the address of the second.
pub(crate) async fn connected_through(way: impl AsyncFnOnce(SocketAddr) -> SocketAddr) -> Ends {
    connected_with([Protocols::default(), Protocols::default()], way).await
}

/// The same, for two that speak these protocols.
pub(crate) async fn connected_with(
    protocols: [Protocols; 2],
    way: impl AsyncFnOnce(SocketAddr) -> SocketAddr,
) -> Ends {
    let identities = [(); 2].map(|()| Identity::generate().expect("random numbers"));
    let [first, second] = &identities;
    let [of_first, of_second] = &protocols;
    let (client, _) =
        quic::client(first, second.public_key(), of_first, HANDSHAKE_BYTES).expect("TLS");
    let (server, _) =
        quic::server(second, first.public_key(), of_second, HANDSHAKE_BYTES).expect("TLS");
    let endpoints = [None, Some(server)].map(|server| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let runtime = Arc::new(noq::TokioRuntime);
        noq::Endpoint::new(quic::endpoint(), server, socket, runtime).expect("an endpoint")
    });
    let addresses = endpoints.each_ref().map(|it| it.local_addr().expect("a bound socket"));
    let remote = way(addresses[1]).await;
    let connecting = endpoints[0].connect_with(client, remote, "holepunch").expect("a peer");
    let accepting = async { endpoints[1].accept().await.expect("a connection").await };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    let connections = [connected, accepted].map(|it| it.expect("a handshake"));
    Ends { connections, identities, addresses, sockets: Sockets { _endpoints: endpoints } }
}

/// Two linked workers; the first one has begun.
///
/// # Panics
/// The system gives no socket or no random numbers, or the two do not link: in a test, a failure.
pub async fn pair() -> (Link, Link, Sockets) {
    pair_through(async |address| address).await
}

/// The same; the first connects to what `way` makes of the address of the second: a line of the test's own,
/// say, that delays and loses packets.
///
/// # Panics
/// As [`pair`].
pub async fn pair_through(
    way: impl AsyncFnOnce(SocketAddr) -> SocketAddr,
) -> (Link, Link, Sockets) {
    let Ends { connections: [connected, accepted], identities, addresses, sockets } =
        connected_through(way).await;
    let link = |connection: noq::Connection, own: usize| {
        let peer = &identities[1 - own];
        let peer = Peer {
            session: SessionId(1),
            id: peer.worker_id(),
            key: peer.public_key(),
            is_controlling: own == 0,
            knows_secret: false,
            protocol: None,
        };
        let paths = PathState::new(Instant::now());
        let remote: SocketAddr = addresses[1 - own];
        let kind = PathKind::Direct { remote };
        paths.changed(Some(noq::PathId::ZERO), LinkPath { kind, rtt: None }, "a test");
        let window = Windows::default().open();
        Link::new(connection, peer, paths, Default::default(), window)
    };
    (link(connected, 0), link(accepted, 1), sockets)
}

/// A TCP address that swallows connections: its listener takes none, and its queue is full.
#[derive(Debug)]
pub struct Swallowing {
    /// Where.
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Swallowing {
    /// One on loopback.
    ///
    /// # Panics
    /// The system gives no socket: in a test, a failure.
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
        let listener = socket.listen(0).expect("a socket");
        let address = listener.local_addr().expect("a socket");
        let mut queued = Vec::new();
        // The handshake of what finds the queue full does not end.
        while let Ok(stream) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            queued.push(stream.expect("a socket"));
        }
        Self { address, _listener: listener, _queued: queued }
    }
}
