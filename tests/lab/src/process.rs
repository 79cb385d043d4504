//! A program that runs, and its log.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::logs::Line;
use crate::tool::{TOOL_WITHIN, run};

/// Most lines of a log that are kept, and most bytes of a line.
const LINES_MAX: usize = 10_000;
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Lines shown when something went wrong.
const TAIL_LINES: usize = 30;

/// A program in a namespace. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// The program ends when this is closed, by whatever end of this process.
    _leash: Option<ChildStdin>,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    ended: bool,
}

impl Process {
    /// Starts a program; its standard error is its log. `name` is what errors call it.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self, LabError> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |error| LabError::program(name, error);
        let mut child = command.spawn().map_err(failed)?;
        let leash = child.stdin.take();
        let log = Arc::new(Log::default());
        let (stderr, into) = (child.stderr.take(), Arc::clone(&log));
        let reader = thread::spawn(move || into.read(stderr));
        Ok(Self { name: name.to_owned(), child, _leash: leash, log, reader: Some(reader) })
    }

    /// Asks it to end, as a user does with Ctrl-C.
    pub(crate) fn terminate(&self) -> Result<(), LabError> {
        let pid = self.child.id().to_string();
        run(Command::new("kill").args(["-TERM", &pid]), "", TOOL_WITHIN).map(drop)
    }

    /// Waits until `pick` finds what it looks for among all lines so far.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        let deadline = Instant::now() + within;
        let mut state = self.log.lock();
        loop {
            if let Some(found) = pick(&state.lines) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let ended = if state.ended { " (the program has ended)" } else { "" };
                drop(state);
                let what = format!("{}: {what}", self.name);
                return Err(LabError::TimedOut { what, within, ended, logs: self.tail() });
            }
            let waited = self.log.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.log.lock().lines.clone()
    }

    /// The last lines, for people.
    pub(crate) fn tail(&self) -> String {
        let state = self.log.lock();
        let from = state.lines.len().saturating_sub(TAIL_LINES);
        let mut text = format!("--- {}, last lines of {}:\n", self.name, state.lines.len());
        for line in &state.lines[from..] {
            text.push_str(line.text());
            text.push('\n');
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _it_may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _read_to_the_end = reader.join();
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stderr: Option<ChildStderr>) {
        let mut stderr = stderr.map(BufReader::new);
        while let Some(line) = stderr.as_mut().and_then(read_line) {
            let mut state = self.lock();
            if state.lines.len() < LINES_MAX {
                state.lines.push(line);
            }
            drop(state);
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// The next line, or the next part of one that is too long; `None` at the end.
fn read_line(stderr: &mut BufReader<ChildStderr>) -> Option<Line> {
    let mut bytes = Vec::new();
    stderr.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).ok().filter(|read| *read > 0)?;
    Some(Line::new(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}
