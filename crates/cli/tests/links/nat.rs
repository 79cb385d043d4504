//! A NAT between two workers: each sees the other at an address of the NAT's, which the STUN server
//! of the test tells.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::stun::success;

/// Datagrams that are remembered, of each direction together.
const RECORD_MAX: usize = 512;
const DATAGRAM_BYTES: usize = 2048;
/// So that the NAT loses nothing by itself.
const SOCKET_BUFFER_BYTES: usize = 7 * 1024 * 1024;

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    Lost,
    Twice,
    /// It comes after the next one that passes in its direction.
    Late,
    /// One bit of this byte, counted from the end, is another.
    Broken(usize),
}

/// A datagram from one of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'a> {
    /// Which of the two has sent it.
    pub(crate) from: usize,
    pub(crate) payload: &'a [u8],
}

type Rule = Box<dyn FnMut(Datagram<'_>) -> Fate + Send>;

/// One worker, as the NAT has it.
struct Side {
    /// Where the other one sees it.
    public: watch::Sender<Arc<UdpSocket>>,
    stun: SocketAddr,
    /// Its own address, once it has asked.
    own: watch::Sender<Option<SocketAddr>>,
}

struct State {
    rule: Rule,
    late: [Option<Vec<u8>>; 2],
    record: VecDeque<(usize, Vec<u8>)>,
    passed: [usize; 2],
}

struct Inner {
    sides: [Side; 2],
    state: Mutex<State>,
}

/// The NAT of one test; it ends with this value.
pub(crate) struct Nat {
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

impl fmt::Debug for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nat")
    }
}

async fn socket() -> Arc<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES).unwrap();
    Arc::new(socket)
}

impl Nat {
    /// One that lets everything through.
    pub(crate) async fn open() -> Self {
        let mut tasks = JoinSet::new();
        let mut sides = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..2 {
            let server = socket().await;
            let stun = server.local_addr().unwrap();
            servers.push(server);
            let public = watch::Sender::new(socket().await);
            sides.push(Side { public, stun, own: watch::Sender::new(None) });
        }
        let sides = sides.try_into().ok().unwrap();
        let state = State {
            rule: Box::new(|_| Fate::Passes),
            late: [None, None],
            record: VecDeque::new(),
            passed: [0; 2],
        };
        let inner = Arc::new(Inner { sides, state: Mutex::new(state) });
        for (of, server) in servers.into_iter().enumerate() {
            tasks.spawn(serve_stun(Arc::clone(&inner), of, server));
            tasks.spawn(forward_to(Arc::clone(&inner), of));
        }
        Self { inner, _tasks: tasks }
    }

    /// The STUN server of one of the two.
    pub(crate) fn stun(&self, of: usize) -> SocketAddr {
        self.inner.sides[of].stun
    }

    /// Where others see one of the two.
    pub(crate) fn public(&self, of: usize) -> SocketAddr {
        self.inner.sides[of].public.borrow().local_addr().unwrap()
    }

    /// What happens to every datagram from now on.
    pub(crate) fn rule(&self, rule: impl FnMut(Datagram<'_>) -> Fate + Send + 'static) {
        self.lock().rule = Box::new(rule);
    }

    pub(crate) fn pass_everything(&self) {
        self.rule(|_| Fate::Passes);
    }

    pub(crate) fn lose_everything(&self) {
        self.rule(|_| Fate::Lost);
    }

    /// Gives one of the two another address, as after a restart of its router.
    pub(crate) async fn rebind(&self, of: usize) {
        self.inner.sides[of].public.send_replace(socket().await);
    }

    /// Datagrams that each of the two has sent through.
    pub(crate) fn passed(&self) -> [usize; 2] {
        self.lock().passed
    }

    /// Where one of the two is itself.
    pub(crate) async fn own(&self, of: usize) -> SocketAddr {
        let mut own = self.inner.sides[of].own.subscribe();
        own.wait_for(Option::is_some).await.unwrap().unwrap()
    }

    /// Sends everything that is remembered again; how many datagrams.
    pub(crate) async fn replay(&self) -> usize {
        let record: Vec<_> = self.lock().record.iter().cloned().collect();
        for (from, datagram) in &record {
            self.inner.deliver(*from, datagram).await;
        }
        record.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap()
    }
}

impl Inner {
    /// What is to be sent on, now that a datagram has come.
    fn judge(&self, from: usize, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut state = self.state.lock().unwrap();
        let fate = (state.rule)(Datagram { from, payload });
        let mut out = match fate {
            Fate::Lost => Vec::new(),
            Fate::Passes => vec![payload.to_vec()],
            Fate::Twice => vec![payload.to_vec(); 2],
            Fate::Late => {
                let earlier = state.late[from].replace(payload.to_vec());
                earlier.into_iter().collect()
            }
            Fate::Broken(at) => {
                let mut broken = payload.to_vec();
                let index = payload.len() - 1 - at % payload.len();
                broken[index] ^= 0x10;
                vec![broken]
            }
        };
        if !out.is_empty() && fate != Fate::Late {
            out.extend(state.late[from].take());
        }
        if fate == Fate::Passes {
            if state.record.len() == RECORD_MAX {
                state.record.pop_front();
            }
            state.record.push_back((from, payload.to_vec()));
        }
        state.passed[from] += out.len();
        out
    }

    async fn deliver(&self, from: usize, datagram: &[u8]) {
        let public = Arc::clone(&self.sides[from].public.borrow());
        let to = *self.sides[1 - from].own.borrow();
        if let Some(to) = to {
            let _or_lost = public.send_to(datagram, to).await;
        }
    }
}

/// Answers the STUN requests of one worker.
async fn serve_stun(inner: Arc<Inner>, of: usize, server: Arc<UdpSocket>) {
    let mut bytes = [0; DATAGRAM_BYTES];
    while let Ok((_, from)) = server.recv_from(&mut bytes).await {
        let side = &inner.sides[of];
        side.own.send_replace(Some(from));
        let mapped = side.public.borrow().local_addr().unwrap();
        let answer = success(bytes[4..20].try_into().unwrap(), mapped);
        let _or_lost = server.send_to(&answer, from).await;
    }
}

/// Forwards what the other worker sends to the public address of one.
async fn forward_to(inner: Arc<Inner>, of: usize) {
    let mut public = inner.sides[of].public.subscribe();
    let mut bytes = [0; DATAGRAM_BYTES];
    loop {
        let socket = Arc::clone(&public.borrow_and_update());
        tokio::select! {
            changed = public.changed() => changed.unwrap(),
            received = socket.recv_from(&mut bytes) => {
                let Ok((length, from)) = received else { continue };
                let sender = *inner.sides[1 - of].own.borrow();
                // Strangers do not get in.
                if sender == Some(from) {
                    for datagram in inner.judge(1 - of, &bytes[..length]) {
                        inner.deliver(1 - of, &datagram).await;
                    }
                }
            }
        }
    }
}
