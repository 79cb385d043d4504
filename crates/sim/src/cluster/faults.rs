//! What fails, and when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use holepunch_matchmaker::Store;

/// What does not work at the moment.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Of a hundred packets between instances: lost, doubled.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Pairs of instances that do not hear each other, the smaller first.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) store_is_away: bool,
    /// Instances that stand still.
    pub(super) still: BTreeSet<usize>,
    /// The store as it was a while ago, which is what is left after a fail-over.
    pub(super) backup: Option<(Instant, Store)>,
}

/// One thing that begins to fail, or ends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Lossy(bool),
    Cut(usize, usize, bool),
    Store(bool),
    /// The store loses what it was told in the last moments.
    FailOver,
    Still(usize, bool),
    /// An instance dies, and another one begins in its place.
    Crash(usize),
    /// A worker loses its connection.
    Break(usize),
}

impl Faults {
    pub(super) fn are_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Keeps what a fail-over would come back to: at most this old.
    pub(super) fn back_up(&mut self, store: &Store, now: Instant) {
        const AGE: Duration = Duration::from_millis(700);
        if self.backup.as_ref().is_none_or(|(at, _)| *at + AGE <= now) {
            self.backup = Some((now, store.clone()));
        }
    }
}
