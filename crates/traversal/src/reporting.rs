//! When the rendezvous is asked for a peer: by a report of the endpoint, or without one where no STUN
//! server has shown any. Nothing is asked for while the worker punches or is linked.

use std::net::SocketAddr;
use std::time::Instant;

use crate::doors::{Turn, WakeReason, WakeUp};
use crate::schedule;

/// How a peer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// By a report of this endpoint.
    At(SocketAddr),
    /// Without an endpoint.
    Anywhere,
}

#[derive(Debug, Default)]
pub(crate) struct Reporting {
    pub(crate) registered: bool,
    /// What the rendezvous knows and has not yet used for an offer.
    reported: Option<Wish>,
    not_before: Option<Instant>,
    /// Punches that failed one after the other.
    failures: u32,
}

impl Reporting {
    /// A signalling session begins, in which the rendezvous knows nothing.
    pub(crate) fn registered(&mut self) {
        self.registered = true;
        self.reported = None;
    }

    pub(crate) fn unregistered(&mut self) {
        self.registered = false;
    }

    /// The offer is followed: the rendezvous has taken the worker off its queue.
    pub(crate) fn offered(&mut self) {
        self.reported = None;
        self.not_before = None;
    }

    pub(crate) fn linked(&mut self) {
        self.failures = 0;
    }

    /// The worker is free again, or was never bound: it wants another peer, by and by.
    pub(crate) fn failed(&mut self, (now, rng): Turn<'_>) {
        self.failures = self.failures.saturating_add(1);
        self.reported = None;
        self.not_before = Some(now + schedule::report_backoff(self.failures, rng));
    }

    /// A linked peer is gone: the worker wants another one, at once.
    pub(crate) fn lost(&mut self) {
        self.reported = None;
        self.not_before = None;
    }

    /// The wish to tell now, if one is due.
    pub(crate) fn due(&mut self, wish: Option<Wish>, now: Instant) -> Option<Wish> {
        let wish = wish?;
        let waits = self.not_before.is_some_and(|at| at > now);
        if !self.registered || waits || self.reported == Some(wish) {
            return None;
        }
        self.not_before = None;
        self.reported = Some(wish);
        Some(wish)
    }

    pub(crate) fn poll_timeout(&self) -> Option<WakeUp> {
        self.not_before.filter(|_| self.registered).map(|at| (at, WakeReason::Report))
    }
}
