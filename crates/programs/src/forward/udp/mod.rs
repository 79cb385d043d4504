//! UDP through a link: a flow for each source address, its datagrams in QUIC's.
//!
//! A flow is opened by a stream, which stays as long as the flow: `{"flow":{"id":…,"target":…}}`, and the usual answer. Until
//! that has come a few datagrams wait; from then on they go as [`pieces`] say, neither repeated nor kept in order. Whoever
//! opens a flow numbers it, the side that began the link evenly and the other one oddly.

pub(super) mod far;
pub(super) mod near;
pub mod pieces;
pub mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::counts::Counts;
use super::station::Carrier;
use pieces::{Assembly, cut};
use table::{IDLE, NoFlow, Table, Whose};

/// Datagrams of a flow that wait for the peer's answer; later ones are dropped.
pub(super) const HELD_MAX: usize = 16;
/// Bytes of a link's datagrams that wait to be sent; beyond that, new ones are dropped. That is 20 ms at 100 Mbit/s: what
/// waits longer would come too late for a game, and a VPN takes it for room.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// So that the system loses nothing while this process has its turn. As many as it gives.
const SOCKET_BUFFER_BYTES: usize = 1024 * 1024;
/// Longest UDP payload, and one byte.
const DATAGRAM_BYTES: usize = 65_536;
/// After a socket could not be read: the network answers that what was sent before has not arrived, say.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// Listens for UDP on an address.
///
/// # Errors
/// The address is taken, or not one of this machine.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    with_buffers(UdpSocket::from_std(socket)?)
}

fn with_buffers(socket: UdpSocket) -> io::Result<UdpSocket> {
    let buffers = SockRef::from(&socket);
    let _as_many_as_there_are = buffers.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _as_many_as_there_are = buffers.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    Ok(socket)
}

/// The UDP flows of a link.
#[derive(Debug)]
pub(super) struct Flows {
    table: Mutex<Table<Arc<Flow>>>,
    /// The number of the next flow of this side's.
    next: AtomicU32,
    is_even: bool,
}

/// Where the peer's datagrams go.
#[derive(Debug)]
enum Sink {
    /// To the program that has sent the first one.
    Program(Arc<UdpSocket>, SocketAddr),
    /// To the target, to which the socket is connected.
    Target(UdpSocket),
}

impl Sink {
    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Self::Program(socket, to) => socket.try_send_to(datagram, *to),
            Self::Target(socket) => socket.try_send(datagram),
        }
    }
}

/// One UDP flow.
#[derive(Debug)]
pub(super) struct Flow {
    id: u32,
    carrier: Weak<Carrier>,
    counts: Arc<Counts>,
    sink: Sink,
    /// What waits for the peer's answer; nothing once that has come.
    held: Mutex<Option<Vec<Bytes>>>,
    number: AtomicU16,
    is_over: AtomicBool,
    /// Told when it is over.
    over: Notify,
}

impl Flows {
    pub(super) fn new(is_initiator: bool) -> Self {
        let next = AtomicU32::new(u32::from(!is_initiator));
        Self { table: Mutex::default(), next, is_even: is_initiator }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table<Arc<Flow>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u32 {
        self.next.fetch_add(2, Ordering::Relaxed)
    }

    /// Whether the peer may give a flow this number.
    fn is_peers(&self, id: u32) -> bool {
        id.is_multiple_of(2) != self.is_even
    }

    fn open(&self, flow: &Arc<Flow>, whose: Whose) -> Result<(), NoFlow> {
        let given_way = self.table().open(flow.id, whose, Arc::clone(flow), Instant::now())?;
        if let Some(flow) = given_way {
            flow.end();
        }
        Ok(())
    }

    /// Ends flows that nobody uses.
    async fn watch(&self) {
        loop {
            // Those that are opened meanwhile are over later.
            let next = self.table().poll_timeout();
            let next = next.unwrap_or_else(|| Instant::now() + IDLE);
            sleep_until(next.into()).await;
            let over = self.table().handle_timeout(Instant::now());
            over.iter().for_each(|flow| flow.end());
        }
    }
}

impl Flow {
    fn new(carrier: &Arc<Carrier>, id: u32, sink: Sink, is_waiting: bool) -> Arc<Self> {
        Arc::new(Self {
            id,
            carrier: Arc::downgrade(carrier),
            counts: Arc::clone(&carrier.station.counts),
            sink,
            held: Mutex::new(is_waiting.then(Vec::new)),
            number: AtomicU16::new(0),
            is_over: AtomicBool::new(false),
            over: Notify::new(),
        })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.over.notify_one();
    }

    /// Closes it: no datagram goes either way any more.
    fn close(&self) {
        if let Some(carrier) = self.carrier.upgrade() {
            carrier.flows.table().close_if(self.id, |flow| std::ptr::eq(&**flow, self));
        }
        // What still waits for an answer goes nowhere any more.
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.counts.udp_dropped.add(held.map_or(0, |held| held.len() as u64));
        self.end();
    }

    /// The peer has connected: what has waited goes first.
    fn opened(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.iter().flatten().for_each(|datagram| self.send(datagram));
    }

    /// A datagram to the peer.
    fn send(&self, datagram: &[u8]) {
        let counts = &self.counts;
        let Some(carrier) = self.carrier.upgrade() else { return counts.udp_dropped.one() };
        if let Some(held) = &mut *self.held.lock().unwrap_or_else(PoisonError::into_inner) {
            if held.len() < HELD_MAX {
                held.push(Bytes::copy_from_slice(datagram));
            } else {
                counts.udp_dropped.one();
            }
            return;
        }
        let is_open = carrier.flows.table().used(self.id, Instant::now()).is_some();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let link = &carrier.link;
        let pieces = cut(self.id, number, datagram, link.datagram_bytes_max());
        let Some(pieces) = pieces.filter(|_| is_open) else { return counts.udp_dropped.one() };
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        if link.datagrams_waiting_bytes() + bytes > QUEUE_BYTES_MAX {
            return counts.udp_dropped.one();
        }
        for piece in pieces {
            // The path has changed this very moment, or the link has ended.
            if link.send_datagram(piece).is_err() {
                return counts.udp_dropped.one();
            }
        }
        counts.udp_sent.one();
        counts.sent_bytes.add(datagram.len() as u64);
    }
}

/// Takes the peer's datagrams until the link ends.
pub(super) async fn carry(carrier: Arc<Carrier>) {
    tokio::select! {
        () = read(&carrier) => {}
        () = carrier.flows.watch() => {}
    }
}

async fn read(carrier: &Carrier) {
    let (mut assembly, counts) = (Assembly::default(), &carrier.station.counts);
    while let Ok(piece) = carrier.link.read_datagram().await {
        let now = Instant::now();
        let taken = assembly.take(piece, now);
        counts.udp_dropped.add(assembly.poll_dropped());
        let (id, datagram) = match taken {
            Ok(Some(whole)) => whole,
            Ok(None) => continue,
            Err(_) => {
                counts.udp_dropped.one();
                continue;
            }
        };
        // One of a flow that is not, or is over: a datagram may be on its way when its flow ends.
        let Some(flow) = carrier.flows.table().used(id, now).cloned() else {
            counts.udp_dropped.one();
            continue;
        };
        // The system tells by an error of what came before; then the datagram itself has not been sent.
        let sent = flow.sink.send(&datagram).or_else(|_| flow.sink.send(&datagram));
        if sent.is_ok() {
            counts.udp_received.one();
            counts.received_bytes.add(datagram.len() as u64);
        } else {
            counts.udp_dropped.one();
        }
    }
    counts.udp_dropped.add(assembly.give_up());
}
