//! What all workers of a run know together: which pair there is, and whether one was lost or doubled.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use holepunch_wire::session::SessionId;

use super::super::stats::Sample;

/// By then both of a pair have heard of it, and of its end.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// Whoever leaves a peer while others do has the next one by then: two that have met before wait longest.
const WISH_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    sessions: HashMap<SessionId, Pair>,
    pub(super) pairs: u64,
    /// From a lost connection until the worker is registered again.
    pub(super) out: Sample,
    /// From the wish for a peer until the offer.
    pub(super) waits: Sample,
    pub(super) faults: Vec<String>,
}

/// Those of a session who have been offered it and have it still; whether both have had it; and since when one of them wants no
/// more of it.
#[derive(Debug, Default)]
struct Pair {
    have: Vec<usize>,
    is_had: bool,
    left: Option<Instant>,
}

impl Pair {
    /// Whether nothing but its workers may end it. One whose offer was lost with a connection is none yet.
    fn stands(&self) -> bool {
        self.is_had && self.left.is_none()
    }
}

impl Ledger {
    pub(super) fn offered(&mut self, worker: usize, session: SessionId, waited: Option<Duration>) {
        let pair = self.sessions.entry(session).or_default();
        if !pair.have.contains(&worker) {
            pair.have.push(worker);
            pair.is_had |= pair.have.len() == 2;
            self.pairs += u64::from(pair.have.len() == 2);
        }
        if let Some(waited) = waited {
            self.waits.add(waited);
            if waited > WISH_MAX {
                self.faults.push(format!("a worker has waited for a peer for over {WISH_MAX:?}"));
            }
        }
    }

    /// A worker is about to leave a session by its own wish.
    pub(super) fn leaves(&mut self, worker: usize, session: SessionId, now: Instant) {
        if let Some(pair) = self.sessions.get_mut(&session) {
            pair.left = Some(now);
            pair.have.retain(|it| *it != worker);
        }
    }

    /// The rendezvous ends a session for a worker: rightly so, where the other one has left it.
    pub(super) fn ended(&mut self, worker: usize, session: SessionId, why: &str) {
        let Some(pair) = self.sessions.get_mut(&session) else { return };
        pair.have.retain(|it| *it != worker);
        if pair.stands() {
            self.faults.push(format!("a pair was lost: {why}"));
        }
        if pair.have.is_empty() {
            self.sessions.remove(&session);
        }
    }

    /// A worker that has a session is offered another one.
    pub(super) fn doubled(&mut self, worker: usize, session: SessionId) {
        if self.sessions.get(&session).is_some_and(Pair::stands) {
            self.faults.push("a worker that had a peer was offered another one".to_owned());
        }
        if let Some(pair) = self.sessions.get_mut(&session) {
            pair.have.retain(|it| *it != worker);
        }
    }

    /// At the end, when nobody has left for [`HEARD_WITHIN`]: each session is had by two, or by nobody.
    pub(super) fn verdict(&mut self, now: Instant) {
        for pair in self.sessions.values() {
            let is_heard = pair.left.is_none_or(|at| at + HEARD_WITHIN < now);
            let fault = match (pair.have.len(), pair.left) {
                (0 | 2, None) | (0, Some(_)) => continue,
                (_, Some(_)) if !is_heard => continue,
                (_, Some(_)) => "a worker was not told that its peer has left",
                (_, None) => "one of a pair has not heard of it",
            };
            self.faults.push(fault.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    fn faults(plays: impl FnOnce(&mut Ledger, Instant)) -> Vec<String> {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        plays(&mut ledger, start);
        ledger.verdict(start + 2 * HEARD_WITHIN);
        ledger.faults
    }

    #[test]
    fn a_pair_that_both_have_and_one_that_was_left_are_right() {
        let faults = faults(|ledger, start| {
            ledger.offered(1, A, None);
            ledger.offered(2, A, None);
            ledger.leaves(1, A, start);
            ledger.ended(2, A, "peer left");
            ledger.offered(1, B, None);
            ledger.offered(2, B, None);
            assert_eq!(ledger.pairs, 2);
        });
        assert_eq!(faults, [""; 0]);
    }

    #[test]
    fn a_wish_that_takes_too_long_is_told() {
        let waits = |waited| {
            faults(|ledger, _| {
                ledger.offered(1, A, Some(waited));
                ledger.offered(2, A, None);
            })
        };
        assert_eq!(waits(WISH_MAX), [""; 0]);
        let late = waits(WISH_MAX + Duration::from_millis(1));
        assert_eq!(late, ["a worker has waited for a peer for over 20s"]);
    }

    #[test]
    fn a_pair_that_is_ended_that_one_alone_has_or_that_is_doubled_is_told() {
        let lost = faults(|ledger, _| {
            ledger.offered(1, A, None);
            ledger.offered(2, A, None);
            ledger.ended(1, A, "forgotten");
        });
        assert_eq!(lost, ["a pair was lost: forgotten", "one of a pair has not heard of it"]);
        assert_eq!(faults(|ledger, _| ledger.offered(1, A, None)).len(), 1);
        let doubled = faults(|ledger, _| {
            ledger.offered(1, A, None);
            ledger.offered(2, A, None);
            ledger.doubled(1, A);
            ledger.offered(1, B, None);
            ledger.offered(3, B, None);
        });
        assert_eq!(doubled.len(), 2, "{doubled:?}");
        let untold = faults(|ledger, start| {
            ledger.offered(1, A, None);
            ledger.offered(2, A, None);
            ledger.leaves(1, A, start);
        });
        assert_eq!(untold, ["a worker was not told that its peer has left"]);
    }
}
