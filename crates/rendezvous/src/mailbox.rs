//! What the board tells one desk, on its way there.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use holepunch_matchmaker::Note;

/// Most notes that wait for one desk. Its task reads them whatever its client does, so that only a process which has no time at
/// all for a task comes so far.
const NOTES_MAX: usize = 1024;

/// A bounded queue from the board to the task of one connection.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    notes: VecDeque<Note>,
    /// A note had no room: what the desk knows is worth nothing any more.
    is_overfull: bool,
    /// The task that waits for the next one.
    waits: Option<Waker>,
}

impl Mailbox {
    /// Queues a note; gives it back when there is no room.
    pub(crate) fn push(&self, note: Note) -> Option<Note> {
        let mut state = self.lock();
        state.is_overfull |= state.notes.len() >= NOTES_MAX;
        let mut note = Some(note);
        if !state.is_overfull {
            state.notes.extend(note.take());
        }
        let waits = state.waits.take();
        drop(state);
        waits.into_iter().for_each(Waker::wake);
        note
    }

    pub(crate) fn pop(&self) -> Option<Note> {
        let mut state = self.lock();
        let note = state.notes.pop_front();
        if state.notes.is_empty() {
            state.notes.shrink_to(0); // Thousands of idle connections keep no buffer each.
        }
        note
    }

    pub(crate) fn is_overfull(&self) -> bool {
        self.lock().is_overfull
    }

    /// Whether an offer still waits.
    pub(crate) fn holds_an_offer(&self) -> bool {
        self.lock().notes.iter().any(Note::is_offer)
    }

    /// Ready when there is something in it. The task of the desk alone asks.
    pub(crate) fn poll_any(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.notes.is_empty() || state.is_overfull {
            return Poll::Ready(());
        }
        match &mut state.waits {
            Some(waits) => waits.clone_from(context.waker()),
            None => state.waits = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desk_that_reads_nothing_is_given_up_when_its_mailbox_is_full() {
        let mailbox = Mailbox::default();
        let taken = (0..5000).filter(|_| mailbox.push(Note::Replaced).is_none()).count();
        assert_eq!(taken, NOTES_MAX);
        assert!(mailbox.is_overfull());
    }
}
