//! How far a transfer is: written by its threads, read by whoever shows it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::name::shown;

/// Failures that are kept for the end; of more, the number.
pub const FAILURES_KEPT_MAX: usize = 1000;

/// Something that a person may want to know at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The list is complete.
    Listed(Totals),
    /// This is left out, which is no failure.
    Skipped {
        /// What.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file goes on where an earlier transfer broke off.
    Resumed {
        /// Which.
        path: String,
        /// Bytes that are there already.
        from: u64,
    },
    /// A file that is there is read, to see whether it needs to be sent.
    Checking {
        /// Which.
        path: String,
        /// Bytes to read.
        bytes: u64,
    },
    /// A file is complete.
    Completed {
        /// Which.
        path: String,
    },
    /// A file was there already.
    AlreadyThere {
        /// Which.
        path: String,
    },
    /// A file, or a folder, has failed; the others go on.
    Failed(Failure),
}

/// Why one file has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which; as it may be shown.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// What a list holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Where a transfer stands, or what has become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// What was listed; nothing before the list is complete.
    pub totals: Totals,
    /// Files that were sent and are complete.
    pub files_completed: u64,
    /// Files that were there already.
    pub files_already_there: u64,
    /// Bytes of files that went over the link.
    pub bytes_transferred: u64,
    /// The longest time between two pieces of files.
    pub longest_pause: Duration,
    /// Bytes that did not need to: of files that were there, or partly there.
    pub bytes_already_there: u64,
    /// Symbolic links and special files that were left out.
    pub skipped: u64,
    /// Files and folders that failed.
    pub failed: u64,
    /// The first [`FAILURES_KEPT_MAX`] of these.
    pub failures: Vec<Failure>,
}

/// Takes each notice.
type Listener = Box<dyn Fn(Notice) + Send + Sync>;

/// Counts what a transfer does. One is for one transfer.
pub struct Progress {
    listener: Listener,
    totals: Mutex<Totals>,
    failures: Mutex<Vec<Failure>>,
    pauses: Mutex<Pauses>,
    counts: [AtomicU64; COUNTS],
}

/// Times between pieces of files.
#[derive(Debug, Clone, Copy, Default)]
struct Pauses {
    last_piece: Option<Instant>,
    longest: Duration,
}

const COUNTS: usize = 6;

/// What is counted, by its place.
#[derive(Clone, Copy)]
enum Count {
    Completed,
    AlreadyThere,
    Transferred,
    Kept,
    Skipped,
    Failed,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Counts, and tells `listener` what happens, from whatever thread it happens on.
    pub fn new(listener: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self {
            listener: Box::new(listener),
            totals: Mutex::default(),
            failures: Mutex::default(),
            pauses: Mutex::default(),
            counts: Default::default(),
        }
    }

    /// Where the transfer stands.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            totals: *lock(&self.totals),
            files_completed: self.count(Count::Completed),
            files_already_there: self.count(Count::AlreadyThere),
            bytes_transferred: self.count(Count::Transferred),
            longest_pause: lock(&self.pauses).longest,
            bytes_already_there: self.count(Count::Kept),
            skipped: self.count(Count::Skipped),
            failed: self.count(Count::Failed),
            failures: lock(&self.failures).clone(),
        }
    }

    /// Bytes that are with the receiver: sent now, or there before.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.count(Count::Transferred).saturating_add(self.count(Count::Kept))
    }

    fn count(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    fn add(&self, count: Count, number: u64) {
        self.counts[count as usize].fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn listed(&self, totals: Totals) {
        *lock(&self.totals) = totals;
        (self.listener)(Notice::Listed(totals));
    }

    pub(super) fn transferred(&self, bytes: u64) {
        self.add(Count::Transferred, bytes);
        let mut pauses = lock(&self.pauses);
        let now = Instant::now();
        let pause = pauses.last_piece.replace(now).map(|last| now.saturating_duration_since(last));
        pauses.longest = pauses.longest.max(pause.unwrap_or_default());
    }

    pub(super) fn resumed(&self, path: &str, from: u64) {
        self.add(Count::Kept, from);
        (self.listener)(Notice::Resumed { path: shown(path), from });
    }

    pub(super) fn checking(&self, path: &str, bytes: u64) {
        (self.listener)(Notice::Checking { path: shown(path), bytes });
    }

    pub(super) fn completed(&self, path: &str) {
        self.add(Count::Completed, 1);
        (self.listener)(Notice::Completed { path: shown(path) });
    }

    pub(super) fn already_there(&self, path: &str, bytes: u64) {
        self.add(Count::AlreadyThere, 1);
        self.add(Count::Kept, bytes);
        (self.listener)(Notice::AlreadyThere { path: shown(path) });
    }

    pub(super) fn skipped(&self, path: &str, reason: &str) {
        self.add(Count::Skipped, 1);
        (self.listener)(Notice::Skipped { path: shown(path), reason: reason.to_owned() });
    }

    pub(super) fn failed(&self, path: &str, reason: &str) {
        self.add(Count::Failed, 1);
        let failure = Failure { path: shown(path), reason: shown(reason) };
        let mut failures = lock(&self.failures);
        if failures.len() < FAILURES_KEPT_MAX {
            failures.push(failure.clone());
        }
        drop(failures);
        (self.listener)(Notice::Failed(failure));
    }
}
