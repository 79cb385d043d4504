//! How often a worker searches, whatever the rendezvous plans.

use std::collections::{BTreeMap, VecDeque};
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

/// Packets that go to an address of which nobody has proved that it is the peer's, within a minute, from
/// all sessions: one attempt at an endpoint and at sixteen further addresses there.
const UNPROVEN_PER_MINUTE: u32 = 120;
const MINUTE: Duration = Duration::from_secs(60);
/// Such addresses counted at a time; with so many at once, the others get nothing.
const UNPROVEN_MAX: usize = 1024;

/// What has been sent to addresses without proof.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    sent: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Unproven {
    /// Whether there may be another packet to `target`; if so it counts.
    pub(crate) fn allows(&mut self, target: IpAddr, now: Instant) -> bool {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < MINUTE;
        if !self.sent.get(&target).is_some_and(|(at, _)| is_fresh(*at)) {
            self.sent.retain(|_, (at, _)| is_fresh(*at));
            if self.sent.len() >= UNPROVEN_MAX {
                return false;
            }
            self.sent.insert(target, (now, 0));
        }
        let Some((_, sent)) = self.sent.get_mut(&target) else { return false };
        *sent += 1;
        *sent <= UNPROVEN_PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_proof_gets_few_packets_a_minute_whoever_asks() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut unproven = Unproven::default();
        let target = IpAddr::from([203, 0, 113, 1]);
        let count =
            |unproven: &mut Unproven, at| (0..500).filter(|_| unproven.allows(target, at)).count();
        assert_eq!(count(&mut unproven, start), 120);
        assert_eq!(count(&mut unproven, start + Duration::from_secs(59)), 0);
        assert_eq!(count(&mut unproven, start + Duration::from_secs(60)), 120);
        let others = (0..5000_u32).filter(|number| {
            unproven.allows(IpAddr::from(number.to_be_bytes()), start + Duration::from_secs(61))
        });
        assert_eq!(others.count(), UNPROVEN_MAX - 1);
    }

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
