//! What is answered to whom, and how often: nobody can make a worker send much to anybody.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// PINGs of strangers answered in a second, and at once.
const STRANGERS_PER_SECOND: u32 = 5;
const STRANGERS_BURST: u32 = 5;
/// PINGs of the peer answered in a second, and at once. A peer sends about 25 in ten seconds.
const PEER_PER_SECOND: u32 = 50;
const PEER_BURST: u32 = 50;
/// New sources of a peer's checks taken up in a second, and at once.
const OBSERVATIONS_PER_SECOND: u32 = 1;
const OBSERVATIONS_BURST: u32 = 16;
/// Authenticated checks of a peer answered in a second, and at once: its search sends 100 a second.
const SESSION_PER_SECOND: u32 = 250;
const SESSION_BURST: u32 = 250;
/// Offers followed in a second, and at once. Each sends a PING to an address of the rendezvous'
/// choice, and one that is honest offers a peer every few seconds at most.
const OFFERS_PER_SECOND: u32 = 1;
const OFFERS_BURST: u32 = 10;

/// Early PINGs kept in mind, and for how long: a peer whose offer arrived sooner than ours starts
/// to send before we know of it.
const EARLY_PINGS_MAX: usize = 16;
const EARLY_PINGS_AGE: Duration = Duration::from_secs(10);

/// Lets so many through in a second, and so many at once (the generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    slack: Duration,
    /// When the allowance would be untouched again.
    full_at: Option<Instant>,
}

impl RateLimit {
    fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self { interval, slack: interval * (burst - 1), full_at: None }
    }

    pub(crate) fn strangers() -> Self {
        Self::new(STRANGERS_PER_SECOND, STRANGERS_BURST)
    }

    pub(crate) fn peer() -> Self {
        Self::new(PEER_PER_SECOND, PEER_BURST)
    }

    /// Sources of a session's checks that are taken up: a peer behind a hard NAT has a few, and one
    /// that shows ever new ones is a nuisance.
    pub(crate) fn observations() -> Self {
        Self::new(OBSERVATIONS_PER_SECOND, OBSERVATIONS_BURST)
    }

    /// Checks of the peer of a session: a search sends 100 a second.
    pub(crate) fn session() -> Self {
        Self::new(SESSION_PER_SECOND, SESSION_BURST)
    }

    pub(crate) fn offers() -> Self {
        Self::new(OFFERS_PER_SECOND, OFFERS_BURST)
    }

    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        if full_at - now > self.slack {
            return false;
        }
        self.full_at = Some(full_at + self.interval);
        true
    }
}

/// The PINGs that came before their sender was offered.
#[derive(Debug, Default)]
pub(crate) struct EarlyPings {
    pings: VecDeque<(String, SocketAddr, Instant)>,
}

impl EarlyPings {
    pub(crate) fn remember(&mut self, id: &str, from: SocketAddr, now: Instant) {
        self.pings.retain(|(known, source, _)| !(known == id && *source == from));
        if self.pings.len() == EARLY_PINGS_MAX {
            self.pings.pop_front();
        }
        self.pings.push_back((id.to_owned(), from, now));
    }

    /// The sources of the early PINGs of `id`; all early PINGs are forgotten.
    pub(crate) fn take(&mut self, id: &str, now: Instant) -> Vec<SocketAddr> {
        let pings = std::mem::take(&mut self.pings);
        let fresh = |at: Instant| now.saturating_duration_since(at) <= EARLY_PINGS_AGE;
        let of_peer = pings.into_iter().filter(|(known, _, at)| known == id && fresh(*at));
        of_peer.map(|(_, from, _)| from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        Instant::now()
    }

    #[test]
    fn a_flood_is_answered_five_times_at_once_and_five_times_a_second() {
        let start = now();
        let mut limit = RateLimit::strangers();
        let answered = |limit: &mut RateLimit, at| (0..1000).filter(|_| limit.allows(at)).count();
        assert_eq!(answered(&mut limit, start), 5);
        let mut later = 0;
        for step in 1..=1000 {
            later += answered(&mut limit, start + Duration::from_millis(step));
        }
        assert_eq!(later, 5);
    }

    #[test]
    fn early_pings_are_few_fresh_and_of_the_peer() {
        let start = now();
        let mut early = EarlyPings::default();
        let source = |port: u16| SocketAddr::from(([203, 0, 113, 1], port));
        early.remember("peer", source(1), start);
        early.remember("other", source(2), start);
        early.remember("peer", source(1), start);
        assert_eq!(early.take("peer", start), [source(1)]);
        early.remember("peer", source(1), start);
        assert!(early.take("peer", start + Duration::from_secs(11)).is_empty());
        for port in 1..100 {
            early.remember("peer", source(port), start);
        }
        assert_eq!(early.take("peer", start).len(), EARLY_PINGS_MAX);
    }
}
