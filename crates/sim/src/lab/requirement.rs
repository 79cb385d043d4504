//! What has to hold for a pair, and what does not.

use std::time::Duration;

use super::summary::Summary;

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

impl Requirement {
    /// What does not hold, in words.
    #[must_use]
    pub fn violations(&self, summary: &Summary) -> Vec<Violation> {
        let mut violations = Violations::default();
        let seeds = &summary.seeds;
        violations.check_least("direct", self.direct, summary.direct.share, seeds.undirected);
        let times = summary.link_time.unwrap_or_default();
        violations.check_time("p50", self.p50, times.p50, seeds.slowest);
        violations.check_time("p95", self.p95, times.p95, seeds.slowest);
        violations.check_time("p99", self.p99, times.p99, seeds.slowest);
        if self.relay.is_some() || self.relay_at_last {
            let share = summary.relay.share;
            violations.check_least("relay verdicts", Some(1.0), share, seeds.unrelayed);
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
            let share = summary.repaired.map_or(0.0, |repaired| repaired.share);
            violations.check_least("repaired", Some(least), share, seeds.unrepaired);
            let time = summary.repair_time.unwrap_or_default().p99;
            violations.check_time("repair p99", Some(within), time, seeds.slowest_repair);
        }
        let sockets = (summary.sockets, self.sockets.unwrap_or(usize::MAX));
        violations.check(sockets.0 <= sockets.1, seeds.busiest, || {
            format!("{} sockets > {}", sockets.0, sockets.1)
        });
        let probes = (summary.probes[1], self.probes.unwrap_or(u32::MAX));
        violations.check(probes.0 <= probes.1, seeds.busiest, || {
            format!("{} packets > {}", probes.0, probes.1)
        });
        violations.0
    }
}

#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn check(&mut self, holds: bool, seed: Option<u64>, text: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { text: text(), seed });
        }
    }

    fn check_least(&mut self, what: &str, least: Option<f64>, share: f64, seed: Option<u64>) {
        if let Some(least) = least {
            let text = || format!("{what} {} < {}", percent(share), percent(least));
            self.check(share >= least, seed, text);
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
