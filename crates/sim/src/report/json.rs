//! A report as JSON. Its field names are stable; `docs/lab.md` tells what they mean.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::matrix::{Cell, Expectation, Matrix};
use super::words::{in_round_trips, round_trip};
use super::{Report, Row, replay};
use crate::lab::{Incident, Percentiles, Requirement, Scenario, Share, Summary, Violation};
use crate::oracle::verdict_of_kinds;

/// The version of the format: counted up when a field changes its meaning or goes.
const FORMAT: u32 = 1;

/// The report as a JSON object.
#[must_use]
pub fn json(report: &Report) -> String {
    let document = Document {
        format: FORMAT,
        first_seed: report.first_seed,
        seeds: report.seeds,
        histories: report.histories(),
        violated: report.violated(),
        requirements: report.rows.iter().map(RowJson::of).collect(),
        matrix: report.matrix.as_ref().map(MatrixJson::of),
    };
    serde_json::to_string_pretty(&document).expect("invariant: texts and finite numbers")
}

/// Many histories of one scenario as a JSON object.
#[must_use]
pub fn json_of_one(scenario: &Scenario, first_seed: u64, summary: &Summary) -> String {
    let verdict = verdict_of_kinds(scenario.first, scenario.second);
    let one = OneJson {
        format: FORMAT,
        first_seed,
        scenario: ScenarioJson::of(scenario),
        oracle: Expectation::of(&verdict).name(),
        measured: Measured::of(summary, scenario),
    };
    serde_json::to_string_pretty(&one).expect("invariant: texts and finite numbers")
}

#[derive(Serialize)]
struct OneJson<'a> {
    format: u32,
    first_seed: u64,
    scenario: ScenarioJson,
    oracle: &'static str,
    #[serde(flatten)]
    measured: Measured<'a>,
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    first_seed: u64,
    seeds: Option<u64>,
    histories: usize,
    violated: usize,
    requirements: Vec<RowJson<'a>>,
    matrix: Option<MatrixJson<'a>>,
}

#[derive(Serialize)]
struct RowJson<'a> {
    group: &'static str,
    pair: &'a str,
    scenario: ScenarioJson,
    required: RequiredJson,
    #[serde(flatten)]
    measured: Measured<'a>,
    violations: Vec<ViolationJson<'a>>,
}

impl<'a> RowJson<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            group: row.pair.group.name(),
            pair: &row.pair.name,
            scenario: ScenarioJson::of(&row.pair.scenario),
            required: RequiredJson::of(&row.pair.requirement),
            measured: Measured::of(&row.summary, &row.pair.scenario),
            violations: violations(&row.violations, &row.pair.scenario),
        }
    }
}

#[derive(Serialize)]
struct MatrixJson<'a> {
    kinds: Vec<KindJson>,
    cells: Vec<CellJson<'a>>,
}

#[derive(Serialize)]
struct KindJson {
    name: String,
    description: String,
}

