//! Many histories on several threads. Each depends on its seed alone, so that what comes out is the
//! same whatever the number of threads.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::lab::{Incident, Outcome, Scenario, Summary};

/// Histories that a thread takes at once. The dearest take about 10 ms each: at the end no thread is
/// alone for long.
const CHUNK: u64 = 16;

/// Histories of one scenario.
#[derive(Debug, Clone)]
pub struct Job {
    /// What is played.
    pub scenario: Scenario,
    /// The first seed.
    pub first_seed: u64,
    /// How many seeds, one after the other.
    pub seeds: u64,
}

/// What others may see of a run, and do to it.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    done: AtomicU64,
}

impl Control {
    /// Histories that have been played.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the run after the histories under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a run has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// One of the machines, or the simulator itself, broke a promise.
    #[error("the history with seed {seed} panicked: {text}")]
    Panicked {
        /// The job, by its place.
        job: usize,
        /// The seed.
        seed: u64,
        /// What the panic said.
        text: String,
    },
}

/// A part of a job.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    job: usize,
    first_seed: u64,
    seeds: u64,
}

/// What is there of a job so far.
#[derive(Debug, Default)]
struct Progress {
    chunks_left: u64,
    outcomes: Vec<Outcome>,
    summary: Option<Summary>,
}

/// Plays all jobs, and sums up each; in the order of the jobs.
///
/// # Errors
/// It was stopped, or a history panicked: the first of those that did before all threads had ended.
pub fn run(
    jobs: &[Job],
    threads: NonZeroUsize,
    control: &Control,
) -> Result<Vec<Summary>, RunError> {
    let chunks: Vec<Chunk> =
        jobs.iter().enumerate().flat_map(|(at, job)| chunks(at, job)).collect();
    let progress: Vec<Mutex<Progress>> = jobs
        .iter()
        .map(|job| {
            Mutex::new(Progress { chunks_left: job.seeds.div_ceil(CHUNK), ..Progress::default() })
        })
        .collect();
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<RunError>> = Mutex::new(None);
    let work = || {
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let job = &jobs[chunk.job];
            match play(job, *chunk, control) {
                Ok(outcomes) => add(job, &progress[chunk.job], outcomes),
                Err(error) => {
                    control.stop();
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    keep_first(&mut failure, error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let empty = |job: &Job| Summary::of(&[], job.scenario.incident != Incident::None);
    let summary = |(job, progress): (&Job, Mutex<Progress>)| {
        let progress = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        progress.summary.unwrap_or_else(|| empty(job))
    };
    Ok(jobs.iter().zip(progress).map(summary).collect())
}

fn chunks(at: usize, job: &Job) -> impl Iterator<Item = Chunk> {
    let Job { first_seed, seeds, .. } = *job;
    (0..seeds.div_ceil(CHUNK)).map(move |chunk| {
        let begin = chunk * CHUNK;
        Chunk {
            job: at,
            first_seed: first_seed.wrapping_add(begin),
            seeds: CHUNK.min(seeds - begin),
        }
    })
}

fn play(job: &Job, chunk: Chunk, control: &Control) -> Result<Vec<Outcome>, RunError> {
    let mut outcomes = Vec::new();
    for offset in 0..chunk.seeds {
        if control.is_stopped() {
            return Err(RunError::Stopped);
        }
        let seed = chunk.first_seed.wrapping_add(offset);
        let outcome = catch_unwind(AssertUnwindSafe(|| job.scenario.run(seed)));
        outcomes.push(outcome.map_err(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("without a text").to_owned();
            RunError::Panicked { job: chunk.job, seed, text }
        })?);
        control.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(outcomes)
}

/// Adds a chunk's outcomes to those of its job; the last chunk sums all up, so that no more outcomes
/// are kept than those of the jobs under way.
fn add(job: &Job, progress: &Mutex<Progress>, outcomes: Vec<Outcome>) {
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    progress.outcomes.extend(outcomes);
    progress.chunks_left -= 1;
    if progress.chunks_left == 0 {
        let mut outcomes = std::mem::take(&mut progress.outcomes);
        outcomes.sort_by_key(|outcome| outcome.seed.wrapping_sub(job.first_seed));
        progress.summary = Some(Summary::of(&outcomes, job.scenario.incident != Incident::None));
    }
}

/// A panic tells more than that others were stopped because of it.
fn keep_first(failure: &mut Option<RunError>, error: RunError) {
    match (&failure, &error) {
        (None, _) | (Some(RunError::Stopped), RunError::Panicked { .. }) => *failure = Some(error),
        (Some(_), _) => {}
    }
}
