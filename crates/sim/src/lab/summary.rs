//! Many histories summed up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outcome::{Outcome, Verdict};

/// The 97.5th percentile of the normal distribution: intervals of 95 %.
const Z: f64 = 1.959_964;

/// A share with its 95 % interval (Wilson 1927).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// The share.
    pub share: f64,
    /// The interval's lower bound.
    pub low: f64,
    /// The interval's upper bound.
    pub high: f64,
}

impl Share {
    /// `count` of `of`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn new(count: usize, of: usize) -> Self {
        if of == 0 {
            return Self { count, of, share: 0.0, low: 0.0, high: 1.0 };
        }
        let (p, n) = (count as f64 / of as f64, of as f64);
        let centre = p + Z * Z / (2.0 * n);
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        Self {
            count,
            of,
            share: p,
            // Exact at the ends, where floating-point arithmetic may miss them by a little.
            low: if count == 0 { 0.0 } else { ((centre - spread) / scale).max(0.0) },
            high: if count >= of { 1.0 } else { ((centre + spread) / scale).min(1.0) },
        }
    }
}

/// Percentiles of times; each is one of the times (the nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Percentiles {
    /// Half are not longer.
    pub p50: Duration,
    /// 95 % are not longer.
    pub p95: Duration,
    /// 99 % are not longer.
    pub p99: Duration,
}

impl Percentiles {
    /// Of these times; `None` where there are none.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let rank = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).max(1) - 1;
            times.get(index).copied()
        };
        Some(Self { p50: rank(50)?, p95: rank(95)?, p99: rank(99)? })
    }
}

/// Many histories of one pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Those that ended with a direct path.
    pub direct: Share,
    /// Those that ended with the relay verdict.
    pub relay: Share,
    /// From the second report to the link.
    pub link_time: Option<Percentiles>,
    /// From the offer to the relay verdict.
    pub verdict_time: Option<Percentiles>,
    /// Packets of the side that sent more, until the link or the end: median and most.
    pub probes: [u32; 2],
    /// Most packets of one side before a relay verdict.
    pub probes_at_verdict: u32,
    /// Most sockets of one side that sent to the peer, or to where it was sought.
    pub sockets: usize,
    /// Most new pairs of socket and destination within a second.
    pub new_flows_per_second: usize,
    /// Those whose link was repaired, of those in which it had to be.
    pub repaired: Option<Share>,
    /// From the first packet after the incident to the repair.
    pub repair_time: Option<Percentiles>,
    /// The strategies, with how often each was the last.
    pub strategies: BTreeMap<String, usize>,
    /// Why there was no link, with how often.
    pub reasons: BTreeMap<String, usize>,
    /// Seeds without a direct path, at most [`SEEDS_SHOWN`].
    pub failed_seeds: Vec<u64>,
    /// Seeds of histories that stand out.
    pub seeds: Seeds,
}

/// Seeds of histories that stand out; of several the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seeds {
    /// A direct path.
    pub direct: Option<u64>,
    /// No direct path.
    pub undirected: Option<u64>,
    /// No relay verdict.
    pub unrelayed: Option<u64>,
    /// Neither a direct path nor a relay verdict.
    pub unsettled: Option<u64>,
    /// A direct path that was not repaired after an incident.
    pub unrepaired: Option<u64>,
    /// The longest time to the link.
    pub slowest: Option<u64>,
    /// The longest time to the relay verdict.
    pub slowest_verdict: Option<u64>,
    /// The longest time to the repair.
    pub slowest_repair: Option<u64>,
    /// The most packets of one side.
    pub busiest: Option<u64>,
    /// The most packets of one side before the relay verdict.
    pub busiest_before_verdict: Option<u64>,
}

