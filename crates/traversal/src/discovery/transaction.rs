//! One STUN request and its retransmissions (RFC 8489 §6.2.1).

use std::time::Instant;

use holepunch_wire::stun::proof::ProofNonce;
use holepunch_wire::stun::{RequestOptions, TransactionId, binding_request_with};

use crate::schedule::{self, Retransmission};

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
        let wait = self.plan.wait_after(self.sent);
        self.next_at = if self.sent < self.plan.requests {
            schedule::apart(schedule::next_due(self.next_at, wait, now), now)
        } else {
            // Its answer has its time, however late it was asked for.
            now + wait
        };
        let options = RequestOptions { nonce, ..RequestOptions::default() };
        Due::Send(binding_request_with(self.id, &options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// When the requests leave, and when the last is given up, in milliseconds after the first: a machine that is called
    /// `late` each time, and sleeps once until `sleeps_until`.
    fn moments(late: u64, sleeps_until: u64) -> Vec<u128> {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut transaction = Transaction::new(1.into(), 0, Retransmission::DISCOVERY, start);
        let (mut moments, mut now) = (Vec::new(), start);
        loop {
            let due = transaction.handle_timeout(None, now);
            if due != Due::Nothing {
                moments.push((now - start).as_millis());
            }
            if due == Due::Exhausted {
                return moments;
            }
            now = (transaction.next_at + ms(late)).max(start + ms(sleeps_until));
        }
    }

    #[test]
    fn requests_keep_their_moments_though_each_leaves_late() {
        let exact = [0, 500, 1500, 3500, 7500, 15_500, 31_500, 39_500];
        assert_eq!(moments(0, 0), exact);
        let late: Vec<u128> = exact.iter().map(|at| if *at > 0 { at + 40 } else { 0 }).collect();
        assert_eq!(moments(40, 0)[..7], late[..7]);
        assert_eq!(moments(40, 0)[7], 31_540 + 8000 + 40, "the last answer has all of its time");
    }

    #[test]
    fn a_long_sleep_is_no_burst_of_requests() {
        let moments = moments(0, 20_000);
        assert_eq!(moments[..4], [0, 20_000, 20_500, 22_500]);
    }
}
