//! The UDP sockets of a port: the worker's own, and those that come and go with a search.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use holepunch_traversal::{SocketId, Transmit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longest datagram that is read, in bytes; STUN and probes are far shorter.
pub(crate) const READ_BYTES: usize = 2048;
/// Datagrams of the further sockets that wait for the machine; more are lost, as on any network.
const WAITING_MAX: usize = 512;
/// The system's usual TTL, for a socket that does not tell its own.
const TTL_USUAL: u32 = 64;

/// A datagram of one of the further sockets.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) socket: SocketId,
    pub(crate) from: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

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

/// All sockets but the worker's own IPv4 one, which its owner reads itself.
#[derive(Debug)]
pub(crate) struct Sockets {
    main: Arc<UdpSocket>,
    further: BTreeMap<SocketId, Further>,
    sender: mpsc::Sender<Arrived>,
    arrived: mpsc::Receiver<Arrived>,
}

impl Sockets {
    pub(crate) fn new(main: Arc<UdpSocket>) -> Self {
        let (sender, arrived) = mpsc::channel(WAITING_MAX);
        Self { main, further: BTreeMap::new(), sender, arrived }
    }

    /// Opens the worker's own IPv6 socket, at the same port where it is free.
    pub(crate) fn open_main_v6(&mut self, port: u16) -> io::Result<SocketAddr> {
        let at = |port| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
        self.open_at(SocketId::MAIN_V6, at(port))
            .or_else(|_| self.open_at(SocketId::MAIN_V6, at(0)))
    }

    /// Opens a further IPv4 socket at any port of the address that the worker's own is bound to.
    pub(crate) fn open(&mut self, id: SocketId) -> io::Result<SocketAddr> {
        let ip = match self.main.local_addr()? {
            SocketAddr::V4(local) => *local.ip(),
            SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        self.open_at(id, SocketAddr::V4(SocketAddrV4::new(ip, 0)))
    }

    fn open_at(&mut self, id: SocketId, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let local = socket.local_addr()?;
        let task = tokio::spawn(read(id, Arc::clone(&socket), self.sender.clone()));
        self.further.insert(id, Further { socket, task });
        Ok(local)
    }

    pub(crate) fn close(&mut self, id: SocketId) {
        self.further.remove(&id);
    }

    /// The next datagram of a further socket.
    pub(crate) async fn next(&mut self) -> Arrived {
        match self.arrived.recv().await {
            Some(arrived) => arrived,
            None => std::future::pending().await,
        }
    }

    /// Sends a datagram, or says why not.
    pub(crate) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let socket = if transmit.socket == SocketId::MAIN {
            &self.main
        } else {
            let unknown = || io::Error::new(io::ErrorKind::NotConnected, "the socket is closed");
            &self.further.get(&transmit.socket).ok_or_else(unknown)?.socket
        };
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

/// Reads a socket until nobody wants to know any more.
async fn read(id: SocketId, socket: Arc<UdpSocket>, sender: mpsc::Sender<Arrived>) {
    let mut buffer = [0; READ_BYTES];
    loop {
        // An error here is that of one datagram (an ICMP message, say); the socket goes on.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let arrived = Arrived { socket: id, from, payload: buffer[..length].to_vec() };
        if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(arrived) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sockets() -> (Sockets, SocketAddr) {
        let main = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = main.local_addr().unwrap();
        (Sockets::new(main), address)
    }

    fn transmit(socket: SocketId, to: SocketAddr, ttl: Option<u8>) -> Transmit {
        Transmit { socket, to, payload: b"hello".to_vec(), ttl }
    }

    #[tokio::test]
    async fn many_sockets_come_read_and_go() {
        let (mut sockets, _) = sockets().await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut locals = Vec::new();
        for number in 2..130 {
            locals.push(sockets.open(SocketId(number)).unwrap());
        }
        for (number, local) in (2..130).zip(&locals) {
            peer.send_to(&[number], local).await.unwrap();
        }
        let mut seen = Vec::new();
        for _ in 2..130 {
            let arrived = sockets.next().await;
            assert_eq!(arrived.payload, [u8::try_from(arrived.socket.0).unwrap()]);
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
        let (mut sockets, _) = sockets().await;
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
