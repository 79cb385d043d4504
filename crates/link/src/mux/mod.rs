//! One socket object for QUIC, over all UDP sockets and relays of a worker.
//!
//! Everything that arrives is looked at datagram by datagram: connectivity checks, STUN answers and
//! baseline probes go to the traversal machine, the rest to QUIC. What QUIC sends goes by the route that
//! the destination stands for ([`label`]).

mod activity;
mod alias;
mod demux;
mod drops;
mod exchange;
mod handshakes;
mod label;
mod receive;
mod relay;
mod send;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use holepunch_traversal::SocketId;
use holepunch_wire::session::SessionId;
use noq::udp::UdpSocketState;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

pub(crate) use activity::Activity;
use activity::Watched;
use alias::Aliases;
pub(crate) use demux::is_quic;
pub use drops::PacketDrops;
use drops::{Drop, Drops};
use exchange::Exchanged;
use handshakes::Handshakes;
use label::Labels;
pub(crate) use label::Route;
pub(crate) use receive::MuxSocket;
pub(crate) use relay::RelayQueue;

/// Frames of relays, and datagrams of sockets that QUIC does not read itself, that wait for QUIC. Then a
/// relay is read no further, and a datagram of a socket is lost.
const INJECTED_MAX: usize = 64;
/// Datagrams that wait for the traversal machine; more are lost, as on any network.
const ARRIVED_MAX: usize = 512;
/// Routes on which datagrams leave one by one: one for each link, and few of these need it.
const UNBATCHED_MAX: usize = 1024;
/// What is asked of the kernel for each of the worker's own sockets, each way, in bytes: a burst of a
/// fast link must not be lost while the process does something else. The kernel may grant less.
const SOCKET_BUFFER_BYTES: usize = 7 * 1024 * 1024;

/// A datagram for the traversal machine.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) socket: SocketId,
    pub(crate) from: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// Something for QUIC that does not come by a socket which it reads itself.
#[derive(Debug)]
enum Injected {
    /// Datagrams in a frame of a relay.
    Frame(SocketAddr, Bytes),
    /// One datagram.
    Datagram(SocketAddr, Vec<u8>),
    /// The sockets have changed.
    Sockets,
}

/// A socket that QUIC reads and writes itself.
#[derive(Debug)]
struct Udp {
    id: SocketId,
    io: Arc<UdpSocket>,
    state: UdpSocketState,
}

/// All routes of a worker.
#[derive(Debug)]
pub(crate) struct Mux {
    labels: RwLock<Labels>,
    exchanged: RwLock<Exchanged>,
    /// Whether any have been: nearly always none have.
    has_exchanged: AtomicBool,
    handshakes: RwLock<Handshakes>,
    aliases: RwLock<Aliases>,
    sockets: RwLock<BTreeMap<SocketId, Arc<Udp>>>,
    /// Counts the changes of `sockets`.
    version: AtomicU64,
    relays: RwLock<HashMap<SocketAddr, Arc<RelayQueue>>>,
    pub(crate) watched: Watched,
    /// Routes on which each datagram is handed to the system by itself.
    unbatched: RwLock<BTreeSet<Route>>,
    drops: Drops,
    injected: mpsc::Sender<Injected>,
    arrived: mpsc::Sender<Arrived>,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Mux {
    /// The routes of a worker with this main socket: the shared part, QUIC's socket, and what arrives for
    /// the traversal machine.
    pub(crate) fn new(
        main: Arc<UdpSocket>,
    ) -> io::Result<(Arc<Self>, MuxSocket, mpsc::Receiver<Arrived>)> {
        let (injected, from_injected) = mpsc::channel(INJECTED_MAX);
        let (arrived, from_arrived) = mpsc::channel(ARRIVED_MAX);
        let mux = Arc::new(Self {
            labels: RwLock::default(),
            exchanged: RwLock::default(),
            has_exchanged: AtomicBool::new(false),
            handshakes: RwLock::default(),
            aliases: RwLock::default(),
            sockets: RwLock::default(),
            version: AtomicU64::new(0),
            relays: RwLock::default(),
            watched: Watched::default(),
            unbatched: RwLock::default(),
            drops: Drops::default(),
            injected,
            arrived,
        });
        let local = main.local_addr()?;
        mux.attach(SocketId::MAIN, main)?;
        let socket = MuxSocket::new(Arc::clone(&mux), from_injected, local.port());
        Ok((mux, socket, from_arrived))
    }

    /// Lets QUIC read and write a socket itself from now on.
    pub(crate) fn attach(&self, id: SocketId, io: Arc<UdpSocket>) -> io::Result<()> {
        let raw = SockRef::from(&*io);
        let _as_much_as_the_kernel_grants = raw.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _likewise = raw.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        let state = UdpSocketState::new((&*io).into())?;
        write(&self.sockets).insert(id, Arc::new(Udp { id, io, state }));
        self.sockets_changed();
        Ok(())
    }

    /// Whether QUIC reads a socket itself.
    pub(crate) fn reads(&self, id: SocketId) -> bool {
        read(&self.sockets).contains_key(&id)
    }

    /// Forgets a socket that is closed.
    pub(crate) fn detach(&self, id: SocketId) {
        if write(&self.sockets).remove(&id).is_some() {
            self.sockets_changed();
        }
        write(&self.labels).forget(id);
        write(&self.aliases).forget_socket(id);
    }

    fn sockets_changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        // A full channel has woken the reader already.
        let _or_it_is_awake = self.injected.try_send(Injected::Sockets);
    }

    /// The address that stands for a route in QUIC.
    pub(crate) fn label(&self, route: Route) -> SocketAddr {
        self.named(self.own_label(route))
    }

    /// The same as long as it has not been exchanged.
    pub(crate) fn own_label(&self, route: Route) -> SocketAddr {
        write(&self.labels).of(route)
    }

