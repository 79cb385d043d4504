//! How much STUN answers, and to whom. Whoever writes somebody else's address on his requests has the answers
//! sent there, and they are up to 4.2 times as long (6.6 times by IPv6): it must not be worth his while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::Source;

/// Answers to one address in a second, and at once. As many workers as may be registered from one address
/// refresh their mappings with 1,100 requests a second; 1,300 of them may start at once, each with the 15
/// questions of its profile; the search of one worker asks a few hundred. To somebody who has not asked it
/// is 2 Mbit/s.
const OF_SOURCE: Rate = Rate { per_second: 2_000, burst: 20_000 };
/// Answers in all: five times what 100,000 workers need to refresh their mappings, and at most some
/// 50 Mbit/s for whoever pays for this server.
const TOTAL: Rate = Rate { per_second: 50_000, burst: 50_000 };
/// Addresses whose use is known. One is forgotten once it has its whole burst again, so that the rate of all
/// keeps the table below this by itself.
const SOURCES_MAX: usize = 65_536;
/// What was left out is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// So many in a second, and so many at once (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// When the burst would be whole again after one more, or `None`: that is one too many.
    fn take(self, whole_at: Option<Instant>, now: Instant) -> Option<Instant> {
        let interval = Duration::from_secs(1) / self.per_second;
        let next = whole_at.map_or(now, |at| at.max(now)) + interval;
        (next <= now + interval * self.burst).then_some(next)
    }
}

/// What may still be answered.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When each of them has its whole burst again.
    sources: BTreeMap<Source, Instant>,
    /// The same, by that time.
    by_time: BTreeSet<(Instant, Source)>,
    total: Option<Instant>,
    left_out: u64,
    told_at: Option<Instant>,
}

impl Budget {
    /// Whether an answer may go to this address. Those to this machine itself count in all alone.
    pub(super) fn allows(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.forget_idle(now);
        let source = Source::of(ip);
        let before = source.and_then(|source| self.sources.get(&source).copied());
        let taken = match source {
            Some(source) => OF_SOURCE.take(before, now).map(|next| Some((next, source))),
            None => Some(None),
        };
        let (Some(taken), Some(total)) = (taken, TOTAL.take(self.total, now)) else {
            self.left_out += 1;
            return false;
        };
        self.total = Some(total);
        if let Some((next, source)) = taken {
            match before {
                Some(before) => _ = self.by_time.remove(&(before, source)),
                None if self.sources.len() >= SOURCES_MAX => self.forget_first(),
                None => {}
            }
            self.sources.insert(source, next);
            self.by_time.insert((next, source));
        }
        true
    }

    /// How many answers were left out, when it is time to say so again.
    pub(super) fn news(&mut self, now: Instant) -> Option<u64> {
        let is_time = |told: Instant| now.saturating_duration_since(told) >= TOLD_EVERY;
        if self.left_out == 0 || !self.told_at.is_none_or(is_time) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }

    fn forget_idle(&mut self, now: Instant) {
        while self.by_time.first().is_some_and(|(whole_at, _)| *whole_at <= now) {
            self.forget_first();
        }
    }

    /// The one that has used least of its burst.
    fn forget_first(&mut self) {
        if let Some((_, source)) = self.by_time.pop_first() {
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    /// How many of so many requests at once are answered.
    fn answered(budget: &mut Budget, ip: IpAddr, requests: usize, now: Instant) -> usize {
        (0..requests).filter(|_| budget.allows(ip, now)).count()
    }

    #[test]
    fn one_address_gets_its_burst_and_then_its_rate_and_others_theirs() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let second = Duration::from_secs(1);
        assert_eq!(answered(&mut budget, host(1), 45_000, start), 20_000);
        assert_eq!(answered(&mut budget, host(2), 500, start), 500, "the search of another worker");
        assert_eq!(answered(&mut budget, host(1), 45_000, start + second), 2_000);
        assert_eq!(answered(&mut budget, host(1), 45_000, start + 60 * second), 20_000);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (now, mut budget) = (Instant::now(), Budget::default());
        let all =
            (0..45_000_u128).map(|low| IpAddr::from(((0x2001_0db8 << 96) + low).to_be_bytes()));
        assert_eq!(all.filter(|ip| budget.allows(*ip, now)).count(), 20_000);
    }

    #[test]
    fn requests_in_everybody_s_name_are_answered_at_the_rate_of_all() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let all = |budget: &mut Budget, now| {
            (0..120_000).filter(|number| budget.allows(host(*number), now)).count()
        };
        assert_eq!(all(&mut budget, start), 50_000);
        assert_eq!(budget.sources.len(), 50_000);
        assert_eq!(all(&mut budget, start + Duration::from_secs(1)), 50_000);
        budget.allows(host(1), start + Duration::from_secs(60));
        assert_eq!((budget.sources.len(), budget.by_time.len()), (1, 1), "the others are idle");
    }

    #[test]
    fn the_table_is_bounded_and_whoever_has_used_most_stays_in_it() {
        let (now, mut budget) = (Instant::now(), Budget::default());
        assert_eq!(answered(&mut budget, host(0), 30_000, now), 20_000);
        for number in 1..=u32::try_from(SOURCES_MAX + 10).unwrap() {
            budget.total = None;
            assert!(budget.allows(host(number), now));
        }
        assert_eq!((budget.sources.len(), budget.by_time.len()), (SOURCES_MAX, SOURCES_MAX));
        assert!(!budget.allows(host(0), now));
    }

    #[test]
    fn this_machine_counts_in_all_alone() {
        let (now, mut budget) = (Instant::now(), Budget::default());
        assert_eq!(answered(&mut budget, [127, 0, 0, 1].into(), 60_000, now), 50_000);
        assert!(budget.sources.is_empty());
    }

    #[test]
    fn what_is_left_out_is_told_once_in_a_minute() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        assert_eq!(budget.news(start), None);
        answered(&mut budget, host(1), 20_007, start);
        assert_eq!(budget.news(start), Some(7));
        answered(&mut budget, host(1), 5, start);
        assert_eq!(budget.news(start + Duration::from_secs(59)), None);
        assert_eq!(budget.news(start + Duration::from_secs(60)), Some(5));
    }
}
