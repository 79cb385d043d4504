//! Whether UDP gets out by IPv6, and from which address: asked of a STUN server that the rendezvous names.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::AddressKind;
use holepunch_wire::stun::{BindingOutcome, BindingResponse, TransactionId, binding_request};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::doors::{SocketId, Transmit};
use crate::schedule;

/// When the question is sent again; then it has no answer.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2000)];

/// A question to one server.
#[derive(Debug)]
struct Question {
    server: SocketAddr,
    transaction: TransactionId,
    sent: usize,
    next_at: Instant,
}

/// What is known of IPv6 beyond the addresses of the interfaces.
#[derive(Debug, Default)]
pub(crate) struct Ipv6 {
    question: Option<Question>,
    /// Where the server has seen the worker.
    mapped: Option<SocketAddr>,
    /// Whether there was an answer; `None` before that, and where nobody can be asked.
    works: Option<bool>,
}

impl Ipv6 {
    /// Asks the first of `servers` that has IPv6, if there is one. What was known counts until then.
    pub(crate) fn ask(&mut self, servers: &[SocketAddr], now: Instant, rng: &mut StdRng) {
        let server = servers.iter().find(|server| server.is_ipv6());
        self.question = server.map(|server| Question {
            server: *server,
            transaction: TransactionId::from(rng.random::<u128>()),
            sent: 0,
            next_at: now,
        });
    }

    /// The network has changed: nothing is known any more. The same server is asked.
    pub(crate) fn restart(&mut self, now: Instant, rng: &mut StdRng) {
        let server = self.question.as_ref().map(|question| question.server);
        *self = Self::default();
        self.ask(server.as_slice(), now, rng);
    }

    pub(crate) fn works(&self) -> Option<bool> {
        self.works
    }

    pub(crate) fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// Takes an answer; `false` when it is none to this question.
    pub(crate) fn handle_response(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        response: &BindingResponse,
    ) -> bool {
        let asked = self.question.as_ref().is_some_and(|question| {
            question.server == from && question.transaction == response.transaction
        });
        if socket != SocketId::MAIN_V6 || !asked {
            return false;
        }
        if let BindingOutcome::Mapped(mapped) = response.outcome {
            let is_host = mapped.is_ipv6()
                && mapped.port() != 0
                && AddressKind::of(mapped.ip()).is_reachable_unicast();
            (self.works, self.mapped) = (Some(true), is_host.then_some(mapped));
            self.rest();
        }
        true
    }

    /// Nothing more is sent, but the server stays known.
    fn rest(&mut self) {
        if let Some(question) = &mut self.question {
            question.sent = AGAIN_AFTER.len() + 1;
        }
    }

    /// Sends the question when it is time.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Transmit> {
        let question = self.question.as_mut().filter(|it| it.is_open() && it.next_at <= now)?;
        let Some(after) = AGAIN_AFTER.get(question.sent) else {
            question.sent += 1;
            (self.works, self.mapped) = (Some(false), None);
            return None;
        };
        question.sent += 1;
        question.next_at = if question.sent < AGAIN_AFTER.len() {
            schedule::apart(schedule::next_due(question.next_at, *after, now), now)
        } else {
            now + *after
        };
        let payload = binding_request(question.transaction);
        Some(Transmit { socket: SocketId::MAIN_V6, to: question.server, payload, ttl: None })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.question.as_ref().filter(|question| question.is_open()).map(|it| it.next_at)
    }
}

impl Question {
    fn is_open(&self) -> bool {
        self.sent <= AGAIN_AFTER.len()
    }
}
