//! The other end of a session, played by the test: it writes, reads and answers checks when the
//! test says so. The codec of checks is the program's own; an independent ICE agent confirms it in
//! the tests of `holepunch-traversal`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holepunch_wire::check::{Check, CheckRequest, IceRole, ParsedCheck, encode_success};
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::stun::TransactionId;
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::common::within;

/// The name of the peer in every offer.
pub(crate) const PEER: &str = "peer";

/// The tie-breaker of every agent.
const TIE_BREAKER: u64 = 7;

/// The longest datagram that is read.
const DATAGRAM_BYTES: usize = 2048;

/// A UDP socket, and what the two ends of a session know of each other.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    session: u64,
    socket: UdpSocket,
    /// The same socket: a look at it needs no runtime.
    raw: std::net::UdpSocket,
    transactions: AtomicU64,
}

/// A request of the worker that proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) from: SocketAddr,
    pub(crate) transaction: TransactionId,
    pub(crate) username: String,
    pub(crate) role: IceRole,
    pub(crate) tie_breaker: u64,
    pub(crate) nominates: bool,
}

/// Answers every check of the worker until it is dropped.
#[derive(Debug)]
pub(crate) struct Answering(tokio::task::JoinHandle<()>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agent {
    /// An agent of this session on loopback.
    pub(crate) fn bind(session: u64) -> Self {
        Self::bind_on(Ipv4Addr::LOCALHOST, session)
    }

    /// On another address of the loopback network.
    pub(crate) fn bind_on(ip: Ipv4Addr, session: u64) -> Self {
        let raw = std::net::UdpSocket::bind((ip, 0)).unwrap();
        raw.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(raw.try_clone().unwrap()).unwrap();
        let address = raw.local_addr().unwrap();
        Self { address, session, socket, raw, transactions: AtomicU64::new(1) }
    }

    /// An offer of this agent to a worker that has `role`: its endpoint, which the rendezvous' own
    /// STUN server has seen, and a plain plan.
    pub(crate) fn offer(&self, role: &str) -> Value {
        let mut offer = offer_without_endpoint(self.session, role);
        offer["peer_udp_ip"] = json!(self.address.ip());
        offer["peer_udp_port"] = json!(self.address.port());
        offer
    }

    /// This agent as a candidate.
    pub(crate) fn candidate(&self, kind: &str) -> Value {
        candidate(kind, self.address)
    }

    pub(crate) async fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).await.unwrap();
    }

    /// Sends a check in the role that the worker does not have.
    pub(crate) async fn check(
        &self,
        to: SocketAddr,
        role: IceRole,
        nominates: bool,
    ) -> TransactionId {
        let number = self.transactions.fetch_add(1, Ordering::Relaxed);
        let transaction = TransactionId::from(u128::from(number));
        let (own, worker) = (peer_credentials(self.session), worker_credentials(self.session));
        let request = CheckRequest {
            transaction,
            remote_ufrag: worker.ufrag(),
            local_ufrag: own.ufrag(),
            priority: 1,
            role,
            tie_breaker: TIE_BREAKER,
            use_candidate: nominates,
        };
        self.send(&request.encode(&worker.check_key()), to).await;
        transaction
    }

    /// The next datagram of any kind.
    pub(crate) async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; DATAGRAM_BYTES];
        let received = within("a datagram of the worker", self.socket.recv_from(&mut bytes)).await;
        let (length, from) = received.unwrap();
        (bytes[..length].to_vec(), from)
    }

    /// The next check of the worker; answers are left out.
    pub(crate) async fn request(&self) -> Request {
        within("a check of the worker", async {
            loop {
                let (datagram, from) = self.receive().await;
                if let Some(request) = self.read(&datagram, from) {
                    return request;
                }
            }
        })
        .await
    }

    /// Reads a datagram, which must be a check that proves itself; `None` where it is an answer.
    fn read(&self, datagram: &[u8], from: SocketAddr) -> Option<Request> {
        let parsed = ParsedCheck::parse(datagram).unwrap();
        let Check::Request { username, role, tie_breaker, use_candidate, .. } = parsed.check else {
            return None;
        };
        let key = peer_credentials(self.session).check_key();
        assert!(parsed.verify(&key), "the worker does not prove itself: {parsed:?}");
        Some(Request {
            from,
            transaction: parsed.transaction,
            username: username.to_string(),
            role,
            tie_breaker,
            nominates: use_candidate,
        })
    }

    /// The checks of the worker that have arrived already; answers are left out.
    pub(crate) fn arrived(&self) -> Vec<Request> {
        let mut bytes = [0; DATAGRAM_BYTES];
        let mut arrived = Vec::new();
        while let Ok((length, from)) = self.raw.recv_from(&mut bytes) {
            arrived.extend(self.read(&bytes[..length], from));
        }
        arrived
    }

    /// Whether nothing at all has arrived that was not taken.
    pub(crate) fn is_told_nothing(&self) -> bool {
        self.raw.recv_from(&mut [0; DATAGRAM_BYTES]).is_err()
    }

    /// Answers a check.
    pub(crate) async fn answer(&self, request: &Request) {
        self.send(&self.success(request), request.from).await;
    }

    /// The answer to a check.
    pub(crate) fn success(&self, request: &Request) -> Vec<u8> {
        let key = peer_credentials(self.session).check_key();
        encode_success(request.transaction, request.from, &key)
    }

    /// Waits for a check and answers it.
    pub(crate) async fn answer_next(&self) -> Request {
        let request = self.request().await;
        self.answer(&request).await;
        request
    }

    /// Waits for the worker's answer to the check `transaction`; the address in it. Checks of the
    /// worker that come in between are left without an answer.
    pub(crate) async fn answer_to(&self, transaction: TransactionId) -> SocketAddr {
        let key = worker_credentials(self.session).check_key();
        within("an answer of the worker", async {
            loop {
                let (datagram, _) = self.receive().await;
                let parsed = ParsedCheck::parse(&datagram).unwrap();
                if let Check::Success { mapped } = parsed.check
                    && parsed.transaction == transaction
                {
                    assert!(parsed.verify(&key), "the answer does not prove itself");
                    return mapped;
                }
            }
        })
        .await
    }

    /// Answers every check from now on.
    pub(crate) fn answering(self: &Arc<Self>) -> Answering {
        let agent = Arc::clone(self);
        Answering(tokio::spawn(async move {
            let mut bytes = [0; DATAGRAM_BYTES];
            while let Ok((length, from)) = agent.socket.recv_from(&mut bytes).await {
                if let Some(request) = agent.read(&bytes[..length], from) {
                    agent.answer(&request).await;
                }
            }
        }))
    }
}

