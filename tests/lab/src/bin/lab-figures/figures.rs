//! How long two workers behind port-preserving NATs take to link, without delay and loss.

use std::process::ExitCode;

use holepunch_lab::{Lab, LabError, Linked, NatKind, Session, Workers, proof};
use serde_json::{Value, json};

use crate::{Args, say};

/// Runs, unless the command line says otherwise.
const RUNS: u32 = 20;

/// The result of all runs.
struct Figures {
    /// Milliseconds of each run.
    runs: Vec<(f64, Linked)>,
    p50_ms: f64,
    worst_ms: f64,
}

/// Measures and reports.
pub(crate) fn run_all(args: &Args) -> Result<ExitCode, LabError> {
    let figures = measure(args)?;
    Ok(report(args, &figures))
}

fn measure(args: &Args) -> Result<Figures, LabError> {
    Lab::build(&[NatKind::PortPreserving; 2])?.check_nats()?;
    if !args.json {
        let built = if cfg!(debug_assertions) { " (a debug build)" } else { "" };
        say(std::io::stdout(), format_args!("port-preserving × port-preserving, no delay{built}"));
        say(std::io::stdout(), "run  report to link  since offer, first/second  PINGs");
    }
    let mut runs = Vec::new();
    for number in 1..=args.runs.unwrap_or(RUNS) {
        let linked = run()?;
        let ms = linked.time_to_link().as_secs_f64() * 1000.0;
        if !args.json {
            let [first, second] = &linked.established;
            let offers = format!("{:.3} / {:.3} ms", first.ms_since_offer, second.ms_since_offer);
            let pings = format!("{} / {}", first.probes, second.probes);
            say(
                std::io::stdout(),
                format_args!("{number:>3}  {ms:>11.3} ms  {offers:<25}  {pings}"),
            );
        }
        runs.push((ms, linked));
    }
    let mut sorted: Vec<f64> = runs.iter().map(|(ms, _)| *ms).collect();
    sorted.sort_by(f64::total_cmp);
    // At least half of the runs took at most as long as the median (nearest rank).
    let p50_ms = sorted[(sorted.len() - 1) / 2];
    let worst_ms = sorted[sorted.len() - 1];
    Ok(Figures { runs, p50_ms, worst_ms })
}

/// One run, everything in it new.
fn run() -> Result<Linked, LabError> {
    let lab = Lab::build(&[NatKind::PortPreserving; 2])?;
    let mut session = Session::start(&lab, Workers::USUAL)?;
    let linked = session.link()?;
    proof::direct(&lab, &linked)?;
    Ok(linked)
}

fn report(args: &Args, figures: &Figures) -> ExitCode {
    let Figures { runs, p50_ms, worst_ms } = figures;
    let within = *p50_ms <= args.p50_max_ms && *worst_ms <= args.worst_max_ms;
    if args.json {
        let text = json!({
            "pair": "port-preserving × port-preserving",
            "debug_build": cfg!(debug_assertions),
            "runs": runs.iter().map(|(ms, linked)| run_json(*ms, linked)).collect::<Vec<_>>(),
            "p50_ms": p50_ms,
            "worst_ms": worst_ms,
            "limits": { "p50_ms": args.p50_max_ms, "worst_ms": args.worst_max_ms },
            "within_limits": within,
        });
        say(std::io::stdout(), format_args!("{text:#}"));
    } else {
        let verdict = if within { "within" } else { "NOT within" };
        say(
            std::io::stdout(),
            format_args!(
                "{} runs: p50 {p50_ms:.3} ms, worst {worst_ms:.3} ms; {verdict} the limits \
                 ({} ms, {} ms)",
                runs.len(),
                args.p50_max_ms,
                args.worst_max_ms
            ),
        );
    }
    ExitCode::from(u8::from(!within))
}

fn run_json(ms: f64, linked: &Linked) -> Value {
    let worker = |index: usize| {
        let said = &linked.established[index];
        json!({
            "ms_since_offer": said.ms_since_offer,
            "rtt_ms": said.rtt_ms,
            "pings": said.probes,
        })
    };
    json!({ "report_to_link_ms": ms, "workers": [worker(0), worker(1)] })
}
