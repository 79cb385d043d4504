//! Where no STUN server shows a public endpoint, which is of IPv4: a peer is wanted all the same, and the user is
//! told what is missing.

use std::time::{Duration, Instant};

use crate::doors::{Event, NoEndpoint};
use crate::machine::Traversal;
use crate::reporting::Wish;

/// What has not changed is said again after this time: often enough for whoever comes to look at a log,
/// and not so often that it fills.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// What makes one case of a missing endpoint another one than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    v1: bool,
    has_candidates: bool,
    ipv6: bool,
}

impl Traversal {
    /// Whether no STUN server has answered by IPv4 for long, or none can be asked. As long as the first answer may
    /// come by IPv6, nobody knows yet what is missing.
    fn has_no_endpoint(&self) -> bool {
        let is_silent = self.profiler.is_silent_by_ipv4() && !self.ipv6.is_open();
        is_silent && self.discovery.endpoint().is_none()
    }

    /// How a peer is to be asked for at this moment.
    pub(crate) fn wish(&self) -> Option<Wish> {
        let anywhere = || (self.v1 && self.has_no_endpoint()).then_some(Wish::Anywhere);
        self.discovery.endpoint().map(Wish::At).or_else(anywhere)
    }

    /// Says that there is no endpoint: at first, when it is another case, and once in a while. (Nothing is
    /// woken up for it: discovery tries again sooner than that.)
    pub(crate) fn tell_no_endpoint(&mut self, now: Instant) {
        if !self.has_no_endpoint() || !self.reporting.is_registered() {
            return;
        }
        let candidates = self.candidates();
        let ipv6 = self.ipv6.gets_out() == Some(true);
        let missing = Missing { v1: self.v1, has_candidates: !candidates.is_empty(), ipv6 };
        let is_told = self.told_no_endpoint.is_some_and(|(told, at)| {
            told == missing && now.saturating_duration_since(at) < TELL_EVERY
        });
        if !is_told {
            self.told_no_endpoint = Some((missing, now));
            let mut asked = self.discovery.names();
            for name in self.ipv6.unanswered().filter(|_| !ipv6) {
                if !asked.iter().any(|known| known == name) {
                    asked.push(name.to_owned());
                }
            }
            self.events.push_back(Event::NoEndpoint(NoEndpoint {
                asked,
                why: self.discovery.last_failure().map(str::to_owned),
                ipv6,
                has_ipv4: self.has_ipv4(),
                v1: self.v1,
                candidates: candidates.iter().map(|candidate| candidate.address()).collect(),
            }));
        }
    }
}
