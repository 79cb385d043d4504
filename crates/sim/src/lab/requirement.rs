//! What has to hold for a pair, and what does not.

use std::time::Duration;

use super::summary::{Share, Summary};

/// What has to hold for a pair; `None` where nothing is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Requirement {
    /// Least share of direct paths.
    pub direct: Option<f64>,
    /// Most time to half of the links.
    pub p50: Option<Duration>,
    /// Most time to 95 % of them.
    pub p95: Option<Duration>,
    /// Most time to 99 % of them.
    pub p99: Option<Duration>,
    /// All are to get the relay verdict, with a reason, within this time after the offer and with
    /// at most this many packets.
    pub relay: Option<(Duration, u32)>,
    /// All are to get the relay verdict, whenever.
    pub relay_at_last: bool,
    /// Least share of repaired links, and most time to a repair.
    pub repaired: Option<(f64, Duration)>,
    /// Most sockets of one side.
    pub sockets: Option<usize>,
    /// Most packets of one side.
    pub probes: Option<u32>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What, in words.
    pub text: String,
    /// The seed of a history that shows it.
    pub seed: Option<u64>,
}

/// The 99th percentile of fewer times is the longest of them, which says little.
const P99_TIMES_MIN: usize = 100;

impl Requirement {
    /// What does not hold.
    #[must_use]
    pub fn violations(&self, summary: &Summary) -> Vec<Violation> {
        self.judge(summary, Violations { is_few: false, found: Vec::new() })
    }

    /// What does not hold beyond chance, where there are fewer histories than the requirement needs:
    /// a share is too small when its whole interval is.
    #[must_use]
    pub fn violations_of_few(&self, summary: &Summary) -> Vec<Violation> {
        self.judge(summary, Violations { is_few: true, found: Vec::new() })
    }

    fn judge(&self, summary: &Summary, mut violations: Violations) -> Vec<Violation> {
        let has_p99 = !violations.is_few || summary.direct.of >= P99_TIMES_MIN;
        let seeds = &summary.seeds;
        violations.check_least("direct", self.direct, summary.direct, seeds.undirected);
        let times = summary.link_time.unwrap_or_default();
        violations.check_time("p50", self.p50, times.p50, seeds.slowest);
        violations.check_time("p95", self.p95, times.p95, seeds.slowest);
        violations.check_time("p99", self.p99.filter(|_| has_p99), times.p99, seeds.slowest);
        if self.relay.is_some() || self.relay_at_last {
            let relay = summary.relay;
            violations.check_least("relay verdicts", Some(1.0), relay, seeds.unrelayed);
            let reasons: usize = summary.reasons.values().sum();
            let all = reasons == summary.relay.of;
            violations.check(all, seeds.unrelayed, || "a verdict without a reason".to_owned());
        }
        if let Some((within, probes)) = self.relay {
            let time = summary.verdict_time.unwrap_or_default().p99;
            violations.check_time("verdict p99", Some(within), time, seeds.slowest_verdict);
            let sent = summary.probes_at_verdict;
            let text = || format!("{sent} packets before the verdict > {probes}");
            violations.check(sent <= probes, seeds.busiest_before_verdict, text);
        }
        if let Some((least, within)) = self.repaired {
            let repaired = summary.repaired.unwrap_or(Share::new(0, 1));
            violations.check_least("repaired", Some(least), repaired, seeds.unrepaired);
            let time = summary.repair_time.unwrap_or_default().p99;
            let within = Some(within).filter(|_| has_p99);
            violations.check_time("repair p99", within, time, seeds.slowest_repair);
        }
        let sockets = (summary.sockets, self.sockets.unwrap_or(usize::MAX));
        violations.check(sockets.0 <= sockets.1, seeds.busiest, || {
            format!("{} sockets > {}", sockets.0, sockets.1)
        });
        let probes = (summary.probes[1], self.probes.unwrap_or(u32::MAX));
        violations.check(probes.0 <= probes.1, seeds.busiest, || {
            format!("{} packets > {}", probes.0, probes.1)
        });
        violations.found
    }
}

