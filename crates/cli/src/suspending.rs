//! Ctrl-Z while a line is edited: the process stops until somebody lets it go on, and the line is there again.
//!
//! The editor's own way has the terminal again before all threads have stopped.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_current_process_group};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, Helper, KeyEvent,
    RepeatCount,
};

/// All threads of the process have stopped so long after Ctrl-Z, on a busy machine as well. Time goes on while they stand still,
/// so nobody who comes back later waits for it.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// The line where somebody has typed Ctrl-Z: what stands before the cursor, and behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspending(Arc<Mutex<Option<(String, String)>>>);

impl Suspending {
    /// Ctrl-Z of this editor.
    pub(crate) fn of<H: Helper>(editor: &mut Editor<H, DefaultHistory>) -> Self {
        let suspending = Self::default();
        let handler = EventHandler::Conditional(Box::new(suspending.clone()));
        editor.bind_sequence(KeyEvent::ctrl('z'), handler);
        suspending
    }

    /// Reads a line, however often the process is stopped meanwhile.
    pub(crate) fn line<H: Helper>(
        &self,
        editor: &mut Editor<H, DefaultHistory>,
        prompt: &str,
    ) -> rustyline::Result<String> {
        let (mut before, mut behind) = (String::new(), String::new());
        loop {
            let read = editor.readline_with_initial(prompt, (&before, &behind));
            match (read, self.take()) {
                (Err(ReadlineError::Interrupted), Some(line)) => {
                    suspend();
                    (before, behind) = line;
                }
                (read, _) => return read,
            }
        }
    }

    fn take(&self) -> Option<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ConditionalEventHandler for Suspending {
    /// Ends the reading, and keeps the line.
    fn handle(
        &self,
        _: &Event,
        _: RepeatCount,
        _: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        let (before, behind) = context.line().split_at_checked(context.pos())?;
        let mut suspended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *suspended = Some((before.to_owned(), behind.to_owned()));
        Some(Cmd::Interrupt)
    }
}

/// Stops all that the terminal would stop, until somebody lets it go on. The signal takes effect on any thread: without the wait,
/// this one would have the terminal again before.
fn suspend() {
    let _to_oneself_is_allowed = kill_current_process_group(Signal::TSTP);
    thread::sleep(STOPPED_WITHIN);
}
