//! A program on a pseudo-terminal: what it shows there, and what is typed.

use std::os::unix::process::ExitStatusExt;

use pty_process::{Command, Pty, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::within;

/// Rows of the terminal.
const ROWS: u16 = 50;
/// Lines that have left the screen by its top, and are kept.
const LINES_KEPT: usize = 1000;

/// A running program, whose standard input, output and error are a terminal of its own, which is its controlling one. It is
/// killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    pty: Pty,
    screen: vt100::Parser,
    /// Everything that was written to the terminal.
    pub(crate) written: Vec<u8>,
}

/// How a program on a terminal has ended.
#[derive(Debug)]
pub(crate) struct EndedThere {
    /// The exit code, or that of the shell after a signal.
    pub(crate) code: i32,
    /// What stands on the terminal in the end, from its first line on.
    pub(crate) shown: String,
    /// Everything that was written to the terminal.
    pub(crate) written: String,
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
        let path = std::env::var("PATH").unwrap();
        let command = Command::new(name).args(arguments).env_clear().env("TERM", "xterm");
        let command = command.env("PATH", path).envs(variables.iter().copied()).kill_on_drop(true);
        let child = command.spawn(pts).unwrap();
        let screen = vt100::Parser::new(ROWS, columns, LINES_KEPT);
        Self { child, pty, screen, written: Vec::new() }
    }

    /// Types a text; `\r` is the key Enter.
    pub(crate) async fn typed(&mut self, text: &str) {
        within("the terminal's input", self.pty.write_all(text.as_bytes())).await.unwrap();
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

    /// Everything that stands on the terminal and has left it by its top.
    pub(crate) fn shown(&mut self) -> String {
        let screen = self.screen.screen_mut();
        screen.set_scrollback(LINES_KEPT);
        let above = screen.scrollback();
        let mut lines: Vec<String> = Vec::new();
        let (rows, columns) = screen.size();
        let mut at = above;
        // Page by page: the last one is the screen itself.
        loop {
            screen.set_scrollback(at);
            let page: Vec<String> = screen.rows(0, columns).collect();
            let whole = at.min(usize::from(rows));
            lines.extend(page.into_iter().take(if at == 0 { usize::from(rows) } else { whole }));
            if at == 0 {
                break;
            }
            at -= whole;
        }
        lines.join("\n").trim_end().to_owned()
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
        EndedThere { code, shown: self.shown(), written }
    }
}
