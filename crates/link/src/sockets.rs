//! The UDP sockets of a port: the worker's own, and those that come and go with a search.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use holepunch_traversal::{SocketId, Transmit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::mux::{Mux, is_quic};

/// Longest datagram that is read of a search's sockets, in bytes: checks, and the first packets of QUIC.
const READ_BYTES: usize = 2048;
/// The system's usual TTL, for a socket that does not tell its own.
const TTL_USUAL: u32 = 64;

/// A socket with a task that reads it.
#[derive(Debug)]
struct Further {
    socket: Arc<UdpSocket>,
    task: JoinHandle<()>,
}

impl Drop for Further {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sockets. QUIC reads the worker's own ones, and those of its paths; the rest have tasks.
#[derive(Debug)]
pub(crate) struct Sockets {
    mux: Arc<Mux>,
    own: BTreeMap<SocketId, Arc<UdpSocket>>,
    further: BTreeMap<SocketId, Further>,
}

impl Sockets {
    /// With the worker's own IPv4 socket, which the mux has.
    pub(crate) fn new(main: Arc<UdpSocket>, mux: Arc<Mux>) -> Self {
        Self { mux, own: BTreeMap::from([(SocketId::MAIN, main)]), further: BTreeMap::new() }
    }

    /// Opens the worker's own IPv6 socket, at the same port where it is free.
    pub(crate) fn open_main_v6(&mut self, port: u16) -> io::Result<SocketAddr> {
        let at = |port| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
        let socket = bind(at(port)).or_else(|_| bind(at(0)))?;
        let local = socket.local_addr()?;
        self.mux.attach(SocketId::MAIN_V6, Arc::clone(&socket))?;
        self.own.insert(SocketId::MAIN_V6, socket);
        Ok(local)
    }

    /// Opens a further IPv4 socket at any port of the address that the worker's own is bound to.
    pub(crate) fn open(&mut self, id: SocketId) -> io::Result<SocketAddr> {
        let main = self.own.get(&SocketId::MAIN).ok_or_else(closed)?;
        let ip = match main.local_addr()? {
            SocketAddr::V4(local) => *local.ip(),
            SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let socket = bind(SocketAddr::V4(SocketAddrV4::new(ip, 0)))?;
        let local = socket.local_addr()?;
        let task = tokio::spawn(read(id, Arc::clone(&socket), Arc::clone(&self.mux)));
        self.further.insert(id, Further { socket, task });
        Ok(local)
    }

    /// A path uses a socket of a search: from now on QUIC reads it itself.
    pub(crate) fn promote(&mut self, id: SocketId) {
        let Some(further) = self.further.get(&id).filter(|_| !self.mux.reads(id)) else { return };
        further.task.abort();
        if let Err(error) = self.mux.attach(id, Arc::clone(&further.socket)) {
            tracing::warn!(%error, "QUIC cannot use a socket of a search");
        }
    }

    pub(crate) fn close(&mut self, id: SocketId) {
        self.further.remove(&id);
        self.mux.detach(id);
    }

    /// Sends a datagram, or says why not.
    pub(crate) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let further = || self.further.get(&transmit.socket).map(|further| &further.socket);
        let socket = self.own.get(&transmit.socket).or_else(further).ok_or_else(closed)?;
        // Not by the runtime: a socket that is a moment old would not count as writable yet.
        let raw = SockRef::from(&**socket);
        let Some(ttl) = transmit.ttl else {
            return raw.send_to(&transmit.payload, &transmit.to.into()).map(drop);
        };
        let before = hop_limit(&raw, transmit.to)?;
        set_hop_limit(&raw, transmit.to, u32::from(ttl))?;
        let sent = raw.send_to(&transmit.payload, &transmit.to.into());
        set_hop_limit(&raw, transmit.to, before)?;
        sent.map(drop)
    }
}

fn hop_limit(socket: &SockRef<'_>, to: SocketAddr) -> io::Result<u32> {
    let limit = if to.is_ipv4() { socket.ttl_v4() } else { socket.unicast_hops_v6() }?;
    Ok(if limit == 0 { TTL_USUAL } else { limit })
}

fn set_hop_limit(socket: &SockRef<'_>, to: SocketAddr, limit: u32) -> io::Result<()> {
    if to.is_ipv4() { socket.set_ttl_v4(limit) } else { socket.set_unicast_hops_v6(limit) }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket is closed")
}

fn bind(address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(Arc::new(UdpSocket::from_std(socket.into())?))
}

/// Reads a socket until nobody wants to know any more.
async fn read(id: SocketId, socket: Arc<UdpSocket>, mux: Arc<Mux>) {
    let mut buffer = [0; READ_BYTES];
    loop {
        // An error here is that of one datagram (an ICMP message, say); the socket goes on.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let datagram = &buffer[..length];
        if is_quic(datagram) {
            mux.deliver(id, from, datagram.to_vec());
        } else if !mux.arrive(id, from, datagram) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::mux::{Arrived, MuxSocket};
    use tokio::sync::mpsc;

    async fn sockets() -> (Sockets, MuxSocket, mpsc::Receiver<Arrived>) {
        let main = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (mux, quic, arrived) = Mux::new(Arc::clone(&main)).unwrap();
        (Sockets::new(main, mux), quic, arrived)
    }

    fn transmit(socket: SocketId, to: SocketAddr, ttl: Option<u8>) -> Transmit {
        Transmit { socket, to, payload: b"hello".to_vec(), ttl }
    }

    #[tokio::test]
    async fn many_sockets_come_read_and_go() {
        let (mut sockets, _quic, mut from) = sockets().await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut locals = Vec::new();
        for number in 2..130 {
            locals.push(sockets.open(SocketId(number)).unwrap());
        }
        for (number, local) in (2..130).zip(&locals) {
            peer.send_to(&[0, number], local).await.unwrap();
        }
        let mut seen = Vec::new();
        for _ in 2..130 {
            let arrived = from.recv().await.unwrap();
            assert_eq!(arrived.payload, [0, u8::try_from(arrived.socket.0).unwrap()]);
            seen.push(arrived.socket.0);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(2..130));
        sockets.close(SocketId(2));
        let to = peer.local_addr().unwrap();
        assert!(sockets.send(&transmit(SocketId(2), to, None)).is_err());
        assert!(sockets.send(&transmit(SocketId(3), to, None)).is_ok());
    }

    #[tokio::test]
    async fn a_ttl_holds_for_one_packet() {
        let (mut sockets, _quic, _) = sockets().await;
        let id = SocketId(5);
        sockets.open(id).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = peer.local_addr().unwrap();
        let ttl = |sockets: &Sockets| sockets.further[&id].socket.ttl().unwrap();
        let before = ttl(&sockets);
        sockets.send(&transmit(id, to, Some(3))).unwrap();
        assert_eq!(ttl(&sockets), before);
        assert_eq!(peer.recv_from(&mut [0; 10]).await.unwrap().0, 5);
    }
}
