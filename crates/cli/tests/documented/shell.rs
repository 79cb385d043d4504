//! A person's machine: a home of its own, the program in `PATH`, and lines of a shell that run there.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use crate::common::Program;
use crate::common::program::Ended;

/// A machine, as far as the documents need one.
pub(crate) struct Machine {
    home: TempDir,
    variables: Vec<(String, String)>,
}

/// A line that runs. All that it has started ends with it.
pub(crate) struct Line {
    pub(crate) program: Program,
    group: u32,
}

impl Machine {
    /// One that asks this STUN server, and nobody else outside.
    pub(crate) fn new(stun: &str) -> Self {
        let variables = [
            ("STUN_SERVERS", stun),
            ("NO_PORT_MAPPING", "true"),
            ("IP_ECHO_URL", "none"),
            ("PORT", "0"),
            ("INTERNAL_UDP_PORT_ENV", "0"),
            ("STUN_LISTEN", "127.0.0.1:0"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { home: tempfile::tempdir().unwrap(), variables: variables.map(own).into() }
    }

    /// With one more variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file or a folder in the home, which is the current folder, too.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs a line.
    pub(crate) fn run(&self, line: &str) -> Line {
        let binaries = Path::new(env!("CARGO_BIN_EXE_holepunch")).parent().unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", binaries.display());
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.home.path()).process_group(0);
        command.env_clear().env("PATH", path).env("HOME", self.home.path());
        command.envs(self.variables.iter().cloned());
        let program = Program::start(command, "");
        let group = program.id().unwrap();
        Line { program, group }
    }
}

impl Line {
    /// The code that it prints, for `command` on the other side.
    pub(crate) async fn code(&mut self, command: &str) -> String {
        let start = format!("on the other side:  holepunch {command} ");
        let line = self.program.log.line(&start).await;
        line.strip_prefix(&start).unwrap().split(' ').next().unwrap().to_owned()
    }

    /// Waits for its end.
    pub(crate) async fn end(self) -> Ended {
        let group = self.group;
        let ended = self.program.end().await;
        kill(group);
        ended
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) async fn succeeds(self) -> Ended {
        let ended = self.end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    /// It has done what it was to do, and would go on.
    pub(crate) fn stop(self) {
        kill(self.group);
    }
}

/// Ends what is left of a line.
fn kill(group: u32) {
    let group = format!("-{group}");
    let _unless_gone = std::process::Command::new("kill")
        .args(["-KILL", "--", &group])
        .stderr(std::process::Stdio::null())
        .status();
}
