//! The STUN server: Binding on UDP.

mod budget;
mod responder;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use holepunch_wire::stun::proof::{PROOF_LIFETIME, ProofKey};
use noq_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use budget::{Allowance, Budget, Shortfall};
use responder::{Arrival, Prover, respond};

/// Longest datagram that is read, in bytes. A Binding request is far shorter; with segmentation
/// offload one read may hold several.
const READ_BYTES: usize = 8 * 1024;

/// One socket of the server. The kernel tells the destination of each datagram and takes the source
/// of each answer, so that on a wildcard address the answer leaves from where it was asked.
#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// A running STUN server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct StunServer {
    sockets: Arc<Vec<Socket>>,
    tasks: JoinSet<()>,
}

impl StunServer {
    /// Binds all addresses, or says which one cannot be bound. Proofs of address are made with
    /// `proof_key`.
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        proof_key: &ProofKey,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let open =
            |address: &SocketAddr| Socket::open(*address).map_err(|source| (*address, source));
        let sockets: Vec<Socket> = addresses.iter().map(open).collect::<Result<_, _>>()?;
        let sockets = Arc::new(sockets);
        let budget = Arc::new(Mutex::new(Budget::default()));
        let tasks = (0..sockets.len())
            .map(|index| {
                let (sockets, budget) = (Arc::clone(&sockets), Arc::clone(&budget));
                serve(sockets, index, proof_key.clone(), budget)
            })
            .collect();
        Ok(Self { sockets, tasks })
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.local).collect()
    }

    /// Returns when the sockets are closed.
    pub(crate) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Socket {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let udp = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&udp).into())?;
        let local = udp.local_addr()?;
        Ok(Self { udp, state, local })
    }
}

async fn serve(
    sockets: Arc<Vec<Socket>>,
    index: usize,
    proof_key: ProofKey,
    budget: Arc<Mutex<Budget>>,
) {
    let socket = &sockets[index];
    let locals: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local).collect();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut meta = [RecvMeta::default()];
        let read = socket
            .udp
            .async_io(Interest::READABLE, || {
                let mut slices = [IoSliceMut::new(&mut buffer)];
                socket.state.recv((&socket.udp).into(), &mut slices, &mut meta)
            })
            .await;
        let meta = meta[0];
        if let Err(error) = read {
            tracing::debug!(%error, "STUN socket");
            continue;
        }
        let destination = meta.dst_ip.unwrap_or(socket.local.ip()).to_canonical();
        let arrival = Arrival {
            from: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
            at: SocketAddr::new(destination, socket.local.port()),
            socket: index,
        };
        let prover = Prover { key: &proof_key, expires: proof_expiry() };
        for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
            let allows = |to| allows(&budget, to);
            let Some(answer) = respond(datagram, &arrival, &locals, prover, allows) else {
                continue;
            };
            let via = &sockets[answer.socket];
            let transmit = Transmit {
                destination: SocketAddr::new(meta.addr.ip(), answer.port),
                ecn: None,
                contents: &answer.payload,
                segment_size: None,
                // A wildcard socket answers from the address that was asked, whichever port it has.
                src_ip: meta.dst_ip.filter(|_| via.local.ip().is_unspecified()),
            };
            // A full send buffer loses the answer, as any network may; the client asks again.
            let _best_effort = via.state.try_send((&via.udp).into(), &transmit);
        }
    }
}

/// What an answer to there may say; tells from time to time how many were not whole.
fn allows(budget: &Mutex<Budget>, to: IpAddr) -> Option<Allowance> {
    let now = Instant::now();
    let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
    let allowance = budget.allows(to, now);
    let is_whole = allowance == Some(Allowance::Whole);
    let news = if is_whole { None } else { budget.news(now) };
    drop(budget);
    if let Some(Shortfall { shortened, left_out }) = news {
        tracing::warn!(shortened, left_out, last = %to, "STUN answers were shortened or left out: too many to one address, or in all");
    }
    allowance
}

/// Until when a proof made now is good, in seconds of Unix time. On a clock that stands before 1970
/// no proof is good.
fn proof_expiry() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| (now + PROOF_LIFETIME).as_secs())
}
