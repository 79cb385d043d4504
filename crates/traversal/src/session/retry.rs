//! Two that talk by a relay alone try the direct way again, seldom.
//!
//! What kept all checks of the first seconds from passing may be over: an outage, a filter, a NAT that had no port left. Both
//! sides have to send at about the same time, since the checks of each open its own NAT. Nothing is said between them for
//! that: both count from the offer, which reaches them at about the same time, and whatever else has happened leaves the
//! moments as they are. A side that has declined a search asks the rendezvous for another plan then.

use std::time::{Duration, Instant};

use holepunch_wire::session::LinkState;

use super::{Phase, Session};
use crate::doors::{RelayState, SearchRefusal};

/// Checks begin anew so long after the offer, and then after pauses that double ...
const FIRST: Duration = Duration::from_secs(60);
/// ... up to this: an attempt is some 25 packets to the peer's endpoint, and five to each of its other addresses.
const LONGEST: Duration = Duration::from_secs(600);

/// When the next attempt is due.
#[derive(Debug)]
pub(super) struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(offered: Instant) -> Self {
        Self { at: offered + FIRST, pause: FIRST }
    }

    /// Whether an attempt is due; if so the next one is planned, and those that have been slept through are left out.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at <= now;
        while self.at <= now {
            self.pause = (self.pause * 2).min(LONGEST);
            self.at += self.pause;
        }
        is_due
    }
}

impl Session {
    /// When all addresses of the peer are checked anew; `None` where there is something better, or nobody to talk to.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let is_relayed = matches!(self.phase, Phase::GaveUp { .. });
        (is_relayed && self.relay == RelayState::Serves).then_some(self.retry.at)
    }

    /// Checks all addresses of the peer anew, where that is due. The session stays what it is until a check is answered.
    pub(super) fn retry(&mut self, now: Instant) {
        if self.retry_at().is_some() && self.retry.is_due(now) {
            let endpoint = self.endpoint;
            self.remotes.restart(|to| Some(to) == endpoint, now);
            // What there was no time, socket or packet for then may be had now; what the user wants is the same.
            if self.refused.take().is_some_and(|refusal| refusal != SearchRefusal::Unwanted) {
                let reason = "the direct way is tried again".to_owned();
                self.report(LinkState::Checking, reason, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_further_and_further_apart_and_none_is_made_up_for() {
        #[expect(clippy::disallowed_methods, reason = "no clock: the test's time is its own")]
        let start = Instant::now();
        let mut retry = Retry::new(start);
        assert!(!retry.is_due(start));
        let mut minutes = Vec::new();
        for _ in 0..6 {
            let at = retry.at;
            minutes.push((at - start).as_secs() / 60);
            assert!(retry.is_due(at) && !retry.is_due(at));
        }
        assert_eq!(minutes, [1, 3, 7, 15, 25, 35]);
        assert!(retry.is_due(start + 100 * LONGEST));
        assert_eq!((retry.at - start).as_secs() / 60, 1005, "as if it had not slept");
    }
}
