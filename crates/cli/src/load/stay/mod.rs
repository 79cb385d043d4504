//! Workers that stay for the whole run, whatever becomes of the rendezvous that they are at: is a pair lost or doubled
//! meanwhile, and for how long is a worker out?
//!
//! Half of them, the keepers, are in rooms of two, and keep the peer that they get. The others, the movers, are in larger
//! rooms; each leaves its peer after a while, and asks for the next one.

mod ledger;
mod member;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::Target;
use super::stats::{Meter, Summary};
use crate::settings::Seconds;
use ledger::Ledger;
use member::Member;

/// At the end nobody leaves for so long, so that all is told to everybody.
const CALM_AT_THE_END: Duration = Duration::from_secs(12);
/// Workers connect over so long at the start, each a moment after the one before.
const CONNECT_EVERY: Duration = Duration::from_micros(500);
/// A worker that is out of reach for longer than this has failed.
const OUT_MAX: Duration = Duration::from_secs(5);

/// What is to be played.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Plan {
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = super::count)]
    pub(super) workers: usize,
    /// Workers in each room of those that leave their peers
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = super::count)]
    pub(super) room_workers: usize,
    /// Time that each of these stays with a peer
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    pub(super) hold_sec: Seconds,
    /// Time of all of it; in the last 12 seconds nobody leaves
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(super) seconds: Seconds,
}

/// What all workers of a run have in common.
struct Run {
    targets: Vec<Arc<Target>>,
    plan: Plan,
    ledger: Mutex<Ledger>,
    /// When nobody leaves any more, and when it is over.
    calm: Instant,
    end: Instant,
}

impl Run {
    fn told<T>(&self, tell: impl FnOnce(&mut Ledger) -> T) -> T {
        tell(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) async fn run(targets: Vec<Arc<Target>>, plan: Plan) -> Summary {
    let meter = Meter::start();
    let end = Instant::now() + plan.seconds.0;
    let calm = end.checked_sub(CALM_AT_THE_END).unwrap_or(end);
    let run = Arc::new(Run { targets, plan, ledger: Mutex::default(), calm, end });
    let mut tasks = JoinSet::new();
    for index in 0..plan.workers {
        tasks.spawn(Member::new(Arc::clone(&run), index).stay());
        tokio::time::sleep(CONNECT_EVERY).await;
    }
    let alone = tasks.join_all().await.into_iter().filter(|has_peer| !has_peer).count();
    let took = meter.elapsed();
    let generator = meter.stop();
    let mut ledger = run.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.verdict(Instant::now());
    // Of an odd number, one may be left in each room.
    let rooms = (plan.workers / 2).div_ceil(plan.room_workers) + 1;
    if alone > rooms {
        ledger.faults.push(format!("{alone} workers have no peer at the end"));
    }
    let mut summary = Summary::new("stay", plan.workers, ledger.pairs, took, generator);
    summary.times.push(ledger.out.times("out of reach"));
    summary.times.push(ledger.waits.times("wish to offer"));
    summary.note_failures(&ledger.faults);
    summary
}
