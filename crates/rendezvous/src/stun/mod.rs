//! The STUN server: Binding on UDP.

mod budget;
mod outgoing;
mod responder;
mod socket;
mod sole_source;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use holepunch_wire::address::AddressKind;
use holepunch_wire::relay::udp::is_of_relay;
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use noq_udp::RecvMeta;
use tokio::task::JoinSet;

use crate::listening::BindError;
use crate::metrics::ByWord;
use crate::relay::{Arrival as RelayArrival, Relay};
pub use budget::TOTAL as ANSWERS_MAX;
use budget::{Allowance, Budget, Shortfall};
use outgoing::{Outgoing, Run};
use responder::{Answer, Arrival, Own, Prover, respond};
use socket::Batch;
pub(crate) use socket::Socket;
#[cfg(test)]
pub(crate) use socket::open as open_sockets;
use sole_source::SoleSource;

/// The place of those that are not answered, behind those of [`Allowance`].
const UNANSWERED: usize = 2;

/// The counters of answers, before there are any.
pub(crate) fn no_answers() -> ByWord {
    ByWord::new("answer", ["whole", "mapped_alone", "none"])
}

/// What all sockets share. The budgets among it: the datagrams of one client come to one socket, but a victim has as many
/// ports as it takes to be answered by all of them.
#[derive(Debug)]
struct Shared {
    locals: Vec<SocketAddr>,
    /// What each of them is called from outside, or nothing.
    advertised: Vec<SocketAddr>,
    proofs: (ProofKey, ProofClock),
    budget: Mutex<Budget>,
    /// What is sent for the relay to addresses that have proved nothing: what it costs takes no answers of STUN from them.
    of_relay: Mutex<Budget>,
    answers: ByWord,
    sole_source: Mutex<SoleSource>,
    /// Nothing more can be learnt of that: no further datagram takes the lock.
    is_source_decided: AtomicBool,
    relay: Option<Arc<Relay>>,
}

/// A running STUN server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct StunServer {
    addresses: Vec<SocketAddr>,
    answers: ByWord,
    tasks: JoinSet<()>,
}

/// What a STUN server is to be.
#[derive(Debug)]
pub(crate) struct StunSettings<'a> {
    pub(crate) addresses: &'a [SocketAddr],
    /// What clients are told of the sockets, one for each of them. Their own addresses, where the numbers differ.
    pub(crate) advertised: &'a [SocketAddr],
    /// What proofs of address are made with.
    pub(crate) proofs: (ProofKey, ProofClock),
    /// Most answers a second in all.
    pub(crate) answers_max: Option<u64>,
    /// What datagrams of the relay are handed to.
    pub(crate) relay: Option<Arc<Relay>>,
}

impl StunServer {
    /// Binds all addresses, or says which one cannot be bound.
    pub(crate) fn bind(settings: StunSettings<'_>) -> Result<Self, (SocketAddr, io::Error)> {
        let StunSettings { addresses, advertised, proofs, answers_max, relay } = settings;
        let shards = socket::open(addresses)?;
        let locals: Vec<SocketAddr> = shards[0].iter().map(|socket| socket.local).collect();
        let is_pairwise = advertised.len() == addresses.len();
        let shared = Arc::new(Shared {
            locals: locals.clone(),
            advertised: if is_pairwise { advertised.to_vec() } else { Vec::new() },
            proofs,
            budget: Mutex::new(Budget::new(answers_max)),
            of_relay: Mutex::new(Budget::new(answers_max)),
            answers: no_answers(),
            sole_source: Mutex::default(),
            is_source_decided: AtomicBool::new(false),
            relay: relay.clone(),
        });
        let answers = shared.answers.clone();
        let each = shards.iter().flat_map(|shard| (0..shard.len()).map(move |own| (shard, own)));
        let tasks = each.map(|(shard, own)| {
            let (sockets, shared) = (Arc::clone(shard), Arc::clone(&shared));
            Reader { sockets, own, shared, outgoing: Outgoing::default() }.run()
        });
        let mut tasks: JoinSet<()> = tasks.collect();
        relay.map(|relay| tasks.spawn(relay.sweep()));
        Ok(Self { addresses: locals, answers, tasks })
    }

    /// The same; nothing where there are no addresses, or where they are taken and that is no fault.
    pub(crate) fn bind_unless_taken(
        settings: StunSettings<'_>,
        is_optional: bool,
    ) -> Result<Option<Self>, BindError> {
        if settings.addresses.is_empty() {
            return Ok(None);
        }
        match Self::bind(settings) {
            Ok(server) => Ok(Some(server)),
            Err((address, source)) => {
                let error = BindError::Stun { address, source };
                if !is_optional {
                    return Err(error);
                }
                tracing::warn!(%error, "STUN is off");
                Ok(None)
            }
        }
    }