impl<'a> MatrixJson<'a> {
    fn of(matrix: &'a Matrix) -> Self {
        let kind = |kind: &crate::presets::NatKind| KindJson {
            name: kind.to_string(),
            description: kind.describe(),
        };
        Self {
            kinds: matrix.kinds.iter().map(kind).collect(),
            cells: matrix.cells.iter().map(CellJson::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct CellJson<'a> {
    first: String,
    second: String,
    oracle: &'static str,
    required_direct: Option<f64>,
    excuse: Option<&'static str>,
    #[serde(flatten)]
    measured: Measured<'a>,
    violations: Vec<ViolationJson<'a>>,
}

impl<'a> CellJson<'a> {
    fn of(cell: &'a Cell) -> Self {
        Self {
            first: cell.scenario.first.to_string(),
            second: cell.scenario.second.to_string(),
            oracle: cell.expectation.name(),
            required_direct: cell.expectation.demand(),
            excuse: cell.excuse,
            measured: Measured::of(&cell.summary, &cell.scenario),
            violations: violations(&cell.violations, &cell.scenario),
        }
    }
}

#[derive(Serialize)]
struct ScenarioJson {
    first: String,
    second: String,
    loss: f64,
    bursts: bool,
    jitter_ms: f64,
    way_ms: [f64; 2],
    signalling_lag_ms: [f64; 2],
    second_later_s: f64,
    ipv6: bool,
    search: holepunch_wire::nat::SearchWish,
    wrong_profiles: bool,
    incident: Option<&'static str>,
    busy: bool,
}

impl ScenarioJson {
    fn of(scenario: &Scenario) -> Self {
        Self {
            first: scenario.first.to_string(),
            second: scenario.second.to_string(),
            loss: scenario.loss,
            bursts: scenario.bursts,
            jitter_ms: ms(scenario.jitter),
            way_ms: scenario.ways.map(ms),
            signalling_lag_ms: scenario.lag.map(ms),
            second_later_s: scenario.later.as_secs_f64(),
            ipv6: scenario.ipv6,
            search: scenario.wish,
            wrong_profiles: scenario.lie.is_some(),
            incident: match scenario.incident {
                Incident::None => None,
                Incident::Rebind => Some("rebind"),
                Incident::Move => Some("move"),
            },
            busy: scenario.busy,
        }
    }
}

/// What has to hold; `null` where nothing is demanded.
#[derive(Serialize)]
struct RequiredJson {
    direct: Option<f64>,
    link_p50_ms: Option<f64>,
    link_p95_ms: Option<f64>,
    link_p99_ms: Option<f64>,
    relay: bool,
    verdict_p99_ms: Option<f64>,
    packets_before_verdict: Option<u32>,
    repaired: Option<f64>,
    repair_p99_ms: Option<f64>,
    sockets: Option<usize>,
    packets: Option<u32>,
}

impl RequiredJson {
    fn of(requirement: &Requirement) -> Self {
        Self {
            direct: requirement.direct,
            link_p50_ms: requirement.p50.map(ms),
            link_p95_ms: requirement.p95.map(ms),
            link_p99_ms: requirement.p99.map(ms),
            relay: requirement.relay.is_some() || requirement.relay_at_last,
            verdict_p99_ms: requirement.relay.map(|(within, _)| ms(within)),
            packets_before_verdict: requirement.relay.map(|(_, packets)| packets),
            repaired: requirement.repaired.map(|(share, _)| share),
            repair_p99_ms: requirement.repaired.map(|(_, within)| ms(within)),
            sockets: requirement.sockets,
            packets: requirement.probes,
        }
    }
}

#[derive(Serialize)]
struct Measured<'a> {
    histories: usize,
    direct: ShareJson,
    relay: ShareJson,
    unsettled: usize,
    round_trip_ms: f64,
    link_ms: Option<TimesJson>,
    link_round_trips: Option<TimesJson>,
    verdict_ms: Option<TimesJson>,
    packets: PacketsJson,
    packets_before_verdict: u32,
    sockets: usize,
    new_flows_per_second: usize,
    repaired: Option<ShareJson>,
    repair_ms: Option<TimesJson>,
    strategies: &'a BTreeMap<String, usize>,
    reasons: &'a BTreeMap<String, usize>,
    failed_seeds: &'a [u64],
}

impl<'a> Measured<'a> {
    fn of(summary: &'a Summary, scenario: &Scenario) -> Self {
        let trips = |time| rounded(in_round_trips(time, scenario));
        let [median, max] = summary.probes;
        Self {
            histories: summary.direct.of,
            direct: ShareJson::of(summary.direct),
            relay: ShareJson::of(summary.relay),
            unsettled: summary.unsettled(),
            round_trip_ms: ms(round_trip(scenario)),
            link_ms: summary.link_time.map(|times| TimesJson::of(times, ms)),
            link_round_trips: summary.link_time.map(|times| TimesJson::of(times, trips)),
            verdict_ms: summary.verdict_time.map(|times| TimesJson::of(times, ms)),
            packets: PacketsJson { median, max },
            packets_before_verdict: summary.probes_at_verdict,
            sockets: summary.sockets,
            new_flows_per_second: summary.new_flows_per_second,
            repaired: summary.repaired.map(ShareJson::of),
            repair_ms: summary.repair_time.map(|times| TimesJson::of(times, ms)),
            strategies: &summary.strategies,
            reasons: &summary.reasons,
            failed_seeds: &summary.failed_seeds,
        }
    }
}

#[derive(Serialize)]
struct ShareJson {
    count: usize,
    of: usize,
    share: f64,
    low: f64,
    high: f64,
}

impl ShareJson {
    fn of(share: Share) -> Self {
        let Share { count, of, share, low, high } = share;
        Self { count, of, share: rounded(share), low: rounded(low), high: rounded(high) }
    }
}

#[derive(Serialize)]
struct TimesJson {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl TimesJson {
    fn of(times: Percentiles, in_unit: impl Fn(Duration) -> f64) -> Self {
        let [p50, p95, p99] = [times.p50, times.p95, times.p99].map(in_unit);
        Self { p50, p95, p99 }
    }
}

#[derive(Serialize)]
struct PacketsJson {
    median: u32,
    max: u32,
}

#[derive(Serialize)]
struct ViolationJson<'a> {
    text: &'a str,
    seed: Option<u64>,
    replay: Option<String>,
}

fn violations<'a>(violations: &'a [Violation], scenario: &Scenario) -> Vec<ViolationJson<'a>> {
    let one = |violation: &'a Violation| ViolationJson {
        text: &violation.text,
        seed: violation.seed,
        replay: violation.seed.map(|seed| replay(scenario, seed)),
    };
    violations.iter().map(one).collect()
}

/// Milliseconds to thousandths.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Six digits after the point: beyond, floating-point arithmetic shows.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