    /// The route that an address of QUIC's stands for.
    pub(crate) fn route(&self, label: SocketAddr) -> Option<Route> {
        self.own_route(self.own_of(label))
    }

    fn own_route(&self, own: SocketAddr) -> Option<Route> {
        label::fixed_route(own).or_else(|| read(&self.labels).route(own))
    }

    /// Lets QUIC's packets for each of two routes go by the other one: [`exchange`]. `false` when that
    /// cannot be.
    pub(crate) fn exchange(&self, routes: [Route; 2]) -> bool {
        self.exchange_own(routes.map(|route| self.own_label(route)))
    }

    fn exchange_own(&self, own: [SocketAddr; 2]) -> bool {
        let exchanged = write(&self.exchanged).exchange(own);
        self.has_exchanged.fetch_or(exchanged, Ordering::Release);
        exchanged
    }

    /// The address by which QUIC knows what has this one of its own.
    fn named(&self, own: SocketAddr) -> SocketAddr {
        if !self.has_exchanged.load(Ordering::Acquire) {
            return own;
        }
        read(&self.exchanged).address(own)
    }

    /// The own address of what QUIC knows by this one.
    fn own_of(&self, address: SocketAddr) -> SocketAddr {
        if !self.has_exchanged.load(Ordering::Acquire) {
            return address;
        }
        read(&self.exchanged).own(address)
    }

    /// What is sent by this socket to there is answered from `source`, where that is another address: QUIC
    /// is to take it for the same route.
    pub(crate) fn answered_from(
        &self,
        session: SessionId,
        socket: SocketId,
        to: SocketAddr,
        source: Option<SocketAddr>,
    ) {
        let label = self.own_label(Route::Direct(socket, to));
        write(&self.aliases).set(session, label, socket, source);
    }

    /// Before a session begins: what others have left behind.
    pub(crate) fn tidy(&self) {
        if self.has_exchanged.load(Ordering::Acquire) {
            write(&self.exchanged).tidy(|address| self.watched.watches(address));
        }
    }

    /// A session is over: forgets from where its routes are answered, and what its relays stand for.
    pub(crate) fn forget_session(&self, session: SessionId) {
        write(&self.aliases).forget_session(session);
        if self.has_exchanged.load(Ordering::Acquire) {
            for relay in [Route::Relay(session), Route::Turn(session)] {
                let own = self.own_label(relay);
                write(&self.exchanged).end(own);
            }
        }
    }

    /// The own address of the route that a datagram of a socket came by; `None` where nobody of ours is there.
    fn label_of(&self, socket: SocketId, from: SocketAddr) -> Option<SocketAddr> {
        let address = SocketAddr::new(from.ip().to_canonical(), from.port());
        let alias = read(&self.aliases).find(socket, address);
        alias.or_else(|| match socket {
            SocketId::MAIN | SocketId::MAIN_V6 => Some(label::mapped(from)),
            _ => read(&self.labels).find(socket, address),
        })
    }

    /// Opens a relay route: what QUIC sends by it waits in `queue`.
    pub(crate) fn open_relay(&self, label: SocketAddr, queue: Arc<RelayQueue>) {
        if let Some(replaced) = write(&self.relays).insert(label, queue) {
            replaced.close();
        }
    }

    /// Closes it, unless another queue serves it by now.
    pub(crate) fn close_relay(&self, label: SocketAddr, queue: &Arc<RelayQueue>) {
        queue.close();
        let mut relays = write(&self.relays);
        if relays.get(&label).is_some_and(|serving| Arc::ptr_eq(serving, queue)) {
            relays.remove(&label);
        }
    }

    /// Hands a frame of a relay to QUIC, and waits until there is room; `false` when QUIC has ended.
    pub(crate) async fn deliver_frame(&self, label: SocketAddr, frame: Bytes) -> bool {
        self.injected.send(Injected::Frame(label, frame)).await.is_ok()
    }

    /// Hands a datagram of a socket that QUIC does not read to QUIC, where its route is known.
    pub(crate) fn deliver(&self, socket: SocketId, from: SocketAddr, datagram: Vec<u8>) {
        let Some(label) = self.label_of(socket, from) else {
            return self.drops.count(Drop::UnknownSender, 1);
        };
        if self.injected.try_send(Injected::Datagram(label, datagram)).is_err() {
            self.drops.count(Drop::QuicBusy, 1);
        }
    }

    /// What was dropped so far.
    pub(crate) fn drops(&self) -> PacketDrops {
        self.drops.so_far()
    }

    /// Hands a datagram to the traversal machine. `false` when nobody takes any.
    pub(crate) fn arrive(&self, socket: SocketId, from: SocketAddr, payload: &[u8]) -> bool {
        let arrived = Arrived { socket, from, payload: payload.to_vec() };
        let sent = self.arrived.try_send(arrived);
        if sent.is_err() {
            self.drops.count(Drop::MachineBusy, 1);
        }
        !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
    }

    /// From now on, datagrams leave one by one on this route: the network may lose what segmentation offload
    /// makes. `false` when they did already, or when there are too many such routes.
    pub(crate) fn unbatch(&self, route: Route) -> bool {
        let mut unbatched = write(&self.unbatched);
        unbatched.len() < UNBATCHED_MAX && unbatched.insert(route)
    }

    /// The link that had this route is over: the next one finds out anew what the network takes.
    pub(crate) fn batch(&self, route: Route) {
        write(&self.unbatched).remove(&route);
    }

    /// Whether datagrams leave one by one on this route.
    fn is_unbatched(&self, route: Route) -> bool {
        let unbatched = read(&self.unbatched);
        !unbatched.is_empty() && unbatched.contains(&route)
    }
}
