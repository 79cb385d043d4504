//! How far each entry is, for the thread that reads and the task that hears the receiver.

use std::sync::atomic::{AtomicU8, Ordering};

const UNANSWERED: u8 = 0;
/// The receiver has asked what this side has, and its answer follows.
const COMPARED: u8 = 1;
const WANTED: u8 = 2;
/// Its outcome is known on this side, and counted.
const SETTLED: u8 = 3;
/// The receiver has had its last word.
const DONE: u8 = 4;

/// One state for each entry. It only ever rises.
#[derive(Debug)]
pub(super) struct States(Vec<AtomicU8>);

impl States {
    pub(super) fn new(entries: usize) -> Self {
        Self((0..entries).map(|_| AtomicU8::new(UNANSWERED)).collect())
    }

    fn moves(&self, index: u32, from: u8, to: u8) -> bool {
        let state = self.0.get(index as usize);
        let exchange = |state: &AtomicU8| {
            state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        state.is_some_and(exchange)
    }

    /// The receiver compares first; `false` where it has answered, or asked, before, or there is no such entry.
    pub(super) fn compare(&self, index: u32) -> bool {
        self.moves(index, UNANSWERED, COMPARED)
    }

    /// The receiver wants the entry; `false` where it has answered before, or there is no such entry.
    pub(super) fn want(&self, index: u32) -> bool {
        self.moves(index, UNANSWERED, WANTED) || self.moves(index, COMPARED, WANTED)
    }

    /// The receiver wants nothing of the entry; `false` as for [`want`](Self::want).
    pub(super) fn decline(&self, index: u32) -> bool {
        self.moves(index, UNANSWERED, DONE) || self.moves(index, COMPARED, DONE)
    }

    /// This side knows the outcome; `false` where it was counted already.
    pub(super) fn settle(&self, index: u32) -> bool {
        self.moves(index, WANTED, SETTLED)
    }

    /// The receiver has told the outcome: whether it is to be counted; `None` where nobody asked.
    pub(super) fn done(&self, index: u32) -> Option<bool> {
        if self.moves(index, WANTED, DONE) {
            return Some(true);
        }
        self.moves(index, SETTLED, DONE).then_some(false)
    }

    pub(super) fn is_done(&self, index: u32) -> bool {
        self.0.get(index as usize).is_some_and(|it| it.load(Ordering::Acquire) == DONE)
    }
}