    /// Binding requests, by what the budget has left for their answers.
    pub(crate) fn answers(&self) -> ByWord {
        self.answers.clone()
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Returns when the sockets are closed.
    pub(crate) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The task of one socket.
struct Reader {
    /// Those of its core.
    sockets: Arc<[Socket]>,
    /// The index of its own.
    own: usize,
    shared: Arc<Shared>,
    outgoing: Outgoing,
}

impl Reader {
    async fn run(mut self) {
        let mut batch = Batch::new();
        loop {
            let read = self.sockets[self.own].read(&mut batch).await;
            let count = match read {
                Ok(count) => count,
                Err(error) => {
                    tracing::debug!(%error, "STUN socket");
                    continue;
                }
            };
            let now = Instant::now();
            for (bytes, meta) in batch.reads(count) {
                self.sort(bytes, meta, now);
            }
            self.outgoing.flush(&self.sockets);
            // A flood lets the other tasks of this thread have their turns.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Hands on what the kernel has read in one piece, to whom it is for.
    fn sort(&mut self, mut read: &mut [u8], meta: &RecvMeta, now: Instant) {
        while !read.is_empty() {
            let first = meta.stride.clamp(1, read.len());
            let taken = match &self.shared.relay {
                Some(relay) if is_of_relay(read) => {
                    let arrival = RelayArrival { sockets: &self.sockets, own: self.own, meta, now };
                    let allows = |to| {
                        AddressKind::of(to).is_reachable_unicast()
                            && allows(&self.shared.of_relay, to, now).is_some()
                    };
                    relay.take(read, &arrival, allows)
                }
                _ => {
                    self.answer(&read[..first], meta, now);
                    first
                }
            };
            read = &mut read[taken.max(first)..];
        }
    }

    fn answer(&mut self, datagram: &[u8], meta: &RecvMeta, now: Instant) {
        let Self { sockets, own, shared, .. } = self;
        let socket = &sockets[*own];
        let destination = meta.dst_ip.unwrap_or(socket.local.ip()).to_canonical();
        let arrival = Arrival {
            from: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
            at: SocketAddr::new(destination, socket.local.port()),
            socket: *own,
        };
        let (key, clock) = &shared.proofs;
        let prover = Prover { key, expires: clock.expiry(now) };
        let allows = |to| {
            let allowance = allows(&shared.budget, to, now);
            shared.answers.add(allowance.map_or(UNANSWERED, |it| it as usize), 1);
            allowance
        };
        let own = Own { locals: &shared.locals, advertised: &shared.advertised };
        let Some(answer) = respond(datagram, &arrival, own, prover, allows) else { return };
        if !shared.is_source_decided.load(Ordering::Relaxed) {
            let mut seen = shared.sole_source.lock().unwrap_or_else(PoisonError::into_inner);
            shared.is_source_decided.store(seen.saw(arrival.from), Ordering::Relaxed);
        }
        let Answer { payload, port, socket: via } = answer;
        let run = Run {
            via,
            from: sockets[via].source(meta.dst_ip),
            to: SocketAddr::new(meta.addr.ip(), port),
            segment: payload.len(),
        };
        self.outgoing.push(&self.sockets, run, &payload);
    }
}

/// What an answer to there may say; tells from time to time how many were not whole.
fn allows(budget: &Mutex<Budget>, to: IpAddr, now: Instant) -> Option<Allowance> {
    let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
    let allowance = budget.allows(to, now);
    let is_whole = allowance == Some(Allowance::Whole);
    let news = if is_whole { None } else { budget.news(now) };
    drop(budget);
    if let Some(Shortfall { shortened, left_out }) = news {
        tracing::warn!(shortened, left_out, last = %to, "answers by UDP were shortened or left out: too many to one address, or in all");
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

    use tokio::net::UdpSocket;

    use super::*;

    /// The machine checks by that clock: a wall clock that was set in between must not matter.
    #[tokio::test]
    async fn proofs_are_stamped_by_the_clock_that_they_are_checked_with() {
        let unix = Duration::from_secs(1_000);
        let proofs = (ProofKey::new([1; 32]), ProofClock::new(Instant::now(), unix));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = StunSettings {
            addresses: &[loopback],
            advertised: &[],
            proofs: proofs.clone(),
            answers_max: None,
            relay: None,
        };
        let server = StunServer::bind(settings).unwrap();
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
