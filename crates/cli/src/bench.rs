//! `holepunch bench`.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use holepunch_programs::bench::{self, BenchError, Bulk, Datagrams, RoundTrips, Settings};
use holepunch_programs::is_orderly;
use holepunch_worker::{CloseCode, Link, milliseconds};
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::exit::Failure;
use crate::joining::{Alone, Manner, MeetArgs, Telling, Turn, first_direct, join, until_direct};
use crate::output;
use crate::path_history::{PathChange, path_changes};
use crate::screen::{Stream, is_terminal};
use crate::settings::{Environment, Seconds};
use crate::signals::Stop;

/// Measure a link: throughput each way, round trips, datagrams
///
/// One of the two sides measures, and both print the result, each from its own side. A direct path is waited for first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, here and there (the first prints the code):\n  \
    holepunch bench\n  \
    holepunch bench 7-guitar-fox")]
pub(crate) struct Args {
    #[command(flatten)]
    meet: MeetArgs,
    /// How long each way is filled [default: 5]
    ///
    /// No other measurement takes longer. That of the side that measures counts.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    seconds: Option<Seconds>,
    /// Wait so long for a direct path [default: 10]
    ///
    /// It is waited for before measuring. What there is then is measured. It counts on the side that measures, which is one of the two: give both the same.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    wait_direct_sec: Option<Seconds>,
    /// Measure at once, by whichever path there is
    ///
    /// On both sides, as for --wait-direct-sec.
    #[arg(long, conflicts_with = "wait_direct_sec")]
    now: bool,
    /// Print the result as JSON, in one line
    #[arg(long)]
    json: bool,
}

const WAIT_DIRECT: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let json = args.json;
    let outcome = measure(args, environment).await;
    output::json_failure(json, &outcome);
    outcome
}

async fn measure(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let wait = args.wait_direct_sec.map_or(WAIT_DIRECT, |seconds| seconds.0);
    let wait = if args.now { Duration::ZERO } else { wait };
    let settings =
        args.seconds.map_or_else(Settings::default, |seconds| Settings::of_at_most(seconds.0));
    let mut stop = Stop::listen()?;
    let manner =
        Manner { telling: Telling::lines(), alone: Alone::BothWays("bench"), replaces: false };
    let mut joined = join(args.meet.into(), environment, manner, &mut stop).await?;
    let began = joined.began();
    // On a terminal the result follows, with all that the steps say.
    let shows_steps = args.json || !is_terminal(Stream::Out);
    let direct_at = OnceCell::new();
    let (joined, (linked, report)) = loop {
        let measuring = async {
            let (link, linked) = (&joined.link, began.elapsed());
            let ready = async { _ = until_direct(link, wait).await };
            let step = |text: &str| {
                if shows_steps {
                    output::progress(text);
                }
            };
            if !shows_steps {
                output::progress(duration_in_words(link, settings));
            }
            (linked, bench::bench(link, settings, ready, step).await)
        };
        let measured = tokio::select! {
            measured = measuring => measured,
            never = watch_direct(&joined.link, began, &direct_at) => match never {},
            _signal = stop.wait() => return Err(joined.interrupted().await),
        };
        let has_begun = !matches!(measured.1, Err(BenchError::Agree(_)));
        match joined.turn(has_begun, measured, &mut stop).await? {
            Turn::Over(joined, measured) => break (joined, measured),
            Turn::Again(next) => joined = next,
        }
    };
    let path_history = path_changes(&joined.link);
    let is_initiator = joined.link.is_initiator();
    let is_left = joined.link.ended().is_some_and(|end| is_orderly(&end));
    joined.leave(CloseCode::Done).await;
    let report = match report {
        Ok(report) => report,
        Err(_) if is_left && !is_initiator => {
            output::progress("the peer, which measured, has left before the end");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(Failure::failed(error)),
    };
    let (to_peer, from_peer) =
        if is_initiator { (report.up, report.down) } else { (report.down, report.up) };
    let outcome = Outcome {
        linked_ms: milliseconds(linked),
        direct_ms: direct_at.get().copied().map(milliseconds),
        measured_by: if is_initiator { "this_side" } else { "peer" },
        path: report.path,
        direct: report.direct,
        round_trips: report.round_trips,
        to_peer,
        from_peer,
        datagrams: report.datagrams,
        path_history,
    };
    if args.json {
        output::json_line(&outcome);
    } else {
        print(&outcome);
    }
    Ok(ExitCode::SUCCESS)
}

/// How long it takes: the settings of the side that measures count.
fn duration_in_words(link: &Link, own: Settings) -> String {
    let (settings, usual) = match link.is_initiator() {
        true => (own, ""),
        false => (Settings::default(), " with the usual --seconds there"),
    };
    format!("measuring: up to {} s{usual}", settings.in_all().as_secs_f64().ceil())
}

/// Keeps how long after `began` there was a direct path first, whoever measures and whenever.
async fn watch_direct(link: &Link, began: Instant, at: &OnceCell<Duration>) -> Infallible {
    first_direct(link).await;
    let _the_first_counts = at.set(began.elapsed());
    std::future::pending().await
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Outcome {
    /// From the start of the command to the link.
    linked_ms: f64,
    /// From the start of the command to the direct path, where one came.
    direct_ms: Option<f64>,
    /// Whether `this_side` or the `peer` has measured: the path is its path, and the datagrams were sent by it.
    measured_by: &'static str,
    path: String,
    direct: bool,
    round_trips: RoundTrips,
    to_peer: Bulk,
    from_peer: Bulk,
    datagrams: Datagrams,
    /// The ways that this side has sent by.
    path_history: Vec<PathChange>,
}

fn print(outcome: &Outcome) {
    let bulk = |name: &str, bulk: &Bulk| {
        let cpu = |seconds: Option<f64>| seconds.map_or("?".to_owned(), |it| format!("{it:.2}"));
        output::line(format!(
            "{name} {:.0} Mbit/s ({} bytes in {:.1} s); CPU seconds per GB: sender {}, receiver {}",
            bulk.mbit_per_second,
            bulk.bytes,
            bulk.seconds,
            cpu(bulk.sender_cpu_seconds_per_gb),
            cpu(bulk.receiver_cpu_seconds_per_gb)
        ));
    };
    let is_own = outcome.measured_by == "this_side";
    let whose = if is_own { "" } else { " (as the peer has it, which measured)" };
    output::line(format!("path          {}{whose}", outcome.path));
    let direct = outcome.direct_ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
    output::line(format!("since start   linked {:.0} ms, direct {direct}", outcome.linked_ms));
    let trips = outcome.round_trips;
    output::line(format!(
        "round trip    p50 {:.3} ms, p99 {:.3} ms, shortest {:.3} ms ({} of 64 bytes)",
        trips.p50_ms, trips.p99_ms, trips.min_ms, trips.count
    ));
    bulk("to the peer  ", &outcome.to_peer);
    bulk("from the peer", &outcome.from_peer);
    let datagrams = outcome.datagrams;
    let way = if is_own { "to" } else { "from" };
    output::line(format!(
        "datagrams     {} {way} the peer, {} lost ({:.2} %), jitter {:.3} ms",
        datagrams.sent,
        datagrams.sent.saturating_sub(datagrams.received),
        datagrams.lost_percent,
        datagrams.jitter_ms
    ));
}
