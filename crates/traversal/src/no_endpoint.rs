//! Where no STUN server shows a public endpoint, which is of IPv4: the user is told what is missing.

use std::time::{Duration, Instant};

use crate::doors::{Event, NoEndpoint};

/// What has not changed is said again after this time: often enough for whoever comes to look at a log,
/// and not so often that it fills.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// What makes one case of a missing endpoint another one than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Missing {
    v1: bool,
    has_candidates: bool,
    ipv6: bool,
}

/// What has been told last of the want of an endpoint, and when.
#[derive(Debug, Default)]
pub(crate) struct Want(Option<(Missing, Instant)>);

impl Want {
    /// Says that there is no endpoint: at first, when it is another case, and once in a while. (Nothing is
    /// woken up for it: discovery tries again sooner than that.)
    pub(crate) fn news(&mut self, want: NoEndpoint, now: Instant) -> Option<Event> {
        let has_candidates = !want.candidates.is_empty();
        let missing = Missing { v1: want.v1, has_candidates, ipv6: want.ipv6 };
        let is_told = self.0.is_some_and(|(told, at)| {
            told == missing && now.saturating_duration_since(at) < TELL_EVERY
        });
        if is_told {
            return None;
        }
        self.0 = Some((missing, now));
        Some(Event::NoEndpoint(want))
    }
}
