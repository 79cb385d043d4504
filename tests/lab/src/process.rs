//! A program that runs, its log and its output.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
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
    leash: Option<ChildStdin>,
    /// Standard error.
    log: Arc<Log>,
    /// Standard output.
    out: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
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
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(name, &mut command)?;
        let out = child.stdout.take();
        Ok(Self::of(name, child, out))
    }

    /// The same with an input of its own. Whatever the program prints is handed out, or lost with what is handed out.
    pub(crate) fn start_with_input(
        name: &str,
        mut command: Command,
        input: Stdio,
    ) -> Result<(Self, Option<ChildStdout>), LabError> {
        command.stdin(input).stdout(Stdio::piped());
        let mut child = spawn(name, &mut command)?;
        let out = child.stdout.take();
        Ok((Self::of(name, child, None), out))
    }

    fn of(name: &str, mut child: Child, out: Option<ChildStdout>) -> Self {
        let leash = child.stdin.take();
        let (log, into_log) = Log::of(child.stderr.take());
        let (out, into_out) = Log::of(out);
        let readers = vec![into_log, into_out];
        Self { name: name.to_owned(), child, leash, log, out, readers }
    }

    /// Sends a program an empty line, and waits for the line that it prints then.
    pub(crate) fn ask(&self, within: Duration) -> Result<String, LabError> {
        let before = self.out.lock().lines.len();
        if let Some(mut leash) = self.leash.as_ref() {
            leash.write_all(b"\n").map_err(|error| LabError::program(&self.name, error))?;
        }
        self.wait_for_output("its answer", within, |lines| {
            lines.get(before).map(|line| line.text().to_owned())
        })
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self, within: Duration) -> Result<ExitStatus, LabError> {
        let deadline = Instant::now() + within;
        for stream in [&self.log, &self.out] {
            // It never finds anything: that is over when the stream is.
            if stream.wait_for(deadline, |_| None::<()>) == Err(Ended(false)) {
                let what = format!("{}: its end", self.name);
                return Err(LabError::TimedOut { what, within, ended: "", logs: self.tail() });
            }
        }
        self.child.wait().map_err(|error| LabError::program(&self.name, error))
    }

    /// What it has written to standard output so far.
    pub(crate) fn output(&self) -> String {
        self.out.lock().lines.iter().map(|line| line.text().to_owned() + "\n").collect()
    }

    /// Asks it to end, as a user does with Ctrl-C.
    pub(crate) fn terminate(&self) -> Result<(), LabError> {
        let pid = self.child.id().to_string();
        run(Command::new("kill").args(["-TERM", &pid]), "", TOOL_WITHIN).map(drop)
    }

    /// Waits until `pick` finds what it looks for among all lines of its log so far.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        self.wait(&self.log, what, within, pick)
    }

    /// The same among the lines of its standard output.
    pub(crate) fn wait_for_output<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        self.wait(&self.out, what, within, pick)
    }

    fn wait<T>(
        &self,
        stream: &Log,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        stream.wait_for(Instant::now() + within, pick).map_err(|Ended(ended)| {
            let ended = if ended { " (the program has ended)" } else { "" };
            let what = format!("{}: {what}", self.name);
            LabError::TimedOut { what, within, ended, logs: self.tail() }
        })
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

fn spawn(name: &str, command: &mut Command) -> Result<Child, LabError> {
    let spawned = command.stderr(Stdio::piped()).spawn();
    spawned.map_err(|error| LabError::program(name, error))
}

impl Drop for Process {
    fn drop(&mut self) {
        let _it_may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
        for reader in self.readers.drain(..) {
            let _read_to_the_end = reader.join();
        }
    }
}

/// A stream has ended, or else the time for which it was waited has.
#[derive(Debug, PartialEq, Eq)]
struct Ended(bool);

impl Log {
    /// Reads a stream in the background.
    fn of(stream: Option<impl Read + Send + 'static>) -> (Arc<Self>, JoinHandle<()>) {
        let log = Arc::new(Self::default());
        let into = Arc::clone(&log);
        (log, thread::spawn(move || into.read(stream)))
    }

    /// Waits until `pick` finds what it looks for among all lines so far.
    fn wait_for<T>(
        &self,
        deadline: Instant,
        mut pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, Ended> {
        let mut state = self.lock();
        loop {
            if let Some(found) = pick(&state.lines) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return Err(Ended(state.ended));
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stream: Option<impl Read>) {
        let mut stream = stream.map(BufReader::new);
        while let Some(line) = stream.as_mut().and_then(read_line) {
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
fn read_line(stream: &mut BufReader<impl Read>) -> Option<Line> {
    let mut bytes = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).ok().filter(|read| *read > 0)?;
    Some(Line::new(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}
