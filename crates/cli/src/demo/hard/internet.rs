//! A small internet on the loopback network: two simulated NATs between real sockets.
//!
//! Every public address is a real socket that this module holds: those of the STUN servers, and one for each port of a NAT
//! that somebody may send to. A worker sends to such an address as to any other. What arrives there from a worker goes through
//! the worker's NAT, and through the receiver's, and leaves for the receiver from the socket of the address that it is seen
//! at. So the workers, their sockets and their packets are the usual ones, and know nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use holepunch_sim::nat::{Allocation, Nat, NatConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The outside of each NAT.
const OUTSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 80, 1, 1), Ipv4Addr::new(127, 80, 2, 1)];
/// The STUN servers' public addresses, and those at which the real ones listen behind them.
const STUN_PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 80, 0, 1), Ipv4Addr::new(127, 80, 0, 2)];
const STUN_REAL: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 80, 0, 11), Ipv4Addr::new(127, 80, 0, 12)];
/// Longest datagram that is carried, in bytes: more than any of a link.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// The host with this number behind a NAT.
pub(super) fn inside(side: usize, host: u8) -> Ipv4Addr {
    let [a, b, c, _] = OUTSIDE[side].octets();
    Ipv4Addr::new(a, b, c, host)
}

/// What has been sent from one host to the other NAT, and what that has let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) let_in: u64,
    /// The ports that were sent to.
    pub(super) ports: BTreeSet<u16>,
}

/// The two NATs, and the sockets of all public addresses.
#[derive(Debug)]
pub(super) struct Internet {
    nats: Mutex<[Nat; 2]>,
    sockets: Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>>,
    readers: Mutex<JoinSet<()>>,
    traffic: Mutex<BTreeMap<IpAddr, Traffic>>,
    stun: Vec<Stun>,
    own: Weak<Self>,
}

/// A STUN server's public address, and the one behind it.
#[derive(Debug, Clone, Copy)]
struct Stun {
    public: SocketAddr,
    real: SocketAddr,
}

impl Internet {
    /// Binds the STUN servers' public addresses: two with two ports each, as RFC 5780 wants them.
    ///
    /// # Errors
    /// This system has no loopback network of many addresses, or a port is taken.
    pub(super) fn new(nats: [NatConfig; 2], seed: u64) -> io::Result<Arc<Self>> {
        let mut bound = BTreeMap::new();
        let mut stun = Vec::new();
        for _ in 0..2 {
            let first = bind(SocketAddr::from((STUN_PUBLIC[0], 0)))?;
            let port = first.local_addr()?.port();
            let second = bind(SocketAddr::from((STUN_PUBLIC[1], port)))?;
            for (socket, (public, real)) in
                [first, second].into_iter().zip(STUN_PUBLIC.into_iter().zip(STUN_REAL))
            {
                let [public, real] = [public, real].map(|ip| SocketAddr::from((ip, port)));
                stun.push(Stun { public, real });
                bound.insert(public, socket);
            }
        }
        let mut number = 0;
        let nats = nats.map(|config| {
            let outside = IpAddr::V4(OUTSIDE[number]);
            number += 1;
            Nat::new(config, outside, StdRng::seed_from_u64(seed.wrapping_add(number as u64)))
        });
        let internet = Arc::new_cyclic(|own| Self {
            nats: Mutex::new(nats),
            sockets: Mutex::default(),
            readers: Mutex::default(),
            traffic: Mutex::default(),
            stun,
            own: Weak::clone(own),
        });
        bound.into_iter().for_each(|(address, socket)| internet.hold(address, socket));
        Ok(internet)
    }

    /// Where the STUN servers listen, and what they are called from outside, in the same order.
    pub(super) fn stun(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        self.stun.iter().map(|stun| (stun.real, stun.public)).unzip()
    }

    /// What this host has sent to the other NAT.
    pub(super) fn traffic(&self, host: Ipv4Addr) -> Traffic {
        lock(&self.traffic).get(&IpAddr::V4(host)).cloned().unwrap_or_default()
    }

    /// Serves a public address.
    fn hold(&self, address: SocketAddr, socket: UdpSocket) {
        let socket = Arc::new(socket);
        lock(&self.sockets).insert(address, Arc::clone(&socket));
        let own = Weak::clone(&self.own);
        lock(&self.readers).spawn(async move {
            let mut buffer = [0; DATAGRAM_BYTES_MAX];
            loop {
                let read = socket.recv_from(&mut buffer).await;
                let Some(internet) = own.upgrade() else { return };
                if let Ok((length, from)) = read {
                    // What a NAT lets nobody through for is lost, as on any network.
                    let _carried = internet.carry(from, address, &buffer[..length]);
                }
            }
        });
    }

    /// Carries a datagram that has arrived at a public address.
    fn carry(&self, from: SocketAddr, at: SocketAddr, payload: &[u8]) -> Option<()> {
        let now = Instant::now();
        let Some(side) = side_of(from.ip()) else {
            // Of a STUN server, to the outside of a NAT.
            let server = self.stun.iter().find(|stun| stun.real == from)?;
            return self.inward(server.public, at, payload, now);
        };
        let source = lock(&self.nats)[side].outbound(from, at, now).ok()?;
        self.open(side, source);
        if let Some(server) = self.stun.iter().find(|stun| stun.public == at) {
            return self.send(source, server.real, payload);
        }
        let let_in = self.inward(source, at, payload, now);
        let mut traffic = lock(&self.traffic);
        let of_host = traffic.entry(from.ip()).or_default();
        of_host.sent += 1;
        of_host.let_in += u64::from(let_in.is_some());
        of_host.ports.insert(at.port());
        let_in
    }

    /// To the host behind a NAT, if that lets it in.
    fn inward(&self, from: SocketAddr, to: SocketAddr, payload: &[u8], now: Instant) -> Option<()> {
        let side = OUTSIDE.iter().position(|outside| IpAddr::V4(*outside) == to.ip())?;
        let host = lock(&self.nats)[side].inbound(from, to, now).ok()?;
        self.send(from, host, payload)
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<()> {
        let socket = lock(&self.sockets).get(&from).cloned()?;
        // Not by the runtime: a socket that is a moment old would not count as writable yet.
        SockRef::from(&*socket).send_to(payload, &to.into()).ok().map(drop)
    }

    /// Binds the port of a new mapping. One of a block has its neighbours bound as well: somebody who sweeps the block sends
    /// to ports that nobody has yet, and the sweeper's own NAT has to see that.
    fn open(&self, side: usize, source: SocketAddr) {
        if lock(&self.sockets).contains_key(&source) {
            return;
        }
        let reach = match lock(&self.nats)[side].config().allocation {
            Allocation::Block { size, .. } => size - 1,
            Allocation::Preserving
            | Allocation::PreservingFirst
            | Allocation::Sequential { .. }
            | Allocation::Random => 0,
        };
        let port = source.port();
        for port in port.saturating_sub(reach).max(1)..=port.saturating_add(reach) {
            let address = SocketAddr::new(source.ip(), port);
            let is_held = lock(&self.sockets).contains_key(&address);
            if let (false, Ok(socket)) = (is_held, bind(address)) {
                self.hold(address, socket);
            }
        }
    }
}

/// The NAT behind which a host is.
fn side_of(ip: IpAddr) -> Option<usize> {
    let IpAddr::V4(ip) = ip else { return None };
    let is_network = |outside: &Ipv4Addr| outside.octets()[..3] == ip.octets()[..3];
    OUTSIDE.iter().position(|outside| *outside != ip && is_network(outside))
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
