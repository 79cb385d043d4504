//! Workers that are connected and say nothing.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Connected;
use super::stats::Summary;
use crate::output;

/// Keeps the workers for `hold`; each that loses its connection meanwhile is a failure.
pub(super) async fn run(connected: Connected, hold: Duration) -> Summary {
    let Connected { clients, handshakes, meter, failures } = connected;
    let workers = clients.len();
    let connecting = meter.elapsed();
    output::progress(format!("holding them for {} s", hold.as_secs_f64()));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let lost = async {
                loop {
                    if let Err(why) = client.next().await {
                        return why;
                    }
                }
            };
            tokio::time::timeout(hold, lost).await.ok()
        });
    }
    let lost: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    let done = workers as u64;
    let mut summary = Summary::new("idle", workers, done, connecting, meter.stop());
    summary.times.push(handshakes.times("handshake"));
    summary.note_failures(&failures);
    summary.note_failures(&lost);
    summary
}
