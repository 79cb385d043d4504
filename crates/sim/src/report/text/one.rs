//! One pair: what it is, and what came of it.

use super::super::matrix::Expectation;
use super::super::words::{count, interval, percent, round_trip, round_trips, time};
use super::layout::{Style, Tone, wrap};
use crate::lab::{Incident, Percentiles, Scenario, Summary};
use crate::oracle::verdict_of_kinds;
use holepunch_wire::nat::SearchWish;

/// Reasons that are shown.
const REASONS_SHOWN: usize = 3;

/// Many histories of one scenario.
#[must_use]
pub fn one(scenario: &Scenario, summary: &Summary, style: Style) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let direct = summary.direct;
    lines.push((
        "direct",
        format!(
            "{} % of {} histories (95 % interval {} %)",
            percent(direct.share, 2),
            count(direct.of),
            interval(direct)
        ),
    ));
    if let Some(times) = summary.link_time {
        lines.push(("link", times_in_words(times, Some(scenario)) + " after the second report"));
    }
    if summary.relay.count > 0 {
        let told = summary.verdict_time.map(|times| times_in_words(times, None));
        let told = told.map(|told| format!(", told {told} after the offer")).unwrap_or_default();
        lines.push(("relay", format!("{} %{told}", percent(summary.relay.share, 2))));
    }
    if summary.unsettled() > 0 {
        lines.push(("neither", format!("{} histories", count(summary.unsettled()))));
    }
    if let Some(repaired) = summary.repaired {
        let times = summary.repair_time.map(|times| ", ".to_owned() + &times_in_words(times, None));
        let share = percent(repaired.share, 2);
        lines.push(("repaired", format!("{share} %{}", times.unwrap_or_default())));
    }
    let [median, most] = summary.probes;
    lines.push(("packets", format!("median {median}, most {most}, of the side that sent more")));
    lines.push(("sockets", format!("most {} on one side", summary.sockets)));
    let strategies: Vec<String> =
        summary.strategies.iter().map(|(name, times)| format!("{name} {times}")).collect();
    lines.push(("strategy", strategies.join(", ")));
    for (reason, times) in summary.reasons.iter().take(REASONS_SHOWN) {
        lines.push(("reason", format!("{times} times: {reason}")));
    }
    if direct.count > 0 && !summary.failed_seeds.is_empty() {
        let seeds: Vec<String> = summary.failed_seeds.iter().map(u64::to_string).collect();
        lines.push(("failed", format!("seeds {}", seeds.join(", "))));
    }
    setting(scenario, style) + &labelled(&lines, style)
}

/// What two workers stand behind, and what is unusual.
pub(super) fn setting(scenario: &Scenario, style: Style) -> String {
    let expectation = Expectation::of(&verdict_of_kinds(scenario.first, scenario.second));
    let mut lines = vec![
        ("first", format!("{}: {}", scenario.first, scenario.first.describe())),
        ("second", format!("{}: {}", scenario.second, scenario.second.describe())),
        ("oracle", expectation.describe().to_owned()),
        ("network", network(scenario)),
    ];
    match scenario.incident {
        Incident::None => {}
        Incident::Rebind => {
            lines.push(("incident", "the first worker's NAT forgets its mappings".to_owned()));
        }
        Incident::Move => {
            lines.push(("incident", "the first worker comes into another network".to_owned()));
        }
    }
    let title = format!("{} × {}", scenario.first, scenario.second);
    style.paint(Tone::Heading, &title) + "\n" + &labelled(&lines, style)
}

fn network(scenario: &Scenario) -> String {
    let [first, second] = scenario.ways.map(time);
    let rtt = time(round_trip(scenario));
    let mut parts = vec![format!("one way {first} and {second}, {rtt} from peer to peer and back")];
    if scenario.loss > 0.0 {
        let how = if scenario.bursts { " in bursts" } else { "" };
        let share = percent(scenario.loss, 2);
        parts.push(format!("{share} % of the packets lost{how} each way"));
    }
    if !scenario.jitter.is_zero() {
        parts.push(format!("jitter {}, and packets overtake each other", time(scenario.jitter)));
    }
    if scenario.lag.iter().any(|lag| !lag.is_zero()) {
        let [first, second] = scenario.lag.map(time);
        parts.push(format!("signalling later by {first} and {second}"));
    }
    let later = scenario.later.as_secs_f64();
    parts.push(format!("the second comes {later} s later, or up to twice that"));
    if scenario.ipv6 {
        parts.push("IPv6, too".to_owned());
    }
    match scenario.wish {
        SearchWish::Usual => {}
        SearchWish::Exhaustive => parts.push("exhaustive searches".to_owned()),
        SearchWish::Never => parts.push("no searches".to_owned()),
    }
    if scenario.busy {
        parts.push("timers up to 500 ms late".to_owned());
    }
    if scenario.lie.is_some() {
        parts.push("both tell wrong profiles".to_owned());
    }
    parts.join("; ")
}

fn times_in_words(times: Percentiles, scenario: Option<&Scenario>) -> String {
    let one = |name: &str, value| {
        let trips = scenario.map(|scenario| format!(" ({} RTT)", round_trips(value, scenario)));
        format!("{name} {}{}", time(value), trips.unwrap_or_default())
    };
    [one("p50", times.p50), one("p95", times.p95), one("p99", times.p99)].join(", ")
}

/// Lines with a word before each, wrapped.
fn labelled(lines: &[(&str, String)], style: Style) -> String {
    const MARGIN: usize = 12;
    let mut text = String::new();
    for (label, content) in lines {
        for (index, part) in wrap(content, style.columns() - MARGIN).iter().enumerate() {
            let label = if index == 0 { *label } else { "" };
            text += &format!("  {}{part}\n", style.paint(Tone::Quiet, &format!("{label:10}")));
        }
    }
    text
}