impl Seeds {
    fn of(outcomes: &[Outcome], incident: bool) -> Self {
        let first = |is: &dyn Fn(&Outcome) -> bool| {
            outcomes.iter().find(|outcome| is(outcome)).map(|outcome| outcome.seed)
        };
        let most = |time: &dyn Fn(&Outcome) -> Option<u128>| {
            let times = outcomes.iter().filter_map(|it| Some((time(it)?, it.seed)));
            times.max_by_key(|(time, seed)| (*time, std::cmp::Reverse(*seed))).map(|(_, seed)| seed)
        };
        let busier = |probes: [u32; 2]| Some(u128::from(probes[0].max(probes[1])));
        let is_relayed = |it: &Outcome| it.verdict == Verdict::Relay;
        let is_direct = |it: &Outcome| it.verdict == Verdict::Direct;
        Self {
            direct: first(&is_direct),
            undirected: first(&|it| !is_direct(it)),
            unrelayed: first(&|it| !is_relayed(it)),
            unsettled: first(&|it| it.verdict == Verdict::Failed),
            unrepaired: first(&|it| incident && is_direct(it) && it.repair_time.is_none()),
            slowest: most(&|it| Some(it.link_time?.as_nanos())),
            slowest_verdict: most(&|it| {
                is_relayed(it).then_some(it.verdict_time)?.map(|time| time.as_nanos())
            }),
            slowest_repair: most(&|it| Some(it.repair_time?.as_nanos())),
            busiest: most(&|it| busier(it.probes)),
            busiest_before_verdict: most(&|it| {
                is_relayed(it).then(|| busier(it.probes_at_verdict))?
            }),
        }
    }
}

/// Failed seeds that are named.
pub const SEEDS_SHOWN: usize = 10;

impl Summary {
    /// How many histories ended with neither a direct path nor a relay verdict.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.direct.of.saturating_sub(self.direct.count + self.relay.count)
    }

    /// Of these histories; `incident` where something happened to each link.
    #[must_use]
    pub fn of(outcomes: &[Outcome], incident: bool) -> Self {
        let count = |verdict| outcomes.iter().filter(|it| it.verdict == verdict).count();
        let direct = Share::new(count(Verdict::Direct), outcomes.len());
        let busier = |it: &Outcome| it.probes[0].max(it.probes[1]);
        let mut probes: Vec<u32> = outcomes.iter().map(busier).collect();
        probes.sort_unstable();
        let told = outcomes.iter().filter(|it| it.verdict == Verdict::Relay);
        let (mut strategies, mut reasons) = (BTreeMap::new(), BTreeMap::new());
        for outcome in outcomes {
            let strategy = outcome.strategy.map_or("none".to_owned(), |it| it.to_string());
            *strategies.entry(strategy).or_insert(0) += 1;
            if let Some(reason) = &outcome.reason {
                *reasons.entry(reason.clone()).or_insert(0) += 1;
            }
        }
        let repairs: Vec<Duration> = outcomes.iter().filter_map(|it| it.repair_time).collect();
        let failed = outcomes.iter().filter(|it| it.verdict != Verdict::Direct);
        Self {
            direct,
            relay: Share::new(count(Verdict::Relay), outcomes.len()),
            link_time: Percentiles::of(outcomes.iter().filter_map(|it| it.link_time).collect()),
            verdict_time: Percentiles::of(told.clone().filter_map(|it| it.verdict_time).collect()),
            probes: [
                probes.get(probes.len() / 2).copied().unwrap_or(0),
                probes.last().copied().unwrap_or(0),
            ],
            probes_at_verdict: told
                .map(|it| it.probes_at_verdict[0].max(it.probes_at_verdict[1]))
                .max()
                .unwrap_or(0),
            sockets: outcomes.iter().map(|it| it.sockets).max().unwrap_or(0),
            new_flows_per_second: outcomes
                .iter()
                .map(|it| it.new_flows_per_second)
                .max()
                .unwrap_or(0),
            repaired: incident.then(|| Share::new(repairs.len(), direct.count)),
            repair_time: Percentiles::of(repairs),
            strategies,
            reasons,
            failed_seeds: failed.map(|it| it.seed).take(SEEDS_SHOWN).collect(),
            seeds: Seeds::of(outcomes, incident),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let share = Share::new(98, 100);
        assert!((share.low - 0.930).abs() < 0.001 && (share.high - 0.9945).abs() < 0.001);
        assert!(Share::new(0, 0).high >= 1.0);
        let all = Share::new(3700, 3700);
        assert!(all.low > 0.998 && all.high <= 1.0);
    }

    #[test]
    fn all_and_none_are_within_their_intervals() {
        for of in 1..5000 {
            let (all, none) = (Share::new(of, of), Share::new(0, of));
            assert!(all.high >= all.share && all.low < 1.0, "{all:?}");
            assert!(none.low <= none.share && none.high > 0.0, "{none:?}");
        }
    }

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let of = Percentiles::of(times).unwrap();
        let ms = Duration::from_millis;
        assert_eq!((of.p50, of.p95, of.p99), (ms(50), ms(95), ms(99)));
        assert_eq!(Percentiles::of(Vec::new()), None);
    }
}
