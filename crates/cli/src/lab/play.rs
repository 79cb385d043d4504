//! Playing many histories, with progress for whoever waits, until the user has had enough.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_sim::lab::Summary;
use holepunch_sim::report::{Control, Job, RunError, replay, run, thousands};
use tokio::time::{MissedTickBehavior, interval};

use crate::exit::Failure;
use crate::output;
use crate::screen::{Stream, can_redraw};
use crate::signals::Stop;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// What takes less is not worth a word.
const QUIET_FOR: Duration = Duration::from_millis(500);

/// Plays all jobs; their summaries, in their order.
pub(super) async fn play(jobs: Vec<Job>, threads: Option<u64>) -> Result<Vec<Summary>, Failure> {
    let mut stop = Stop::listen()?;
    let threads = threads.and_then(|number| NonZeroUsize::new(usize::try_from(number).ok()?));
    let threads =
        threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let control = Arc::new(Control::default());
    let jobs = Arc::new(jobs);
    let all: u64 = jobs.iter().map(|job| job.seeds).sum();
    let started = Instant::now();
    tracing::info!(histories = all, threads, "playing");
    let mut work = {
        let (jobs, control) = (Arc::clone(&jobs), Arc::clone(&control));
        tokio::task::spawn_blocking(move || run(&jobs, threads, &control))
    };
    let mut progress = Progress { shown: false, started };
    let mut ticks = interval(SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let result = loop {
        tokio::select! {
            done = &mut work => break done,
            _signal = stop.wait() => {
                control.stop();
                progress.clear();
                return Err(Failure::interrupted());
            }
            _ = ticks.tick() => progress.show(control.done(), all),
        }
    };
    progress.clear();
    let result =
        result.map_err(|error| Failure::failed(format!("the laboratory broke: {error}")))?;
    let summaries = result.map_err(|error| broken(&jobs, &error))?;
    progress.done(all, threads);
    Ok(summaries)
}

fn broken(jobs: &[Job], error: &RunError) -> Failure {
    match error {
        RunError::Stopped => Failure::interrupted(),
        RunError::Panicked { job, seed, .. } => {
            let command = jobs.get(*job).map(|job| replay(&job.scenario, *seed));
            Failure::failed(format!("{error}; to see it: {}", command.unwrap_or_default()))
        }
    }
}

/// One line on standard error, where that is a terminal.
struct Progress {
    shown: bool,
    started: Instant,
}

impl Progress {
    fn show(&mut self, done: u64, all: u64) {
        if self.started.elapsed() < QUIET_FOR || !can_redraw(Stream::Err) {
            return;
        }
        self.shown = true;
        let percent = (done * 100).checked_div(all).unwrap_or(100);
        write_now(&format!(
            "\r\u{1b}[K{percent:>3} %  {} of {} histories",
            thousands(done),
            thousands(all)
        ));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            write_now("\r\u{1b}[K");
        }
    }

    fn done(&self, all: u64, threads: NonZeroUsize) {
        let took = self.started.elapsed();
        if took < QUIET_FOR {
            return;
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let a_minute = (all * 60_000).checked_div(took_ms).unwrap_or(all);
        let threads =
            if threads.get() == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        let seconds = took.as_secs_f64();
        output::progress(format!(
            "{} histories in {seconds:.1} s on {threads}: {} a minute",
            thousands(all),
            thousands(a_minute)
        ));
    }
}

fn write_now(text: &str) {
    let mut stderr = std::io::stderr();
    let _when_nobody_reads = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
