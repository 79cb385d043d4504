//! How far a transfer is: written by its threads, read by whoever shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::name::shown;
use super::summary::{Failure, Names, Notice, Phase, Summary, Totals};

/// Failures, and warnings, that are kept for the end; of more, the number.
pub const FAILURES_KEPT_MAX: usize = 1000;

/// Takes each notice.
type Listener = Box<dyn Fn(Notice) + Send + Sync>;

/// Counts what a transfer does. One is for one transfer, over one link or several, one after the other.
pub struct Progress {
    listener: Listener,
    /// What the transfer had come to before its newest link.
    before: Mutex<Option<Summary>>,
    files: Mutex<Files>,
    totals: Mutex<Totals>,
    failures: Mutex<Vec<Failure>>,
    warnings: Mutex<Vec<Failure>>,
    pauses: Mutex<Pauses>,
    phase: Mutex<Phase>,
    names: Mutex<Names>,
    counts: [AtomicU64; COUNTS],
}

/// Files that are under way, by their places in the list.
#[derive(Debug, Default)]
struct Files {
    /// The one of which the last piece was, by its name as it may be shown.
    current: Option<(u32, String)>,
    /// Bytes of each that have gone, or were there.
    spent: BTreeMap<u32, u64>,
    failed: BTreeSet<u32>,
}

/// Times between pieces of files.
#[derive(Debug, Clone, Copy, Default)]
struct Pauses {
    last_piece: Option<Instant>,
    longest: Duration,
}

const COUNTS: usize = 9;