/// The number of a session as the wire has it.
pub(crate) fn session_text(session: u64) -> String {
    format!("{session:016x}")
}

/// The worker's own credentials in a session.
pub(crate) fn worker_credentials(session: u64) -> IceCredentials {
    IceCredentials::new(format!("worker{session}"), format!("{session:0>32}")).unwrap()
}

/// The peer's credentials in a session.
pub(crate) fn peer_credentials(session: u64) -> IceCredentials {
    IceCredentials::new(format!("peer{session}"), format!("{session:x>32}")).unwrap()
}

/// An offer of a peer that has no endpoint to a worker that has `role`.
pub(crate) fn offer_without_endpoint(session: u64, role: &str) -> Value {
    let (worker, peer) = (worker_credentials(session), peer_credentials(session));
    json!({
        "type": "p2p_connection_offer",
        "peer_worker_id": PEER,
        "session": session_text(session),
        "role": role,
        "credentials": { "ufrag": worker.ufrag().as_str(), "password": worker.password() },
        "peer_credentials": { "ufrag": peer.ufrag().as_str(), "password": peer.password() },
        "candidates": [],
        "address_proof": "stun",
        "plan": { "number": 1, "strategy": "plain", "reason": "the test says so" },
    })
}

/// A candidate as the wire has it.
pub(crate) fn candidate(kind: &str, address: SocketAddr) -> Value {
    json!({ "kind": kind, "ip": address.ip(), "port": address.port(), "priority": 1 })
}
