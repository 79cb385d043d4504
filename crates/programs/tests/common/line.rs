//! A line between the two ends of a link: UDP sockets on loopback that delay and lose packets as the
//! simulator's links do.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use holepunch_link::{Link, testing};
use holepunch_sim::link::{Link as Direction, LinkConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

const DATAGRAM_BYTES: usize = 2048;
/// Packets under way in one direction; those beyond are lost.
const PACKETS_MAX: usize = 100_000;
/// So that the system loses nothing by itself.
const SOCKET_BUFFER_BYTES: usize = 7 * 1024 * 1024;

/// A line; it ends with this value.
pub(crate) struct Line {
    _tasks: JoinSet<()>,
}

/// Two linked workers with such a line between them; drop it, and the sockets, after the links.
pub(crate) async fn pair(config: LinkConfig, seed: u64) -> (Link, Link, (testing::Sockets, Line)) {
    let mut tasks = JoinSet::new();
    let way = async |server: SocketAddr| {
        let [outer, inner] = [socket().await, socket().await];
        let address = outer.local_addr().expect("a bound socket");
        let client = Arc::new(OnceLock::new());
        let server = Arc::new(OnceLock::from(server));
        let (there, back) = (mpsc::channel(PACKETS_MAX), mpsc::channel(PACKETS_MAX));
        let take = |from: &Arc<UdpSocket>, way, sender: &Arc<OnceLock<SocketAddr>>, seed| {
            let direction = (Direction::new(config), StdRng::seed_from_u64(seed));
            read(Arc::clone(from), way, Arc::clone(sender), direction)
        };
        tasks.spawn(take(&outer, there.0, &client, seed));
        tasks.spawn(take(&inner, back.0, &server, !seed));
        tasks.spawn(deliver(inner, there.1, server));
        tasks.spawn(deliver(outer, back.1, client));
        address
    };
    let (a, b, sockets) = testing::pair_through(way).await;
    (a, b, (sockets, Line { _tasks: tasks }))
}

async fn socket() -> Arc<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let buffers = SockRef::from(&socket);
    buffers.set_recv_buffer_size(SOCKET_BUFFER_BYTES).expect("a buffer");
    buffers.set_send_buffer_size(SOCKET_BUFFER_BYTES).expect("a buffer");
    Arc::new(socket)
}

type Packet = (Instant, Vec<u8>);

/// Takes what one end sends, and says when it arrives.
async fn read(
    socket: Arc<UdpSocket>,
    way: mpsc::Sender<Packet>,
    sender: Arc<OnceLock<SocketAddr>>,
    (mut direction, mut rng): (Direction, StdRng),
) {
    let mut bytes = [0; DATAGRAM_BYTES];
    loop {
        // What an end that has left does not take is reported here.
        let Ok((length, from)) = socket.recv_from(&mut bytes).await else { continue };
        if *sender.get_or_init(|| from) != from {
            continue;
        }
        if let Some(at) = direction.carry(length, Instant::now(), &mut rng) {
            let _or_lost = way.try_send((at, bytes[..length].to_vec()));
        }
    }
}

/// Hands on what has arrived.
async fn deliver(
    socket: Arc<UdpSocket>,
    mut way: mpsc::Receiver<Packet>,
    to: Arc<OnceLock<SocketAddr>>,
) {
    let mut batch = Vec::new();
    let mut waiting: VecDeque<Packet> = VecDeque::new();
    loop {
        let next = waiting.front().map(|(at, _)| *at);
        tokio::select! {
            count = way.recv_many(&mut batch, PACKETS_MAX) => {
                if count == 0 {
                    return;
                }
                waiting.extend(batch.drain(..));
            }
            () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
        }
        while waiting.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            if let Some(((_, bytes), to)) = waiting.pop_front().zip(to.get()) {
                let _or_lost = socket.send_to(&bytes, to).await;
            }
        }
    }
}
