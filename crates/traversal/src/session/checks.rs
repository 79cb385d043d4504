//! The checks whose answers still count.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use holepunch_wire::check::IceRole;
use holepunch_wire::stun::TransactionId;

use super::paths::Route;

/// Checks kept: the largest search, and what goes on beside it.
const SENT_MAX: usize = 4096;

/// A check that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentCheck {
    pub(crate) route: Route,
    pub(crate) at: Instant,
    /// The role that it claimed.
    pub(crate) role: IceRole,
    /// Whether it nominated the route.
    pub(crate) nominating: bool,
}

/// The checks whose answers still count, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    sent: BTreeMap<TransactionId, SentCheck>,
    order: VecDeque<TransactionId>,
}

impl Checks {
    pub(crate) fn sent(&mut self, transaction: TransactionId, check: SentCheck) {
        if self.order.len() == SENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sent.remove(&oldest);
        }
        self.order.push_back(transaction);
        self.sent.insert(transaction, check);
    }

    pub(crate) fn find(&self, transaction: TransactionId) -> Option<SentCheck> {
        self.sent.get(&transaction).copied()
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert!(self.sent.len() <= self.order.len(), "a check is never forgotten");
        assert!(self.order.len() <= SENT_MAX, "{} checks", self.order.len());
    }

    /// Takes a check out: it was answered.
    pub(crate) fn answered(&mut self, transaction: TransactionId) {
        self.sent.remove(&transaction);
    }
}
