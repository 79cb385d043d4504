//! The table of requirements.

use std::time::Duration;

use super::super::words::{count, interval, main_strategy, ms, percent, round_trips, time};
use super::super::{Row, replay};
use super::layout::{Column, Style, Tone, lines, wrap};
use crate::lab::{Group, Percentiles, Violation};

/// Failed seeds that a row names.
const SEEDS_NAMED: usize = 5;
/// What stands before a remark, and is left free behind it.
const REMARK_MARGIN: usize = 8;
/// What stands before a row.
const ROW_MARGIN: usize = 2;

/// The rows, group by group.
pub(super) fn table(rows: &[Row], style: Style) -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.pair.group == group).collect();
        if !rows.is_empty() {
            text += &one_group(group, &rows, style);
            text.push('\n');
        }
    }
    text
}

fn one_group(group: Group, rows: &[&Row], style: Style) -> String {
    let suffix = common_suffix(rows);
    let strategies = Column::left("strategy", rows.iter().map(|row| main_strategy(&row.summary)));
    let mut title = vec![format!("{}: {}", group.name(), group.title())];
    if let Some(histories) = common(rows, |row| row.summary.direct.of) {
        title.push(format!("{} histories each", count(histories)));
    }
    let mut columns = columns(group, rows, suffix);
    match strategies.common() {
        Some(strategy) => title.push(format!("strategy: {strategy}")),
        None => columns.push(strategies),
    }
    let lines = lines(&columns, style.columns() - ROW_MARGIN);
    let mut text = style.paint(Tone::Heading, &title.join(" · ")) + "\n";
    for head in lines.head {
        text += &format!("  {}\n", style.paint(Tone::Quiet, &head));
    }
    for (row, line) in rows.iter().zip(lines.rows) {
        let (tone, mark) =
            if row.violations.is_empty() { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
        text += &format!("{} {}\n", style.paint(tone, mark), line.join("\n  "));
        for remark in remarks(group, row, style) {
            text += &format!("    {}\n", style.paint(Tone::Quiet, &remark));
        }
        text += &row_violations(row, style);
    }
    if !lines.left_out.is_empty() {
        let left_out = format!("  without room here: {}", lines.left_out.join("; "));
        text += &format!("{}\n", style.paint(Tone::Quiet, &left_out));
    }
    text
}

fn columns(group: Group, rows: &[&Row], suffix: &str) -> Vec<Column> {
    let name = |row: &&Row| row.pair.name.strip_suffix(suffix).unwrap_or_default().to_owned();
    let share = |row: &&Row| percent(row.summary.direct.share, 2);
    let packets = |row: &&Row| row.summary.probes.map(|it| it.to_string()).join("/");
    let mut columns = vec![
        Column::left("pair", rows.iter().map(name)),
        Column::right("direct", "%", rows.iter().map(share)),
        Column::right("direct", "95 %", rows.iter().map(|row| interval(row.summary.direct))),
    ];
    columns.extend(time_columns("link, ms", rows, |row| row.summary.link_time, |_, time| ms(time)));
    if group == Group::Repair {
        let share = |row: &&Row| row.summary.repaired.map(|it| percent(it.share, 2));
        let share = rows.iter().map(|row| share(row).unwrap_or_default());
        columns.push(Column::right("repaired", "%", share));
        let times =
            time_columns("repair, ms", rows, |row| row.summary.repair_time, |_, time| ms(time));
        columns.extend(times);
    } else {
        let of = |row: &Row| row.summary.link_time;
        let trips = |row: &Row, time| round_trips(time, &row.pair.scenario);
        columns.extend(time_columns("link, RTT", rows, of, trips));
    }
    columns.push(Column::right("packets", "p50/max", rows.iter().map(packets)));
    let sockets = rows.iter().map(|row| row.summary.sockets.to_string());
    columns.push(Column::right("sockets", "max", sockets));
    if group == Group::Relay {
        let share = rows.iter().map(|row| percent(row.summary.relay.share, 2));
        columns.push(Column::right("relay", "%", share));
        let of = |row: &Row| row.summary.verdict_time;
        columns.extend(time_columns("verdict, ms", rows, of, |_, time| ms(time)));
    }
    columns
}

type Percentile = fn(&Percentiles) -> Duration;

fn time_columns(
    over: &'static str,
    rows: &[&Row],
    times: impl Fn(&Row) -> Option<Percentiles>,
    in_words: impl Fn(&Row, Duration) -> String,
) -> Vec<Column> {
    let percentiles: [(_, Percentile); 3] =
        [("p50", |it| it.p50), ("p95", |it| it.p95), ("p99", |it| it.p99)];
    let column = |(head, of): (&'static str, Percentile)| {
        let cell = |row: &&Row| times(row).map(|times| in_words(row, of(&times)));
        Column::right(over, head, rows.iter().map(|row| cell(row).unwrap_or_default()))
    };
    percentiles.map(column).into()
}

/// What else there is to be said of a row.
fn remarks(group: Group, row: &Row, style: Style) -> Vec<String> {
    let summary = &row.summary;
    if group == Group::Relay {
        let columns = style.columns() - REMARK_MARGIN;
        return summary.reasons.keys().flat_map(|reason| wrap(reason, columns)).collect();
    }
    match summary.verdict_time.filter(|_| summary.relay.count > 0) {
        Some(times) => {
            let share = percent(summary.relay.share, 2);
            vec![format!("relay {share} %, told {} after the offer (p99)", time(times.p99))]
        }
        None => Vec::new(),
    }
}

fn row_violations(row: &Row, style: Style) -> String {
    let mut text = String::new();
    for violation in &row.violations {
        text += &one_violation(violation, style);
    }
    let wants_direct = row.pair.requirement.direct.is_some();
    if !row.violations.is_empty() && wants_direct && !row.summary.failed_seeds.is_empty() {
        let seeds = row.summary.failed_seeds.iter().take(SEEDS_NAMED).map(u64::to_string);
        let seeds: Vec<String> = seeds.collect();
        text += &format!("    no direct path with seed {}\n", seeds.join(", "));
    }
    let mut seeds: Vec<u64> = row.violations.iter().filter_map(|it| it.seed).collect();
    seeds.dedup();
    for seed in seeds {
        text += &format!("    {}\n", replay(&row.pair.scenario, seed));
    }
    text
}

/// A line that says what does not hold.
pub(super) fn one_violation(violation: &Violation, style: Style) -> String {
    format!("    {}\n", style.paint(Tone::Bad, &violation.text))
}

/// What all rows have in common.
fn common<T: PartialEq>(rows: &[&Row], of: impl Fn(&Row) -> T) -> Option<T> {
    let first = of(rows.first()?);
    rows.iter().all(|row| of(row) == first).then_some(first)
}

/// What stands behind the two kinds in all names: the group's title says it.
fn common_suffix<'a>(rows: &[&'a Row]) -> &'a str {
    let suffix = |row: &'a Row| row.pair.name.find(',').map_or("", |at| &row.pair.name[at..]);
    match rows {
        [first, _, ..] if rows.iter().all(|row| suffix(row) == suffix(first)) => suffix(first),
        _ => "",
    }
}
