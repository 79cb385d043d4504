//! A line between the two ends of a link that carries nothing for a while, from a datagram on that the test names; and
//! the clock by which that passes, which is not the real one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use holepunch_link::{Link, testing};
use tokio::net::UdpSocket;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance};

const DATAGRAM_BYTES: usize = 2048;
/// The clock goes on by so much at once.
const STEP: Duration = Duration::from_millis(50);
/// What takes longer than this is a wait for nothing, ...
const LONG: Duration = Duration::from_secs(300);
/// ... through which the clock goes by steps of this.
const LONG_STEP: Duration = Duration::from_secs(2);
/// So often between two steps everybody has a turn.
const TURNS: usize = 20;

/// When a line carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Datagrams, both ways together, that pass before.
    pub(crate) after: u64,
    pub(crate) lasts: Duration,
}

/// What is known of a line.
#[derive(Debug)]
pub(crate) struct State {
    outage: Outage,
    until: Mutex<Option<Instant>>,
    /// Datagrams that have come to the line.
    pub(crate) seen: AtomicU64,
    /// One end has gone: its process has ended, and nothing answers any more.
    pub(crate) is_over: AtomicBool,
}

impl State {
    /// Whether the next datagram passes.
    fn passes(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if number >= self.outage.after {
            until.get_or_insert_with(|| Instant::now() + self.outage.lasts);
        }
        let is_out = until.is_some_and(|until| Instant::now() < until);
        !is_out && !self.is_over.load(Ordering::Relaxed)
    }
}

/// Two linked workers with such a line between them; drop the last two after the links.
pub(crate) async fn pair(
    outage: Outage,
) -> (Link, Link, Arc<State>, (testing::Sockets, JoinSet<()>)) {
    let (seen, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let state = State { outage, until: Mutex::default(), seen, is_over };
    let state = Arc::new(state);
    let mut tasks = JoinSet::new();
    let way = async |server: SocketAddr| {
        let [outer, inner] = [socket().await, socket().await];
        let address = outer.local_addr().expect("a bound socket");
        let (client, server) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::from(server)));
        let (first, second) =
            ((&outer, &inner, &client, &server), (&inner, &outer, &server, &client));
        for (from, to, sender, receiver) in [first, second] {
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            let (sender, receiver) = (Arc::clone(sender), Arc::clone(receiver));
            tasks.spawn(carry((from, sender), (to, receiver), Arc::clone(&state)));
        }
        address
    };
    let (a, b, sockets) = testing::pair_through(way).await;
    (a, b, state, (sockets, tasks))
}

async fn socket() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket"))
}

/// A socket of the line, and the end to which it talks.
type Side = (Arc<UdpSocket>, Arc<OnceLock<SocketAddr>>);

async fn carry((from, sender): Side, (to, receiver): Side, state: Arc<State>) {
    let mut bytes = [0; DATAGRAM_BYTES];
    loop {
        // What an end that has left does not take is reported here.
        let Ok((length, address)) = from.recv_from(&mut bytes).await else { continue };
        let is_known = *sender.get_or_init(|| address) == address;
        if is_known
            && state.passes()
            && let Some(receiver) = receiver.get()
        {
            let _or_lost = to.send_to(&bytes[..length], receiver).await;
        }
    }
}

/// Lets time pass for as long as something is awaited, however long the machine takes.
pub(crate) async fn passing<T>(awaited: impl Future<Output = T>) -> T {
    let clock = async {
        let began = Instant::now();
        loop {
            advance(if began.elapsed() < LONG { STEP } else { LONG_STEP }).await;
            for _ in 0..TURNS {
                yield_now().await;
            }
        }
    };
    tokio::select! {
        come = awaited => come,
        () = clock => unreachable!("it never ends"),
    }
}