/// What is counted, by its place.
#[derive(Clone, Copy)]
enum Count {
    Completed,
    AlreadyThere,
    Transferred,
    Kept,
    Skipped,
    Failed,
    Warned,
    /// Bytes of files that have failed: sent, or there before.
    Wasted,
    /// The sizes of files that have failed.
    BytesFailed,
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
            before: Mutex::default(),
            files: Mutex::default(),
            totals: Mutex::default(),
            failures: Mutex::default(),
            warnings: Mutex::default(),
            pauses: Mutex::default(),
            phase: Mutex::default(),
            names: Mutex::default(),
            counts: Default::default(),
        }
    }

    /// The transfer goes on over another link, from what is there. To be called when the last one is over.
    pub fn begin_again(&self) {
        let so_far = self.summary();
        *lock(&self.totals) = Totals::default();
        lock(&self.failures).clear();
        lock(&self.warnings).clear();
        *lock(&self.files) = Files::default();
        *lock(&self.phase) = Phase::default();
        self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        *lock(&self.before) = Some(so_far);
    }

    /// Where the transfer stands.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let summary = self.of_this_link();
        match &*lock(&self.before) {
            Some(before) => summary.after(before),
            None => summary,
        }
    }

    fn of_this_link(&self) -> Summary {
        let gone = self.count(Count::Transferred).saturating_add(self.count(Count::Kept));
        Summary {
            totals: *lock(&self.totals),
            phase: *lock(&self.phase),
            names: lock(&self.names).clone(),
            current: lock(&self.files).current.as_ref().map(|(_, name)| name.clone()),
            files_completed: self.count(Count::Completed),
            files_already_there: self.count(Count::AlreadyThere),
            bytes_transferred: self.count(Count::Transferred),
            longest_pause: lock(&self.pauses).longest,
            bytes_already_there: self.count(Count::Kept),
            bytes_done: gone.saturating_sub(self.count(Count::Wasted)),
            bytes_failed: self.count(Count::BytesFailed),
            skipped: self.count(Count::Skipped),
            failed: self.count(Count::Failed),
            failures: lock(&self.failures).clone(),
            warned: self.count(Count::Warned),
            warnings: lock(&self.warnings).clone(),
        }
    }

    /// When the last piece of a file went by; `None` before the first.
    #[must_use]
    pub fn last_piece(&self) -> Option<Instant> {
        lock(&self.pauses).last_piece
    }

    fn count(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    fn add(&self, count: Count, number: u64) {
        self.counts[count as usize].fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn listed(&self, totals: Totals) {
        *lock(&self.totals) = totals;
        let is_known = lock(&self.before).as_ref().is_some_and(|before| before.totals == totals);
        if !is_known {
            (self.listener)(Notice::Listed(totals));
        }
    }

    /// What the list holds, by name.
    pub(super) fn named(&self, names: Names) {
        *lock(&self.names) = names;
    }

    pub(super) fn is_at(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        lock(&self.files).current = None;
    }

    /// The other side asks somebody.
    pub(super) fn asking(&self) {
        self.is_at(Phase::Asking);
        (self.listener)(Notice::Asking);
    }

    /// Nobody is asked any more.
    pub(super) fn answered(&self) {
        let mut phase = lock(&self.phase);
        if *phase == Phase::Asking {
            *phase = Phase::Transfer;
        }
    }

    /// What is waited for takes long.
    pub(super) fn waits(&self, what: &str) {
        (self.listener)(Notice::Waiting(what.to_owned()));
    }

    /// So many bytes of a file go over the link, or need not.
    pub(super) fn spent(&self, index: u32, path: &str, bytes: u64) {
        let mut files = lock(&self.files);
        if files.current.as_ref().is_none_or(|(current, _)| *current != index) {
            files.current = Some((index, shown(path)));
        }
        if files.failed.contains(&index) {
            self.add(Count::Wasted, bytes);
        } else {
            *files.spent.entry(index).or_default() += bytes;
        }
    }

    pub(super) fn transferred(&self, bytes: u64) {
        self.add(Count::Transferred, bytes);
        let mut pauses = lock(&self.pauses);
        let now = Instant::now();
        let pause = pauses.last_piece.replace(now).map(|last| now.saturating_duration_since(last));
        pauses.longest = pauses.longest.max(pause.unwrap_or_default());
    }

    pub(super) fn resumed(&self, index: u32, path: &str, from: u64) {
        self.add(Count::Kept, from);
        self.spent(index, path, from);
        (self.listener)(Notice::Resumed { path: shown(path), from });
    }

    pub(super) fn checking(&self, path: &str, bytes: u64) {
        (self.listener)(Notice::Checking { path: shown(path), bytes });
    }

    pub(super) fn completed(&self, index: u32, path: &str) {
        lock(&self.files).spent.remove(&index);
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

    /// An entry of the list has failed. Its bytes, a file's, are of no use.
    pub(super) fn entry_failed(&self, index: u32, size: u64, path: &str, reason: &str) {
        let mut files = lock(&self.files);
        if files.failed.insert(index) {
            self.add(Count::BytesFailed, size);
            self.add(Count::Wasted, files.spent.remove(&index).unwrap_or_default());
        }
        drop(files);
        self.failed(path, reason);
    }

    /// So many more have failed of which nothing else is known.
    pub(super) fn others_failed(&self, number: u64) {
        self.add(Count::Failed, number);
    }

    /// A file is sent, and not as somebody may expect. It is told once, over however many links.
    pub(super) fn warned(&self, path: &str, reason: &str) {
        self.add(Count::Warned, 1);
        let warning = Failure { path: shown(path), reason: shown(reason) };
        keep(&self.warnings, &warning);
        let is_of_it = |it: &Failure| it.path == warning.path;
        if !self.was_told(|before| before.warnings.iter().any(is_of_it)) {
            (self.listener)(Notice::Warning(warning));
        }
    }

    pub(super) fn failed(&self, path: &str, reason: &str) {
        self.add(Count::Failed, 1);
        let failure = Failure { path: shown(path), reason: shown(reason) };
        keep(&self.failures, &failure);
        if !self.was_told(|before| before.failures.contains(&failure)) {
            (self.listener)(Notice::Failed(failure));
        }
    }

    /// Whether something was told on an earlier link.
    fn was_told(&self, is_in: impl Fn(&Summary) -> bool) -> bool {
        lock(&self.before).as_ref().is_some_and(is_in)
    }
}

/// Keeps one more for the end, as long as there are not too many.
fn keep(kept: &Mutex<Vec<Failure>>, one: &Failure) {
    let mut kept = lock(kept);
    if kept.len() < FAILURES_KEPT_MAX {
        kept.push(one.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_over_two_links_is_counted_as_one() {
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let listener = std::sync::Arc::clone(&told);
        let progress = Progress::new(move |notice| lock(&listener).push(notice));
        let totals = Totals { files: 4, folders: 0, bytes: 40 };
        progress.failed("d", "missing");
        progress.listed(totals);
        progress.already_there("a", 10);
        progress.transferred(15);
        progress.completed(1, "b");
        progress.warned("b", "11 bytes now");
        let first = progress.summary();
        progress.begin_again();
        assert_eq!(progress.summary(), first, "until the new link has its list");
        progress.failed("d", "missing");
        progress.listed(totals);
        // Of the five bytes of the third file two were lost on the way.
        progress.already_there("a", 10);
        progress.already_there("b", 10);
        progress.warned("b", "12 bytes now");
        progress.resumed(2, "c", 3);
        progress.transferred(7);
        progress.completed(2, "c");
        let all = progress.summary();
        assert_eq!((all.files_completed, all.files_already_there, all.failed), (2, 1, 1));
        assert_eq!((all.bytes_transferred, all.bytes_already_there), (22, 10));
        assert_eq!((all.bytes_done, all.totals), (30, totals));
        assert_eq!((all.warned, all.warnings[0].reason.as_str()), (1, "12 bytes now"));
        let again = |notice: &Notice| {
            matches!(notice, Notice::Listed(_) | Notice::Failed(_) | Notice::Warning(_))
        };
        assert_eq!(lock(&told).iter().filter(|it| again(it)).count(), 3, "told once each");
    }

    #[test]
    fn what_still_comes_of_a_file_that_has_failed_is_not_done() {
        let progress = Progress::default();
        progress.spent(0, "a", 10);
        progress.transferred(10);
        progress.entry_failed(0, 30, "a", "no space");
        progress.spent(0, "a", 5);
        progress.transferred(5);
        let summary = progress.summary();
        assert_eq!(
            (summary.bytes_transferred, summary.bytes_done, summary.bytes_failed),
            (15, 0, 30)
        );
    }

    #[test]
    fn the_file_that_is_under_way_is_named_harmlessly_until_all_have_come() {
        let progress = Progress::default();
        let names = |progress: &Progress| progress.summary().current;
        assert_eq!(names(&progress), None);
        progress.spent(0, "a", 10);
        progress.spent(7, "b/\u{1b}[2J", 1);
        assert_eq!(names(&progress).as_deref(), Some(r"b/\u{1b}[2J"));
        progress.is_at(Phase::Disk);
        assert_eq!(names(&progress), None);
    }
}
