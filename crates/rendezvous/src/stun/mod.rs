//! The STUN server: Binding on UDP.

mod budget;
mod responder;
mod sole_source;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use noq_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::metrics::ByWord;
use budget::{Allowance, Budget, Shortfall};
use responder::{Arrival, Own, Prover, respond};
use sole_source::SoleSource;

/// Longest datagram that is read, in bytes. A Binding request is far shorter; with segmentation
/// offload one read may hold several.
const READ_BYTES: usize = 8 * 1024;

/// The place of those that are not answered, behind those of [`Allowance`].
const UNANSWERED: usize = 2;

/// The counters of answers, before there are any.
pub(crate) fn no_answers() -> ByWord {
    ByWord::new("answer", ["whole", "mapped_alone", "none"])
}

/// One socket of the server. The kernel tells the destination of each datagram and takes the source
/// of each answer, so that on a wildcard address the answer leaves from where it was asked.
#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

/// What all sockets share.
#[derive(Debug)]
struct Shared {
    /// What each socket is called from outside, or nothing.
    advertised: Vec<SocketAddr>,
    proofs: (ProofKey, ProofClock),
    budget: Mutex<Budget>,
    answers: ByWord,
    sole_source: Mutex<SoleSource>,
    /// Nothing more can be learnt of that: no further datagram takes the lock.
    is_source_decided: AtomicBool,
}

/// A running STUN server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct StunServer {
    sockets: Arc<Vec<Socket>>,
    answers: ByWord,
    tasks: JoinSet<()>,
}

impl StunServer {
    /// Binds all addresses, or says which one cannot be bound. Proofs of address are made with
    /// `proofs`. Clients are told of the sockets by `advertised`, one for each of them, or by their own addresses
    /// where the numbers differ.
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        advertised: &[SocketAddr],
        proofs: &(ProofKey, ProofClock),
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let open =
            |address: &SocketAddr| Socket::open(*address).map_err(|source| (*address, source));
        let sockets: Vec<Socket> = addresses.iter().map(open).collect::<Result<_, _>>()?;
        let sockets = Arc::new(sockets);
        let is_pairwise = advertised.len() == addresses.len();
        let shared = Arc::new(Shared {
            advertised: if is_pairwise { advertised.to_vec() } else { Vec::new() },
            proofs: proofs.clone(),
            budget: Mutex::default(),
            answers: no_answers(),
            sole_source: Mutex::default(),
            is_source_decided: AtomicBool::new(false),
        });
        let answers = shared.answers.clone();
        let tasks = (0..sockets.len())
            .map(|index| serve(Arc::clone(&sockets), index, Arc::clone(&shared)))
            .collect();
        Ok(Self { sockets, answers, tasks })
    }

    /// Binding requests, by what the budget has left for their answers.
    pub(crate) fn answers(&self) -> ByWord {
        self.answers.clone()
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

async fn serve(sockets: Arc<Vec<Socket>>, index: usize, shared: Arc<Shared>) {
    let (key, clock) = &shared.proofs;
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
        let prover = Prover { key, expires: clock.expiry(Instant::now()) };
        for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
            let allows = |to| {
                let allowance = allows(&shared.budget, to);
                shared.answers.add(allowance.map_or(UNANSWERED, |it| it as usize), 1);
                allowance
            };
            let own = Own { locals: &locals, advertised: &shared.advertised };
            let Some(answer) = respond(datagram, &arrival, own, prover, allows) else {
                continue;
            };
            if !shared.is_source_decided.load(Ordering::Relaxed) {
                let mut seen = shared.sole_source.lock().unwrap_or_else(PoisonError::into_inner);
                shared.is_source_decided.store(seen.saw(arrival.from), Ordering::Relaxed);
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holepunch_wire::stun::proof::{PROOF_LIFETIME, ProofNonce};
    use holepunch_wire::stun::{
        BindingResponse, RequestOptions, TransactionId, binding_request_with,
    };

    use super::*;

    /// The machine checks by that clock: a wall clock that was set in between must not matter.
    #[tokio::test]
    async fn proofs_are_stamped_by_the_clock_that_they_are_checked_with() {
        let unix = Duration::from_secs(1_000);
        let proofs = (ProofKey::new([1; 32]), ProofClock::new(Instant::now(), unix));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = StunServer::bind(&[loopback], &[], &proofs).unwrap();
        let client = UdpSocket::bind(loopback).await.unwrap();
        let nonce = Some(ProofNonce([7; 16]));
        let options = RequestOptions { nonce, ..RequestOptions::default() };
        let request = binding_request_with(TransactionId::from(1), &options);
        client.send_to(&request, server.addresses()[0]).await.unwrap();
        let mut answer = [0; 1_024];
        let (bytes, _) = client.recv_from(&mut answer).await.unwrap();
        let proof = BindingResponse::parse(&answer[..bytes]).unwrap().proof.unwrap();
        let earliest = unix + PROOF_LIFETIME;
        let latest = proofs.1.expiry(Instant::now());
        assert!((earliest.as_secs()..=latest).contains(&proof.expires), "{}", proof.expires);
    }
}
