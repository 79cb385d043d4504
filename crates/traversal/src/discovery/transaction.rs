//! One STUN request and its retransmissions (RFC 8489 §6.2.1).

use std::time::Instant;

use holepunch_wire::stun::proof::ProofNonce;
use holepunch_wire::stun::{RequestOptions, TransactionId, binding_request_with};

use crate::schedule::Retransmission;

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    /// Index of the server that is asked.
    pub(super) server: usize,
    pub(super) started: Instant,
    /// Requests sent so far.
    pub(super) sent: u32,
    /// When the next request leaves, or the last one is given up.
    pub(super) next_at: Instant,
    plan: Retransmission,
}

/// What a transaction wants at a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Send(Vec<u8>),
    Exhausted,
}

impl Transaction {
    /// A transaction whose first request is due at once.
    pub(super) fn new(
        id: TransactionId,
        server: usize,
        plan: Retransmission,
        now: Instant,
    ) -> Self {
        Self { id, server, started: now, sent: 0, next_at: now, plan }
    }

    pub(super) fn is_refresh(&self) -> bool {
        self.plan == Retransmission::REFRESH
    }

    /// Does what is due; `nonce` asks the server for a proof of the address.
    pub(super) fn handle_timeout(&mut self, nonce: Option<ProofNonce>, now: Instant) -> Due {
        if now < self.next_at {
            return Due::Nothing;
        }
        if self.sent >= self.plan.requests {
            return Due::Exhausted;
        }
        self.sent += 1;
        self.next_at = now + self.plan.wait_after(self.sent);
        let options = RequestOptions { nonce, ..RequestOptions::default() };
        Due::Send(binding_request_with(self.id, &options))
    }
}
