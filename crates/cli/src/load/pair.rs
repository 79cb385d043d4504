//! Workers that all report at once, and are offered each other.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::signal::{FromServer, WorkerMessage};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Connected;
use super::client::Client;
use super::stats::{Meter, Sample, Summary};

/// After all offers have come, time in which a second offer would show.
const SECOND_OFFER_WITHIN: Duration = Duration::from_millis(200);

/// What one worker saw.
struct Seen {
    id: Arc<str>,
    reported: Instant,
    offered: Option<Instant>,
    peers: Vec<String>,
    failure: Option<String>,
}

/// Lets every worker report, and checks that each is paired with exactly one other.
pub(super) async fn run(connected: Connected, timeout: Duration) -> Summary {
    let Connected { clients, handshakes, meter, failures } = connected;
    meter.stop();
    let workers = clients.len();
    let start = Arc::new(Barrier::new(workers + 1));
    let all_offered = Arc::new(Barrier::new(workers));
    let mut tasks = JoinSet::new();
    for client in clients {
        let (start, all_offered) = (Arc::clone(&start), Arc::clone(&all_offered));
        tasks.spawn(async move {
            start.wait().await;
            report(client, timeout, &all_offered).await
        });
    }
    start.wait().await;
    let meter = Meter::start();
    let seen = tasks.join_all().await;
    let mut offers = Sample::default();
    for worker in &seen {
        if let Some(offered) = worker.offered {
            offers.add(offered - worker.reported);
        }
    }
    let first = seen.iter().map(|worker| worker.reported).min();
    let last = seen.iter().filter_map(|worker| worker.offered).max();
    let took = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
    let done = seen.iter().filter(|worker| worker.offered.is_some()).count() as u64;
    let mut summary = Summary::new("pair", workers, done, took, meter.stop());
    summary.times.push(handshakes.times("handshake"));
    summary.times.push(offers.times("report to offer"));
    summary.note_failures(&failures);
    summary.note_failures(&faults(&seen));
    summary
}

/// Nobody leaves before all others have their offers: what a departure costs the server would be counted with them.
async fn report(mut client: Client, timeout: Duration, all_offered: &Barrier) -> Seen {
    let mut seen = Seen {
        id: Arc::clone(&client.id),
        reported: Instant::now(),
        offered: None,
        peers: Vec::new(),
        failure: None,
    };
    let message = WorkerMessage::report(client.endpoint);
    let sent = async {
        client.feed(&message).await?;
        client.flush().await
    };
    if let Err(why) = sent.await {
        seen.failure = Some(why);
    }
    let mut others = pin!(all_offered.wait());
    let mut are_offered = false;
    let deadline = tokio::time::Instant::from_std(seen.reported + timeout);
    let mut until = deadline;
    while seen.failure.is_none() {
        tokio::select! {
            message = tokio::time::timeout_at(until, client.next()) => match message {
                Ok(message) => seen.take(message),
                Err(_) => break,
            },
            _ = &mut others, if seen.offered.is_some() && !are_offered => {
                are_offered = true;
                until = deadline.min(tokio::time::Instant::now() + SECOND_OFFER_WITHIN);
            }
        }
    }
    if !are_offered {
        others.await;
    }
    seen
}

impl Seen {
    fn take(&mut self, message: Result<FromServer, String>) {
        match message {
            Ok(FromServer::Offer(Ok(offer))) => {
                self.offered.get_or_insert_with(Instant::now);
                self.peers.push(offer.peer.as_str().to_owned());
            }
            Ok(FromServer::UdpEndpointAck(Err(detail))) => {
                self.failure = Some(format!("report refused: {detail}"));
            }
            Ok(_) => {}
            Err(why) => self.failure = Some(why),
        }
    }
}

/// Whatever is not "each exactly once, with each other". One worker of an odd number may be left.
fn faults(seen: &[Seen]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Seen> = seen.iter().map(|worker| (&*worker.id, worker)).collect();
    let mut left = seen.len() % 2;
    let mut faults = Vec::new();
    for worker in seen {
        let fault = match (&worker.failure, &worker.peers[..]) {
            (Some(why), _) => Some(why.clone()),
            (None, []) if left > 0 => {
                left -= 1;
                None
            }
            (None, []) => Some("a worker was offered nobody".to_owned()),
            (None, [peer]) => {
                let mutual =
                    by_id.get(peer.as_str()).is_none_or(|other| other.peers == [&*worker.id]);
                (!mutual).then(|| "a worker was offered one that was not offered it".to_owned())
            }
            (None, _) => Some("a worker was offered more than one peer".to_owned()),
        };
        faults.extend(fault);
    }
    faults
}
