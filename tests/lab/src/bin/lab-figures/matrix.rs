//! Many pairs of NATs, each many times.

use std::collections::BTreeMap;
use std::process::ExitCode;

use holepunch_lab::pairs::{Expected, Pair, Run, catalogue};
use holepunch_lab::{Conditions, Lab, LabError, NatKind, SIDES_MAX};
use serde_json::{Value, json};

use crate::{Args, say};

/// Runs of each pair, unless the command line says otherwise.
const RUNS: u32 = 10;
/// A search may fail in one of so many runs. It finds a port in 98 of 100 cases at worst, so that two
/// failures in ten runs are no bad luck.
const RUNS_PER_FAILED_SEARCH: usize = 10;

/// A pair and what has come of it.
struct Row {
    pair: Pair,
    runs: Vec<Run>,
    failures: Vec<String>,
}

/// Checks the NATs, runs all pairs and reports.
pub(crate) fn run_all(args: &Args) -> Result<ExitCode, LabError> {
    let mut pairs = catalogue();
    if let Some(only) = &args.only {
        pairs.retain(|pair| pair.to_string().contains(only));
    }
    for line in check_nats(&pairs)? {
        if !args.json {
            say(std::io::stdout(), line);
        }
    }
    if !args.json {
        say(std::io::stdout(), HEADER);
    }
    let mut rows = Vec::new();
    for pair in pairs {
        let row = Row::run(pair, args.runs.unwrap_or(RUNS));
        for failure in &row.failures {
            say(std::io::stderr(), format_args!("lab-figures: {pair}: {failure}"));
        }
        if !args.json {
            say(std::io::stdout(), row.text());
        }
        rows.push(row);
    }
    let bad = rows.iter().filter(|row| !row.is_as_expected()).count();
    if args.json {
        let all: Vec<Value> = rows.iter().map(Row::json).collect();
        let text = json!({ "debug_build": cfg!(debug_assertions), "pairs": all, "failed": bad });
        say(std::io::stdout(), format_args!("{text:#}"));
    } else {
        let verdict = format!("{} pairs, {bad} not as they have to be", rows.len());
        say(std::io::stdout(), verdict);
    }
    Ok(ExitCode::from(u8::from(bad > 0 || rows.is_empty())))
}

/// Each kind and line once, some at a time. What was seen of each, in words.
fn check_nats(pairs: &[Pair]) -> Result<Vec<String>, LabError> {
    let mut sides: Vec<(NatKind, Conditions)> = Vec::new();
    for pair in pairs {
        for side in pair.kinds.into_iter().zip(pair.conditions) {
            if !sides.contains(&side) {
                sides.push(side);
            }
        }
    }
    let mut lines = Vec::new();
    for some in sides.chunks(SIDES_MAX) {
        let lab = Lab::build_on(some)?;
        for (index, observed) in lab.observe_all()?.into_iter().enumerate() {
            let (kind, conditions) = some[index];
            observed.check(index, kind, conditions)?;
            lines.push(format!("{kind} ({conditions}): {observed}"));
        }
    }
    Ok(lines)
}

const HEADER: &str =
    "\nsince the offer: p50, worst ms; packets to the peer: p50, most; pairs of ports: most";

impl Row {
    fn run(pair: Pair, count: u32) -> Self {
        let mut row = Self { pair, runs: Vec::new(), failures: Vec::new() };
        for _ in 0..count {
            match pair.run() {
                Ok(run) => row.runs.push(run),
                Err(error) => row.failures.push(error.to_string()),
            }
        }
        row
    }

    fn is_as_expected(&self) -> bool {
        let all = self.runs.len() + self.failures.len();
        let may_fail = match self.pair.expected {
            Expected::Plain | Expected::Relay => 0,
            Expected::Search => all.div_ceil(RUNS_PER_FAILED_SEARCH).min(all / 2),
        };
        self.failures.len() <= may_fail
    }

    /// Milliseconds from the offer to the link, in order.
    fn times(&self) -> Vec<f64> {
        let times = self.runs.iter().filter_map(Run::link_time);
        let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Packets of each side of each run, in order.
    fn packets(&self) -> Vec<u64> {
        let mut packets: Vec<u64> =
            self.runs.iter().flat_map(|run| run.sent).map(|sent| sent.packets).collect();
        packets.sort_unstable();
        packets
    }

    fn flows_max(&self) -> usize {
        self.runs.iter().flat_map(|run| run.sent).map(|sent| sent.flows).max().unwrap_or(0)
    }

    /// The strategy of most runs.
    fn strategy(&self) -> &str {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for run in &self.runs {
            *counts.entry(&run.strategy).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map_or("", |(strategy, _)| strategy)
    }

    fn text(&self) -> String {
        let (times, packets) = (self.times(), self.packets());
        let all = self.runs.len() + self.failures.len();
        let done = format!("{}/{all}", self.runs.len());
        let outcome = if self.pair.expected == Expected::Relay { "no link" } else { "linked" };
        let verdict = if self.is_as_expected() { "" } else { "  NOT AS IT HAS TO BE" };
        let ms = match (median(&times), times.last()) {
            (Some(p50), Some(worst)) => format!("{p50:>7.1} {worst:>8.1} ms"),
            _ => String::new(),
        };
        let name = self.pair.to_string();
        let (p50, most) = (median(&packets).unwrap_or(0), packets.last().unwrap_or(&0));
        format!(
            "{name:<62} {done:>7} {outcome:<7} {ms:>19}  {p50:>4} {most:>4}  {:>4}  {}{verdict}",
            self.flows_max(),
            self.strategy()
        )
    }

    fn json(&self) -> Value {
        let (times, packets) = (self.times(), self.packets());
        let expected = match self.pair.expected {
            Expected::Plain => "plain",
            Expected::Search => "search",
            Expected::Relay => "relay",
        };
        json!({
            "pair": self.pair.to_string(),
            "expected": expected,
            "runs": self.runs.len() + self.failures.len(),
            "as_expected": self.is_as_expected(),
            "failed": self.failures.len(),
            "strategy": self.strategy(),
            "offer_to_link_ms": { "p50": median(&times), "worst": times.last() },
            "packets_to_peer": { "p50": median(&packets), "most": packets.last() },
            "pairs_of_ports": { "most": self.flows_max() },
        })
    }
}

/// At least half of the sorted values are at most this (nearest rank).
fn median<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}
