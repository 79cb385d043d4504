//! What is answered to whom, and how often: nobody can make a worker send much to anybody.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::rate::Rate;

const SECOND: Duration = Duration::from_secs(1);
/// PINGs of strangers that are answered.
pub(crate) const STRANGERS: Rate = Rate { count: 5, per: SECOND, burst: 5 };
/// PINGs of the peer that are answered. A peer sends about 25 in ten seconds.
pub(crate) const PEER: Rate = Rate { count: 50, per: SECOND, burst: 50 };
/// New sources of a peer's checks that are taken up: a peer behind a hard NAT has a few, and one that shows ever new ones
/// is a nuisance.
pub(crate) const OBSERVATIONS: Rate = Rate { count: 1, per: SECOND, burst: 16 };
/// Authenticated checks of a peer that are answered: its search sends 100 a second.
pub(crate) const CHECKS: Rate = Rate { count: 250, per: SECOND, burst: 250 };

/// Early PINGs kept in mind, and for how long: a peer whose offer arrived sooner than ours starts
/// to send before we know of it.
const EARLY_PINGS_MAX: usize = 16;
const EARLY_PINGS_AGE: Duration = Duration::from_secs(10);

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
