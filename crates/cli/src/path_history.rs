//! The ways that a link has taken, for JSON and in words.

use holepunch_worker::{Link, PathEvent, PathKind, milliseconds};
use serde::Serialize;

/// One change of a link's path.
#[derive(Debug, Serialize)]
pub(crate) struct PathChange {
    /// When, since the link's session began.
    after_ms: f64,
    path: String,
    direct: bool,
    reason: String,
}

/// A change as a line, as `holepunch why` has it.
pub(crate) fn in_words(event: &PathEvent) -> String {
    format!("data goes by: {} ({})", event.path.kind, event.reason)
}

/// The changes so far, the oldest first.
pub(crate) fn path_changes(link: &Link) -> Vec<PathChange> {
    link.path_history().into_iter().map(PathChange::from).collect()
}

impl From<PathEvent> for PathChange {
    fn from(event: PathEvent) -> Self {
        let kind = event.path.kind;
        Self {
            after_ms: milliseconds(event.after),
            direct: matches!(kind, PathKind::Direct { .. }),
            path: kind.to_string(),
            reason: event.reason,
        }
    }
}
