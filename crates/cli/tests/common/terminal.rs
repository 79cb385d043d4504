//! A program on a pseudo-terminal: what it shows there, and what is typed.

use std::os::unix::process::ExitStatusExt;

use pty_process::{Command, Pty, Size};
use rustix::termios::{InputModes, LocalModes, OutputModes, tcgetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::within;

/// Rows of the terminal: enough for everything that a test looks at.
const ROWS: u16 = 120;

/// How a terminal takes and shows what is typed.
type Modes = (InputModes, OutputModes, LocalModes);

/// A running program, whose standard input, output and error are a terminal of its own, which is its controlling one. It is
/// killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    pty: Pty,
    screen: vt100::Parser,
    /// Everything that was written to the terminal.
    pub(crate) written: Vec<u8>,
    /// So much of it the steps have seen.
    seen: usize,
    before: Modes,
}

/// How a program on a terminal has ended.
#[derive(Debug)]
pub(crate) struct EndedThere {
    /// The exit code, or that of the shell after a signal.
    pub(crate) code: i32,
    /// What stands on the terminal in the end.
    pub(crate) shown: String,
    /// Everything that was written to the terminal.
    pub(crate) written: String,
    /// Whether the terminal is left as it was, with its cursor.
    is_as_before: bool,
}

impl Terminal {
    /// `holepunch` on a terminal of so many columns, with no environment variables but these and `TERM`.
    pub(crate) fn run(columns: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::program(columns, env!("CARGO_BIN_EXE_holepunch"), arguments, variables)
    }

    /// A script of the shell, to which `$0` is `holepunch`.
    pub(crate) fn script(columns: u16, script: &str, variables: &[(&str, &str)]) -> Self {
        Self::program(columns, "bash", &["-c", script, env!("CARGO_BIN_EXE_holepunch")], variables)
    }

    fn program(columns: u16, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(ROWS, columns)).unwrap();
        let before = modes(&pty);
        let path = std::env::var("PATH").unwrap();
        let command = Command::new(name).args(arguments).env_clear().env("TERM", "xterm");
        let command = command.env("PATH", path).envs(variables.iter().copied()).kill_on_drop(true);
        let child = command.spawn(pts).unwrap();
        let screen = vt100::Parser::new(ROWS, columns, 0);
        Self { child, pty, screen, written: Vec::new(), seen: 0, before }
    }

    /// Types a text; `\r` is the key Enter.
    pub(crate) async fn typed(&mut self, text: &str) {
        within("the terminal's input", self.pty.write_all(text.as_bytes())).await.unwrap();
    }

    /// Waits for each text, as it is written behind the one before, and types another one.
    pub(crate) async fn steps(&mut self, steps: &[(&str, &str)]) {
        for (text, typed) in steps {
            let written = async {
                loop {
                    let mut parts = self.written[self.seen..].windows(text.len());
                    if let Some(at) = parts.position(|part| part == text.as_bytes()) {
                        return self.seen + at + text.len();
                    }
                    assert!(self.read().await, "ended before {text:?}: {}", self.shown());
                }
            };
            self.seen = within(text, written).await;
            self.typed(typed).await;
        }
    }

    /// Takes these steps, and waits for the end, which leaves the terminal as it was.
    pub(crate) async fn left(mut self, steps: &[(&str, &str)]) -> EndedThere {
        self.steps(steps).await;
        let ended = self.end().await;
        assert!(ended.is_as_before, "the terminal is left in another state: {ended:?}");
        ended
    }

    /// Likewise of a program that is interrupted, and says so on a line of its own.
    pub(crate) async fn interrupted(self, steps: &[(&str, &str)]) -> EndedThere {
        let ended = self.left(steps).await;
        assert_eq!(ended.code, 130, "{ended:?}");
        assert!(ended.has_line("holepunch: interrupted"), "{ended:?}");
        ended
    }

    /// Makes the terminal as wide, which the program is told (SIGWINCH).
    pub(crate) fn resize(&mut self, columns: u16) {
        self.pty.resize(Size::new(ROWS, columns)).unwrap();
        self.screen.screen_mut().set_size(ROWS, columns);
    }

    /// What stands on the terminal, once a text does.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        self.until_shown(text, |shown| shown.contains(text)).await
    }

    /// What stands on the terminal, once it is as it should be.
    pub(crate) async fn until_shown(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let shown = async {
            loop {
                let shown = self.shown();
                if is_so(&shown) {
                    return shown;
                }
                assert!(self.read().await, "the program has ended: {shown}");
            }
        };
        within(what, shown).await
    }

    /// What stands on the terminal.
    pub(crate) fn shown(&self) -> String {
        let screen = self.screen.screen();
        let lines: Vec<String> = screen.rows(0, screen.size().1).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until something more is written.
    pub(crate) async fn more(&mut self) {
        assert!(within("more of the program's output", self.read()).await, "the program has ended");
    }

    /// Reads once; whether there was something.
    async fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // The end of the last program on a terminal is an error of its other side.
        let Ok(count @ 1..) = self.pty.read(&mut bytes).await else { return false };
        self.screen.process(&bytes[..count]);
        self.written.extend_from_slice(&bytes[..count]);
        true
    }

    /// The process, to which signals may be sent.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> EndedThere {
        within("the end of the program's output", async { while self.read().await {} }).await;
        let status = within("the end of the process", self.child.wait()).await.unwrap();
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap();
        let written = String::from_utf8_lossy(&self.written).into_owned();
        let is_as_before = modes(&self.pty) == self.before && !self.screen.screen().hide_cursor();
        EndedThere { code, shown: self.shown(), written, is_as_before }
    }
}

impl EndedThere {
    /// Whether a line on the terminal begins so.
    pub(crate) fn has_line(&self, start: &str) -> bool {
        self.shown.lines().any(|line| line.starts_with(start))
    }
}

fn modes(pty: &Pty) -> Modes {
    let attributes = tcgetattr(pty).unwrap();
    (attributes.input_modes, attributes.output_modes, attributes.local_modes)
}
