//! Cleans up after a laboratory that was killed.
//!
//! The janitor is a process in a group of its own, so that a Ctrl-C on the terminal passes it by. It
//! waits for the end of its standard input, which comes when the laboratory's process ends, however
//! that happens, and deletes the namespaces that are left. (The programs inside end by the same
//! token, see [`crate::multicall`].) If the janitor is killed too, the next laboratory does its work.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::LabError;
use crate::namespace::sweep;

/// First argument of the binary when it is to be the janitor.
pub(crate) const ENTRY: &str = "lab-janitor";
/// Start of the name of every namespace of every laboratory.
const NAMES: &str = "holepunch-lab-";
/// The laboratory may have been killed while it made a namespace, so the janitor looks until there
/// was nothing to be done so many times in a row …
const QUIET_ROUNDS: u32 = 3;
/// … but not more often than this …
const ROUNDS_MAX: u32 = 50;
/// … with this pause in between.
const PAUSE: Duration = Duration::from_millis(100);

/// The process that a namespace belongs to. Process ids are used again, so the time when it was
/// started (clock ticks since boot) belongs to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    started: u64,
}

impl Owner {
    fn this_process() -> Result<Self, LabError> {
        let pid = std::process::id();
        let path = format!("/proc/{pid}/stat");
        let stat = std::fs::read_to_string(&path)
            .map_err(|error| LabError::Tool { command: path, why: error.to_string() })?;
        let started = started(&stat).ok_or_else(|| LabError::output("/proc/PID/stat", &stat))?;
        Ok(Self { pid, started })
    }

    /// Start of the names of its namespaces.
    pub(crate) fn prefix(self) -> String {
        format!("{NAMES}{}-{}-", self.pid, self.started)
    }

    /// The owner of a namespace, if it is one of a laboratory.
    pub(crate) fn of_namespace(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(NAMES)?.splitn(3, '-');
        let (pid, started, _role) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    fn is_gone(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.ok().and_then(|stat| started(&stat)) != Some(self.started)
    }
}

/// When a process was started, by its `/proc/PID/stat`; `None` when it has ended and only waits to
/// be reaped.
fn started(stat: &str) -> Option<u64> {
    // The program's name, in parentheses, may hold anything; the state (field 3) follows it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // Field 22.
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// Makes sure that this process has a janitor, and does what those of dead laboratories could not.
/// Returns the name under which this process owns namespaces.
pub(crate) fn hire() -> Result<Owner, LabError> {
    static HIRED: OnceLock<Result<(Owner, ChildStdin), String>> = OnceLock::new();
    match HIRED.get_or_init(|| start().map_err(|error| error.to_string())) {
        Ok((owner, _until_this_process_ends)) => Ok(*owner),
        Err(why) => Err(LabError::Tool { command: ENTRY.to_owned(), why: why.clone() }),
    }
}

fn start() -> Result<(Owner, ChildStdin), LabError> {
    sweep(Owner::is_gone)?;
    let owner = Owner::this_process()?;
    let failed = |error| LabError::program(ENTRY, error);
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg(ENTRY)
        .arg(owner.prefix() + "all")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let leash = child.stdin.take().ok_or_else(|| LabError::output(ENTRY, "no standard input"))?;
    Ok((owner, leash))
}

/// The janitor's own work; `prefix` names its owner.
pub(crate) fn main(prefix: &str) -> ExitCode {
    let Some(owner) = Owner::of_namespace(prefix) else { return ExitCode::FAILURE };
    let mut nothing = Vec::new();
    let _ended = std::io::stdin().take(1).read_to_end(&mut nothing);
    let mut quiet = 0;
    for _ in 0..ROUNDS_MAX {
        let swept = sweep(|other| other == owner).unwrap_or(0);
        quiet = if swept == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET_ROUNDS {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(PAUSE);
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_its_owner() {
        let owner = Owner { pid: 12, started: 345 };
        assert_eq!(Owner::of_namespace(&(owner.prefix() + "7-host1")), Some(owner));
        for name in ["wan", "holepunch-lab-x-1-1-wan", "holepunch-lab-12", "rp-wan"] {
            assert_eq!(Owner::of_namespace(name), None, "{name}");
        }
    }

    #[test]
    fn this_process_lives_and_one_with_its_id_of_another_time_does_not() {
        let owner = Owner::this_process().unwrap();
        assert!(!owner.is_gone());
        assert!(Owner { started: owner.started + 1, ..owner }.is_gone());
    }

    #[test]
    fn the_start_is_read_whatever_the_program_is_called() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(started(&format!("9 (a) b) S {rest}")), Some(777));
        assert_eq!(started(&format!("9 (a) Z {rest}")), None);
        assert_eq!(started("9 (a) S 1"), None);
    }
}
