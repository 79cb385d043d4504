//! The real binary, run as a process.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::within;

/// A running `holepunch`. It is killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// Standard output, by line.
    pub(crate) out: Lines,
    /// Standard error, by line: the log.
    pub(crate) log: Lines,
}

/// The lines of a stream.
pub(crate) struct Lines {
    lines: mpsc::UnboundedReceiver<String>,
    /// Those taken so far.
    pub(crate) seen: Vec<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// Starts it with these arguments and no environment variables but these.
    pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::run_with_input(arguments, variables, "")
    }

    /// The same with a short text on standard input.
    pub(crate) fn run_with_input(
        arguments: &[&str],
        variables: &[(&str, &str)],
        input: &str,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holepunch"));
        command.args(arguments).env_clear().envs(variables.iter().copied());
        Self::start(command, input)
    }

    /// Starts it with these arguments under limits of its own, as `ulimit` takes them.
    pub(crate) fn run_under(limits: &str, arguments: &str) -> Self {
        let binary = env!("CARGO_BIN_EXE_holepunch");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limits}; exec '{binary}' {arguments}")]).env_clear();
        Self::start(command, "")
    }

    /// Starts a command of the test's own, with this on standard input.
    pub(crate) fn start(mut command: Command, input: &str) -> Self {
        // A text that a pipe's buffer holds: nothing waits for its reader.
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(input.as_bytes()).unwrap();
        drop(write);
        let mut child = command
            .stdin(if input.is_empty() { Stdio::null() } else { read.into() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        Self { child, out, log }
    }

    /// Runs it to its end.
    pub(crate) async fn end_of(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        Self::run(arguments, variables).end().await
    }

    /// The id of the process, as long as it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap();
        let kill = format!("kill -{name} {id}");
        assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Ended {
        let status = within("the end of the process", self.child.wait()).await.unwrap();
        let out = self.out.rest().await;
        Ended { code: status.code(), out, err: self.log.rest().await }
    }
}

impl Lines {
    fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _unless_nobody_reads = sender.send(line);
            }
        });
        Self { lines, seen: Vec::new() }
    }

    /// The next line that holds `text`.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        within(text, async {
            loop {
                let line = self.lines.recv().await;
                let line = line.unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.seen));
                self.seen.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
        })
        .await
    }

    /// The next log entry with this message. Every line must be a JSON object.
    pub(crate) async fn entry(&mut self, message: &str) -> Value {
        within(message, async {
            loop {
                let line = self.line("").await;
                let entry: Value =
                    serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"));
                assert!(entry.is_object(), "{line}");
                if entry["message"].as_str().is_some_and(|text| text.contains(message)) {
                    return entry;
                }
            }
        })
        .await
    }

    /// All lines, those taken before included, once the stream has ended.
    async fn rest(&mut self) -> String {
        while let Some(line) = within("the end of a stream", self.lines.recv()).await {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }
}
