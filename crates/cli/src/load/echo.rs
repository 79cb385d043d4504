//! Echo requests, as fast as they are answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use holepunch_wire::signal::{FromServer, WorkerMessage};
use tokio::task::JoinSet;

use super::Connected;
use super::client::Client;
use super::stats::{Meter, Sample, Summary};

/// Time before the measurement, in which nothing counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// What each connection does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) in_flight: usize,
    pub(super) payload_bytes: u32,
    pub(super) duration: Duration,
}

pub(super) async fn run(connected: Connected, plan: Plan) -> Summary {
    let Connected { clients, handshakes, meter, mut failures } = connected;
    meter.stop();
    let workers = clients.len();
    let from = Instant::now() + WARM_UP;
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(echo(client, plan, from));
    }
    tokio::time::sleep_until(from.into()).await;
    let meter = Meter::start();
    let mut all = Sample::default();
    let mut done = 0;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((sample, count, failure)) => {
                all.merge(&sample);
                done += count;
                failures.extend(failure);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    let mut summary = Summary::new("echo", workers, done, plan.duration, meter.stop());
    summary.times.push(handshakes.times("handshake"));
    summary.times.push(all.times("request to response"));
    summary.note_failures(&failures);
    summary
}

/// Keeps `in_flight` requests under way until the end; the times and the number of those answered in
/// the measured time.
async fn echo(mut client: Client, plan: Plan, from: Instant) -> (Sample, u64, Option<String>) {
    let payload = "x".repeat(plan.payload_bytes as usize);
    let request = WorkerMessage::EchoRequest { payload: payload.clone() };
    let expected = format!("\"{payload}\"");
    let until = from + plan.duration;
    let (mut sample, mut count) = (Sample::default(), 0);
    let mut sent: VecDeque<Instant> = VecDeque::new();
    let outcome: Result<(), String> = async {
        for _ in 0..plan.in_flight {
            client.feed(&request).await?;
            sent.push_back(Instant::now());
        }
        client.flush().await?;
        loop {
            let Ok(message) = tokio::time::timeout_at(until.into(), client.next()).await else {
                return Ok(());
            };
            let (message, now) = (message?, Instant::now());
            let FromServer::EchoResponse(echoed) = message else { continue };
            if echoed != expected {
                return Err(format!("expected the payload back, got {} bytes", echoed.len()));
            }
            let asked = sent.pop_front().ok_or("a response that nobody asked for")?;
            if now >= from {
                sample.add(now - asked);
                count += 1;
            }
            client.feed(&request).await?;
            sent.push_back(Instant::now());
            client.flush().await?;
        }
    }
    .await;
    (sample, count, outcome.err())
}
