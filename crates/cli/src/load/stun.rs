//! Binding requests, as fast as they are answered.

use std::time::{Duration, Instant};

use holepunch_link::{DatagramLine, DatagramReads, ServerName};
use holepunch_wire::stun::{TransactionId, binding_request};
use tokio::task::JoinSet;

use super::stats::{Meter, Sample, Server, Summary};
use crate::settings::Seconds;

/// Time before the measurement, in which nothing counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// An answer that has not come within this is lost; another question takes its place.
const LOST_AFTER: Duration = Duration::from_millis(100);
/// Where the transaction id stands in a message, and how a success response begins (RFC 8489 §5).
const ID: std::ops::Range<usize> = 8..20;
const SUCCESS: [u8; 2] = [1, 1];

/// What each socket does.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Plan {
    /// The STUN server, of any kind
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3478")]
    server: ServerName,
    /// Sockets, each with a port of its own
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = super::count)]
    sockets: usize,
    /// Questions that each socket has under way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    in_flight: u16,
    /// Time that is measured, after a second that is not
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    seconds: Seconds,
    #[command(flatten)]
    pid: Server,
}

/// What one socket has seen in the measured time.
#[derive(Debug, Default)]
struct Seen {
    sample: Sample,
    answers: u64,
    lost: u64,
}

pub(super) async fn run(plan: Plan) -> Result<Summary, String> {
    let found = tokio::net::lookup_host(plan.server.to_string()).await;
    let server = found.map_err(|error| error.to_string())?.next().ok_or("no such server")?;
    let start = Instant::now();
    let from = start + WARM_UP;
    let mut asking = JoinSet::new();
    for _ in 0..plan.sockets {
        let line = DatagramLine::open(server).map_err(|error| format!("a socket: {error}"))?;
        asking.spawn(ask(line, usize::from(plan.in_flight), start, from..from + plan.seconds.0));
    }
    tokio::time::sleep_until(from.into()).await;
    let (meter, before) = (Meter::start(), plan.pid.cpu_seconds());
    tokio::time::sleep_until((from + plan.seconds.0).into()).await;
    let after = plan.pid.cpu_seconds();
    let (mut all, mut failures) = (Seen::default(), Vec::new());
    for outcome in asking.join_all().await {
        match outcome {
            Ok(seen) => {
                all.sample.merge(&seen.sample);
                all.answers += seen.answers;
                all.lost += seen.lost;
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    let mut summary = Summary::new("stun", plan.sockets, all.answers, plan.seconds.0, meter.stop());
    summary.note_server(before, after);
    summary.times.push(all.sample.times("request to response"));
    failures.extend((0..all.lost).map(|_| format!("no answer within {LOST_AFTER:?}")));
    summary.note_failures(&failures);
    Ok(summary)
}

/// Keeps so many questions under way until the end.
async fn ask(
    line: DatagramLine,
    in_flight: usize,
    start: Instant,
    measured: std::ops::Range<Instant>,
) -> std::io::Result<Seen> {
    let (mut seen, mut reads) = (Seen::default(), DatagramReads::of(in_flight));
    let mut to_send = in_flight;
    while Instant::now() < measured.end {
        for _ in 0..to_send {
            // The time of the question is its name.
            let id = TransactionId::from(start.elapsed().as_nanos());
            let request = binding_request(id);
            line.send(&request, request.len()).await?;
        }
        let read = tokio::time::timeout(LOST_AFTER, line.read(&mut reads)).await;
        let now = Instant::now();
        let is_measured = measured.contains(&now);
        if read.is_err() {
            seen.lost += if is_measured { in_flight as u64 } else { 0 };
            to_send = in_flight;
            continue;
        }
        // Nobody is there (yet): that shows as a loss.
        to_send = 0;
        for answer in reads.datagrams().filter(|it| it.starts_with(&SUCCESS)) {
            to_send += 1;
            let asked =
                answer.get(ID).map(|id| id.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)));
            if let Some(asked) = asked.filter(|_| is_measured) {
                seen.answers += 1;
                seen.sample.add((now - start).saturating_sub(Duration::from_nanos(asked)));
            }
        }
    }
    Ok(seen)
}
