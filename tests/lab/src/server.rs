//! A server of the system's packages, in the public network or in a NAT box.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::LabError;
use crate::process::Process;
use crate::topology::Lab;

/// Servers start in well below a second; a machine that is busy may need far longer.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running server. It ends before the [`Lab`] that it runs in.
#[derive(Debug)]
pub struct Server(Process);

/// Where a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The public network.
    Public,
    /// The NAT box of a side.
    Box(usize),
}

/// How a server is started.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The program and its arguments. It stays in the foreground.
    pub command: &'a [&'a str],
    /// Files that it finds in `/run`, which is empty but for them and for those of the laboratory: names and texts.
    pub files: &'a [(&'a str, &'a str)],
    /// What it says on standard output or standard error once it serves.
    pub ready: &'a str,
}

impl Server {
    /// Whether a program is there.
    ///
    /// # Errors
    /// `missing`, where it is not.
    pub fn check(program: &str, missing: &'static str) -> Result<(), &'static str> {
        let mut find = Command::new("sh");
        find.args(["-c", "command -v \"$0\"", program]);
        let found = find.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) { Ok(()) } else { Err(missing) }
    }

    /// Starts one, and waits until it serves.
    ///
    /// # Errors
    /// It does not come up.
    ///
    /// # Panics
    /// There is no such side.
    pub fn start(lab: &Lab, place: Place, start: Start<'_>) -> Result<Self, LabError> {
        let namespace = match place {
            Place::Public => &lab.wan,
            Place::Box(side) => &lab.side(side).nat_box,
        };
        // It knows no leash, so the kernel ends it with whoever has started it: in a namespace of processes whose first one is
        // killed nothing is left, whatever it has started, and whosesoever rights that has taken.
        let mut command = namespace.inside_with("setpriv", start.files);
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-c", "\"$@\" >&2; exit", "sh"]);
        command.args(start.command);
        let process = Process::start(&start.command.join(" "), command)?;
        let server = Self(process);
        server.says(start.ready, READY_WITHIN)?;
        Ok(server)
    }

    /// Waits until it has said this.
    ///
    /// # Errors
    /// It does not within that time.
    pub fn says(&self, what: &str, within: Duration) -> Result<(), LabError> {
        self.0.wait_for(what, within, |lines| {
            lines.iter().any(|line| line.text().contains(what)).then_some(())
        })
    }

    /// Whether it has said this.
    #[must_use]
    pub fn has_said(&self, what: &str) -> bool {
        self.0.lines().iter().any(|line| line.text().contains(what))
    }

    /// The last lines that it has written, for people.
    #[must_use]
    pub fn tail(&self) -> String {
        self.0.tail()
    }
}
