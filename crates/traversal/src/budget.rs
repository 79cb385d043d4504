//! How often a worker searches, whatever the rendezvous plans.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Toward one address there is no second search within this time, ...
const SEARCH_EVERY: Duration = Duration::from_secs(60);
/// ... and no more than so many within an hour.
const SEARCHES_PER_HOUR: usize = 4;
const HOUR: Duration = Duration::from_secs(3600);
/// Searches remembered, and with that the most in an hour toward all addresses.
const REMEMBERED_MAX: usize = 64;

/// The searches of the last hour.
#[derive(Debug, Default)]
pub(crate) struct SearchHistory {
    searches: VecDeque<(IpAddr, Instant)>,
}

impl SearchHistory {
    /// Whether there may be another search toward `target`; if so it counts from now on.
    pub(crate) fn allows(&mut self, target: IpAddr, now: Instant) -> bool {
        let age = |at: Instant| now.saturating_duration_since(at);
        self.searches.retain(|(_, at)| age(*at) < HOUR);
        let toward = self.searches.iter().filter(|(ip, _)| *ip == target);
        let (mut count, mut recent) = (0, false);
        for (_, at) in toward {
            count += 1;
            recent |= age(*at) < SEARCH_EVERY;
        }
        if recent || count >= SEARCHES_PER_HOUR || self.searches.len() >= REMEMBERED_MAX {
            return false;
        }
        self.searches.push_back((target, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_searched_once_a_minute_and_four_times_an_hour() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut history = SearchHistory::default();
        let target = IpAddr::from([203, 0, 113, 1]);
        let after = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let allowed: Vec<u64> =
            (0..70).filter(|minute| history.allows(target, after(*minute))).collect();
        assert_eq!(allowed, [0, 1, 2, 3, 60, 61, 62, 63]);
        assert!(history.allows(IpAddr::from([203, 0, 113, 2]), after(1)));
    }

    #[test]
    fn many_addresses_share_one_bound() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut history = SearchHistory::default();
        let allowed = (0..=255).filter(|last| history.allows([198, 51, 100, *last].into(), now));
        assert_eq!(allowed.count(), REMEMBERED_MAX);
    }
}
