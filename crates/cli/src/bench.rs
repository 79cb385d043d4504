//! `holepunch bench`.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_programs::bench::{self, Bulk, Report, Settings};
use holepunch_worker::milliseconds;
use serde::Serialize;

use crate::exit::Failure;
use crate::joining::{JoinArgs, join};
use crate::output;
use crate::path_history::{PathChange, path_changes};
use crate::settings::{Environment, Seconds};
use crate::signals::Stop;

/// Measure a link: throughput each way, round trips, datagrams
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, on both sides:\n  \
    holepunch bench --rendezvous-url https://rendezvous.example --room measuring")]
pub(crate) struct Args {
    #[command(flatten)]
    join: JoinArgs,
    /// How long each direction is filled, and most that any other measurement takes [default: 5]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<Seconds>,
    /// Wait so long for a direct path before measuring; what there is then is measured [default: 10]
    #[arg(long, value_name = "SECONDS")]
    wait_direct_sec: Option<Seconds>,
    /// Measure at once, by whichever path there is
    #[arg(long, conflicts_with = "wait_direct_sec")]
    now: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

const WAIT_DIRECT: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let wait = args.wait_direct_sec.map_or(WAIT_DIRECT, |seconds| seconds.0);
    let wait = if args.now { Duration::ZERO } else { wait };
    let settings =
        args.seconds.map_or_else(Settings::default, |seconds| Settings::of_at_most(seconds.0));
    let mut stop = Stop::listen()?;
    let joined = tokio::select! {
        joined = join(args.join, environment) => joined?,
        _signal = stop.wait() => return Err(Failure::interrupted()),
    };
    let linked = joined.since_start();
    let measuring = async {
        let direct = joined.until_direct(wait).await.then(|| joined.since_start());
        (direct, bench::bench(&joined.link, settings, |text| output::progress(text)).await)
    };
    let (direct, report) = tokio::select! {
        measured = measuring => measured,
        _signal = stop.wait() => {
            joined.leave("interrupted").await;
            return Err(Failure::interrupted());
        }
    };
    let path_history = path_changes(&joined.link);
    joined.leave("measured").await;
    let outcome = Outcome {
        linked_ms: milliseconds(linked),
        direct_ms: direct.map(milliseconds),
        report: report.map_err(Failure::failed)?,
        path_history,
    };
    if args.json {
        output::json(&outcome);
    } else {
        print(&outcome);
    }
    Ok(ExitCode::SUCCESS)
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Outcome {
    /// From the start of the command to the link.
    linked_ms: f64,
    /// From the start of the command to the direct path, where one was waited for and came.
    direct_ms: Option<f64>,
    #[serde(flatten)]
    report: Report,
    /// The ways that this side has sent by.
    path_history: Vec<PathChange>,
}

fn print(outcome: &Outcome) {
    let report = &outcome.report;
    let bulk = |name: &str, bulk: &Bulk| {
        let cpu = |seconds: Option<f64>| seconds.map_or("?".to_owned(), |it| format!("{it:.2}"));
        output::line(format!(
            "{name}        {:.0} Mbit/s ({} bytes in {:.1} s); CPU seconds per GB: sender {}, receiver {}",
            bulk.mbit_per_second,
            bulk.bytes,
            bulk.seconds,
            cpu(bulk.sender_cpu_seconds_per_gb),
            cpu(bulk.receiver_cpu_seconds_per_gb)
        ));
    };
    output::line(format!("path        {}", report.path));
    let direct = outcome.direct_ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
    output::line(format!("since start linked {:.0} ms, direct {direct}", outcome.linked_ms));
    let trips = report.round_trips;
    output::line(format!(
        "round trip  p50 {:.3} ms, p99 {:.3} ms, shortest {:.3} ms ({} of 64 bytes)",
        trips.p50_ms, trips.p99_ms, trips.min_ms, trips.count
    ));
    bulk("up  ", &report.up);
    bulk("down", &report.down);
    let datagrams = report.datagrams;
    output::line(format!(
        "datagrams   {} sent, {} lost ({:.2} %), jitter {:.3} ms",
        datagrams.sent,
        datagrams.sent - datagrams.received,
        datagrams.lost_percent,
        datagrams.jitter_ms
    ));
}
