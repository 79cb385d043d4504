//! How long a file by a code takes from Enter to its first byte.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::first_byte::{ByCode, WAY, by_code};
use holepunch_lab::{Conditions, Lab, LabError, NatKind};
use serde_json::json;

use crate::{Args, say};

/// Runs, unless the command line says otherwise.
const RUNS: u32 = 20;
/// Half of the runs take no longer.
const P50_MAX: Duration = Duration::from_secs(1);

/// Measures and reports.
pub(crate) fn run_all(args: &Args) -> Result<ExitCode, LabError> {
    let line = Conditions::with_delay(WAY);
    let mut runs = Vec::new();
    for number in 1..=args.runs.unwrap_or(RUNS) {
        let lab = Lab::build_on(&[(NatKind::PortPreserving, line); 2])?;
        let run = by_code(&lab)?;
        if !args.json {
            let ByCode { code, first_byte_after, ended_after } = &run;
            let [first, ended] = [first_byte_after, ended_after].map(|time| ms(*time));
            say(
                std::io::stdout(),
                format_args!(
                    "{number:>3}  first byte {first:>7.1} ms, end {ended:>7.1} ms  {code}"
                ),
            );
        }
        runs.push(run);
    }
    let mut sorted: Vec<Duration> = runs.iter().map(|run| run.first_byte_after).collect();
    sorted.sort_unstable();
    // Nearest rank, as in the other figures.
    let p50 = sorted[(sorted.len() - 1) / 2];
    let worst = sorted[sorted.len() - 1];
    let is_within = p50 <= P50_MAX;
    if args.json {
        let text = json!({
            "way_ms": ms(WAY),
            "debug_build": cfg!(debug_assertions),
            "first_byte_ms": runs.iter().map(|run| ms(run.first_byte_after)).collect::<Vec<_>>(),
            "p50_ms": ms(p50),
            "worst_ms": ms(worst),
            "within_limits": is_within,
        });
        say(std::io::stdout(), format_args!("{text:#}"));
    } else {
        let verdict = if is_within { "within" } else { "NOT within" };
        let [p50, worst, most] = [p50, worst, P50_MAX].map(ms);
        let text = format!(
            "{} runs: p50 {p50:.0} ms, worst {worst:.0} ms; {verdict} the limit ({most} ms)",
            runs.len()
        );
        say(std::io::stdout(), text);
    }
    Ok(ExitCode::from(u8::from(!is_within)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