struct Violations {
    is_few: bool,
    found: Vec<Violation>,
}

impl Violations {
    fn check(&mut self, holds: bool, seed: Option<u64>, text: impl FnOnce() -> String) {
        if !holds {
            self.found.push(Violation { text: text(), seed });
        }
    }

    fn check_least(&mut self, what: &str, least: Option<f64>, share: Share, seed: Option<u64>) {
        if let Some(least) = least {
            let text = || format!("{what} {} < {}", percent(share.share), percent(least));
            let found = if self.is_few { share.high } else { share.share };
            self.check(found >= least, seed, text);
        }
    }

    fn check_time(
        &mut self,
        what: &str,
        most: Option<Duration>,
        time: Duration,
        seed: Option<u64>,
    ) {
        if let Some(most) = most {
            let text = || format!("{what} {} > {}", in_ms(time), in_ms(most));
            self.check(time <= most, seed, text);
        }
    }
}

/// A time as it stands in a violation.
fn in_ms(time: Duration) -> String {
    // Upward: a time that is over its bound by less than a millisecond is not to look like it.
    format!("{} ms", time.as_nanos().div_ceil(1_000_000))
}

/// A share as it stands in a violation.
pub(crate) fn percent(share: f64) -> String {
    // Downward, for the same reason; the small number makes up for binary fractions.
    let hundredths = (share * 1e4 + 1e-6).floor();
    let text = format!("{:.2}", hundredths / 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Outcome, Verdict};

    fn summary(direct: usize, of: usize) -> Summary {
        let outcome = |seed: usize| Outcome {
            seed: u64::try_from(seed).unwrap(),
            verdict: if seed < direct { Verdict::Direct } else { Verdict::Failed },
            link_time: (seed < direct)
                .then(|| Duration::from_millis(1 + u64::try_from(seed).unwrap())),
            verdict_time: None,
            probes: [5, 3],
            probes_at_verdict: [0, 0],
            sockets: 2,
            new_flows_per_second: 1,
            strategy: None,
            reason: None,
            repair_time: None,
        };
        let outcomes: Vec<Outcome> = (0..of).map(outcome).collect();
        Summary::of(&outcomes, false)
    }

    fn texts(violations: &[Violation]) -> Vec<&str> {
        violations.iter().map(|it| it.text.as_str()).collect()
    }

    #[test]
    fn what_does_not_hold_is_named_with_a_seed_that_shows_it() {
        let requirement = Requirement {
            direct: Some(0.99),
            p50: Some(Duration::from_millis(20)),
            sockets: Some(1),
            probes: Some(4),
            ..Requirement::default()
        };
        let violations = requirement.violations(&summary(97, 100));
        let expected =
            ["direct 97 % < 99 %", "p50 49 ms > 20 ms", "2 sockets > 1", "5 packets > 4"];
        assert_eq!(texts(&violations), expected);
        let seeds: Vec<_> = violations.iter().map(|it| it.seed).collect();
        assert_eq!(seeds, [Some(97), Some(96), Some(0), Some(0)]);
    }

    #[test]
    fn of_few_histories_only_what_chance_does_not_explain_is_a_violation() {
        let most = Some(Duration::from_millis(48));
        let requirement = Requirement { direct: Some(0.99), p99: most, ..Requirement::default() };
        let one_of_fifty = summary(49, 50);
        assert_eq!(requirement.violations(&one_of_fifty).len(), 2);
        assert_eq!(requirement.violations_of_few(&one_of_fifty), []);
        assert_eq!(texts(&requirement.violations_of_few(&summary(10, 20))), ["direct 50 % < 99 %"]);
    }

    #[test]
    fn a_verdict_that_is_missing_or_late_is_a_violation() {
        let within = Duration::from_millis(160);
        let requirement = Requirement { relay: Some((within, 5)), ..Requirement::default() };
        let violations = requirement.violations(&summary(0, 4));
        assert_eq!(
            texts(&violations),
            ["relay verdicts 0 % < 100 %", "a verdict without a reason"]
        );
    }
}
