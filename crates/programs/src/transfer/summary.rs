//! What is told of a transfer: what happens, and where it stands.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::name::shown;

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
    /// A file is sent, and not as somebody may expect: as it was when it was listed, since it has grown.
    Warning(Failure),
    /// The receiver's side asks somebody whether what is listed is wanted: told on the sender's.
    Asking,
    /// It takes long, and this is what is waited for.
    Waiting(String),
}

/// What a transfer is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The receiver's side has not said whether what is listed is wanted: somebody may be asked.
    Asking,
    /// Files go over the link, or it is found out which need to.
    #[default]
    Transfer,
    /// Everything has come, and the receiver brings it to its disk.
    Disk,
    /// All is done, and each side makes sure that the other one knows.
    End,
}

/// Why one file has failed, or what is to be known of one.
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
    /// Regular files, and whatever could not be offered.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What a list holds by name: files and folders that stand in no other folder of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The first of them, as they may be shown, in the order of the names; [`NAMES_MAX`] at most.
    pub first: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// Names that are told; of further ones, how many they are.
pub const NAMES_MAX: usize = 20;

impl Names {
    /// Those to which these paths lead.
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let outermost = |path: &'a str| path.split_once('/').map_or(path, |(outer, _)| outer);
        let names: BTreeSet<&str> = paths.map(outermost).collect();
        let first = names.iter().take(NAMES_MAX).map(|name| shown(name)).collect();
        Self { first, more: names.len().saturating_sub(NAMES_MAX) }
    }
}

/// Where a transfer stands, or what has become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// What was listed; nothing before the list is complete.
    pub totals: Totals,
    /// What it is at.
    pub phase: Phase,
    /// What was listed, by name.
    pub names: Names,
    /// The file that is under way, as it may be shown.
    pub current: Option<String>,
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
    /// Of both, what is of use: not those of files that have failed.
    pub bytes_done: u64,
    /// The bytes of the listed files that have failed.
    pub bytes_failed: u64,
    /// Symbolic links and special files that were left out.
    pub skipped: u64,
    /// Files and folders that failed.
    pub failed: u64,
    /// The first [`FAILURES_KEPT_MAX`](super::FAILURES_KEPT_MAX) of these.
    pub failures: Vec<Failure>,
    /// Files of which a warning was told; each may have failed as well.
    pub warned: u64,
    /// The first [`FAILURES_KEPT_MAX`](super::FAILURES_KEPT_MAX) of these.
    pub warnings: Vec<Failure>,
}

impl Summary {
    /// What the whole transfer has come to, where this is that of its newest link, and `before` what it
    /// had come to without it: what was sent by then is there when the new link looks.
    pub(super) fn after(self, before: &Self) -> Self {
        if self.totals == Totals::default() {
            let Self { longest_pause, phase, current, .. } = self;
            return Self { longest_pause, phase, current, ..before.clone() };
        }
        let there = self.files_already_there.saturating_sub(before.files_completed);
        let kept = self.bytes_already_there.saturating_sub(before.bytes_transferred);
        Self {
            files_completed: self.files_completed + before.files_completed,
            files_already_there: there.max(before.files_already_there),
            bytes_transferred: self.bytes_transferred + before.bytes_transferred,
            bytes_already_there: kept.max(before.bytes_already_there),
            ..self
        }
    }
}
