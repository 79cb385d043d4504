//! The lines of `--json`.

use holepunch_programs::transfer::Failure;
use std::path::Path;

use holepunch_programs::transfer::{Incoming, Totals};
use serde::Serialize;

use crate::joining::Invited;
use crate::path_history::PathChange;

/// What happens to the link, in JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum LinkLine {
    Linked {
        peer: String,
        path: String,
        direct: bool,
    },
    Path(PathChange),
    /// What the other side needs, where this side has made it up.
    Code(Invited),
    /// It has ended, and another one is waited for.
    LinkLost {
        why: String,
    },
}

/// What a sender has listed, in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Listed<'a> {
    event: &'static str,
    files: u64,
    folders: u64,
    bytes: u64,
    /// The folder that it comes into.
    into: String,
    /// What stands in no folder of the list: 20 at most, and how many more there are.
    names: Vec<&'a str>,
    more: usize,
}

impl<'a> Listed<'a> {
    pub(super) fn new(incoming: &'a Incoming, into: &Path) -> Self {
        let Totals { files, folders, bytes } = incoming.totals;
        let names = incoming.tops.iter().map(|top| top.name.as_str()).collect();
        let into = into.display().to_string();
        Self { event: "listed", files, folders, bytes, into, names, more: incoming.more }
    }
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// `progress`, and `summary` for the last.
    pub(super) event: &'a str,
    /// `transfer`, `disk` or `end`: what it is at, or was at last.
    pub(super) phase: &'a str,
    /// What stands in no folder of the list, in the summary: 20 at most, and how many more there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) names: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) more_names: Option<usize>,
    /// The file that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<&'a str>,
    pub(super) files: u64,
    pub(super) folders: u64,
    pub(super) bytes: u64,
    pub(super) files_completed: u64,
    pub(super) files_already_there: u64,
    pub(super) files_failed: u64,
    /// Files that have grown, and are sent as they were when they were listed.
    pub(super) files_warned: u64,
    pub(super) skipped: u64,
    /// Bytes that went over the link, those that had to be sent again and those of files that have failed, too.
    pub(super) bytes_transferred: u64,
    pub(super) bytes_already_there: u64,
    /// Bytes that are with the receiver.
    pub(super) bytes_done: u64,
    /// The sizes of files that have failed.
    pub(super) bytes_failed: u64,
    pub(super) seconds: f64,
    pub(super) bytes_per_second: u64,
    /// The longest time without a piece of a file.
    pub(super) longest_pause_ms: f64,
    /// Seconds that are left at this rate; null where nothing comes, or is to come.
    pub(super) eta_seconds: Option<f64>,
    /// The first of what has failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) failures: Vec<FailureLine<'a>>,
    /// The first of what people were warned of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<FailureLine<'a>>,
    /// The ways that this side has sent by, in the summary.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) path_history: Vec<PathChange>,
    /// Why the transfer as a whole has ended before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// The same for programs, where there is a word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_code: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct FailureLine<'a> {
    pub(super) path: &'a str,
    pub(super) reason: &'a str,
}

impl<'a> From<&'a Failure> for FailureLine<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self { path: &failure.path, reason: &failure.reason }
    }
}
