//! Network namespaces, by `ip netns`.

use std::fmt::Display;
use std::process::Command;

use crate::error::LabError;
use crate::janitor::{self, Owner};
use crate::tool::{TOOL_WITHIN, run};

/// Runs a program with files of its own in `/run`, and with `hosts` among them in the place of `/etc/hosts`. `ip netns exec`
/// gives it a mount namespace of its own, so that the files are gone with the program.
const WITH_FILES: &str = "mount -t tmpfs none /run || exit
    while [ \"$1\" != -- ]; do printf %s \"$2\" >\"/run/$1\" && shift 2 || exit; done; shift
    [ ! -e /run/hosts ] || mount --bind /run/hosts /etc/hosts || exit
    exec \"$@\"";

/// A network namespace; dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    /// What programs find in `/run`, by name.
    files: Vec<(String, String)>,
}

impl Namespace {
    /// Makes an empty namespace with the loopback interface up. `role` distinguishes it within the
    /// laboratory number `lab` of this process.
    pub(crate) fn new(lab: u32, role: &str) -> Result<Self, LabError> {
        let owner = janitor::hire()?;
        let name = format!("{}{lab}-{role}", owner.prefix());
        run(Command::new("ip").args(["netns", "add", &name]), "", TOOL_WITHIN)?;
        let namespace = Self { name, files: Vec::new() };
        namespace.ip(&["link set lo up".to_owned()])?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip` inside.
    pub(crate) fn ip(&self, lines: &[String]) -> Result<(), LabError> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        run(&mut ip, &(lines.join("\n") + "\n"), TOOL_WITHIN).map(drop)
    }

    /// Loads a ruleset of nftables.
    pub(crate) fn load_rules(&self, rules: &str) -> Result<(), LabError> {
        run(self.inside("nft").args(["-f", "-"]), rules, TOOL_WITHIN).map(drop)
    }

    /// A set of nftables with its elements, as JSON.
    pub(crate) fn nft_set(&self, table: &str, set: &str) -> Result<String, LabError> {
        let list = ["-nn", "-j", "list", "set", "ip", table, set];
        run(self.inside("nft").args(list), "", TOOL_WITHIN)
    }

    /// Sets a kernel parameter of the namespace; `path` is below `/proc/sys`.
    pub(crate) fn set_parameter(&self, path: &str, value: impl Display) -> Result<(), LabError> {
        let write = format!("echo {value} >/proc/sys/{path}");
        run(self.inside("sh").args(["-c", &write]), "", TOOL_WITHIN).map(drop)
    }

    /// Reads a file, of those that show the namespace's own state.
    pub(crate) fn read(&self, path: &str) -> Result<String, LabError> {
        run(self.inside("cat").arg(path), "", TOOL_WITHIN)
    }

    /// A command that runs a program inside; the process is that program itself.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Programs that are started from now on find this file in `/run`. One called `hosts` is their `/etc/hosts`.
    pub(crate) fn give(&mut self, name: &str, text: &str) {
        self.files.push((name.to_owned(), text.to_owned()));
    }

    /// The same as [`Self::inside`] where the program finds these files in `/run`, and those of the namespace.
    pub(crate) fn inside_with(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        files: &[(&str, &str)],
    ) -> Command {
        let own = self.files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let mut command = self.inside("sh");
        command.args(["-c", WITH_FILES, "sh"]);
        for (name, text) in own.chain(files.iter().copied()) {
            command.args([name, text]);
        }
        command.arg("--").arg(program);
        command
    }

    /// A command that runs this very binary inside, as the program `entry`.
    pub(crate) fn own_program(&self, entry: &str) -> Result<Command, LabError> {
        let binary = std::env::current_exe().map_err(|error| LabError::program(entry, error))?;
        let mut command =
            if self.files.is_empty() { self.inside(binary) } else { self.inside_with(binary, &[]) };
        command.arg(entry);
        Ok(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Deletes a namespace; one that is gone already is as good.
fn delete(name: &str) {
    let _gone_already = run(Command::new("ip").args(["netns", "del", name]), "", TOOL_WITHIN);
}

/// Deletes the namespaces of all owners that `is_gone` names; returns how many there were.
pub(crate) fn sweep(is_gone: impl Fn(Owner) -> bool) -> Result<usize, LabError> {
    let list = run(Command::new("ip").args(["netns", "list"]), "", TOOL_WITHIN)?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let stale: Vec<&str> =
        names.filter(|name| Owner::of_namespace(name).is_some_and(&is_gone)).collect();
    for name in &stale {
        delete(name);
    }
    Ok(stale.len())
}
