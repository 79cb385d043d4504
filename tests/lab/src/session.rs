//! The programs of an experiment: a rendezvous in public, a worker in each host.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use crate::error::LabError;
use crate::logs::Line;
use crate::multicall;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::program::Program;
use crate::topology::{Lab, SERVICES};

/// Workers bind this UDP port, which is their default.
pub(crate) const WORKER_UDP_PORT: u16 = 8081;
/// Where the rendezvous serves HTTP, and STUN: several ports at each of two addresses. Two would do for
/// RFC 5780; more show how a NAT chooses ports.
const HTTP_PORT: u16 = 8080;
const STUN_PORTS: [u16; 4] = [3478, 3479, 3480, 3481];
/// Which logs programs write, unless more is asked for.
pub(crate) const LOG: &str = "info";
/// Programs start, register and link in well below a second; a machine that is busy with other
/// things may need far longer.
const WITHIN: Duration = Duration::from_secs(30);

/// Which protocol workers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The baseline only.
    Baseline,
    /// The newest that both ends speak.
    Newest,
}

/// How the workers of a session are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// What they speak with the rendezvous.
    pub protocol: Protocol,
    /// Whether they ask their router for a port.
    pub port_mapping: bool,
    /// Which logs they write, as `--log` takes it.
    pub log: &'static str,
}

impl Workers {
    /// Workers that speak the newest protocol and ask no router for a port: in most laboratories none
    /// would answer.
    pub const USUAL: Self = Self { protocol: Protocol::Newest, port_mapping: false, log: LOG };
    /// Workers that speak the baseline only.
    pub const BASELINE: Self = Self { protocol: Protocol::Baseline, ..Self::USUAL };
}

/// A rendezvous and its workers. They end before the [`Lab`] that they run in.
#[derive(Debug)]
pub struct Session<'lab> {
    lab: &'lab Lab,
    settings: Workers,
    rendezvous: Process,
    /// One for each side, in the order in which they were started.
    workers: Vec<Process>,
}

/// What a worker said of its link.
#[derive(Debug, Clone)]
pub struct Established {
    /// The address at which its peer answered.
    pub address: SocketAddrV4,
    /// Time from the offer.
    pub ms_since_offer: f64,
    /// Time from the PING that was answered to its answer.
    pub rtt_ms: f64,
    /// PINGs sent.
    pub probes: u64,
    /// When it was said, since 1970.
    pub at: Duration,
}

/// Two workers that say that they are linked, in the order of the sides.
#[derive(Debug, Clone)]
pub struct Linked {
    /// What each said.
    pub established: [Established; 2],
    /// When the second worker sent its endpoint to the rendezvous, since 1970.
    pub second_report_at: Duration,
}

impl Linked {
    /// Time from the second worker's report until both are linked.
    #[must_use]
    pub fn time_to_link(&self) -> Duration {
        let [first, second] = &self.established;
        first.at.max(second.at).saturating_sub(self.second_report_at)
    }
}

impl<'lab> Session<'lab> {
    /// Starts the rendezvous, for workers with these settings.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(lab: &'lab Lab, settings: Workers) -> Result<Self, LabError> {
        Self::start_with(lab, settings, &[])
    }

    /// The same with further words on the rendezvous' command line.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_with(lab: &'lab Lab, settings: Workers, more: &[&str]) -> Result<Self, LabError> {
        let rendezvous = start_rendezvous(&lab.wan, more)?;
        Ok(Self { lab, settings, rendezvous, workers: Vec::new() })
    }

    /// The same where these words say where the rendezvous listens for HTTP, too: behind a proxy perhaps.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_as(lab: &'lab Lab, settings: Workers, words: &[&str]) -> Result<Self, LabError> {
        let rendezvous = start_rendezvous_as(&lab.wan, words)?;
        Ok(Self { lab, settings, rendezvous, workers: Vec::new() })
    }

    /// Starts the worker of the next side.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// Each side has a worker already.
    pub fn start_worker(&mut self) -> Result<(), LabError> {
        let worker = self.worker(self.workers.len())?;
        self.workers.push(worker);
        Ok(())
    }

    /// Kills the worker of side `worker`, which can give nothing back, and starts another one there.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// That worker was not started.
    pub fn replace_worker(&mut self, worker: usize) -> Result<(), LabError> {
        drop(self.workers.remove(worker));
        self.workers.insert(worker, self.worker(worker)?);
        Ok(())
    }

    /// A command of `holepunch` in the host of side `index`, which knows the rendezvous.
    fn command(&self, index: usize, name: &str) -> Result<Command, LabError> {
        let host = &self.lab.side(index).host;
        let command = host.own_program(multicall::HOLEPUNCH)?;
        let mut command = knowing_the_rendezvous(with_logs(command, self.settings.log));
        command.arg(name);
        if !self.settings.port_mapping {
            command.arg("--no-port-mapping");
        }
        Ok(command)
    }

    /// Starts a program over a link, `bench` or `send` perhaps, in the host of side `index`.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// There is no such side.
    pub fn program(
        &self,
        index: usize,
        name: &str,
        arguments: &[&str],
    ) -> Result<Program, LabError> {
        self.program_with(index, name, arguments, &[])
    }

    /// The same with these variables beside the usual ones, or in their place.
    ///
    /// # Errors
    /// Likewise.
    ///
    /// # Panics
    /// Likewise.
    pub fn program_with(
        &self,
        index: usize,
        name: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Program, LabError> {
        let mut command = self.command(index, name)?;
        command.args(arguments).envs(variables.iter().copied());
        let name = format!("{name} {index} ({})", self.lab.side(index).kind());
        Process::start(&name, command).map(Program::new)
    }

    fn worker(&self, index: usize) -> Result<Process, LabError> {
        let mut command = self.command(index, "worker")?;
        command.env("IP_ECHO_URL", "none").env("PORT", "0");
        if self.settings.protocol == Protocol::Baseline {
            command.arg("--baseline");
        }
        let name = format!("worker {index} ({})", self.lab.side(index).kind());
        Process::start(&name, command)
    }

    /// Starts the worker of the next side and waits until its report is acknowledged.
    ///
    /// # Errors
    /// That does not happen.
    ///
    /// # Panics
    /// Each side has a worker already.
    pub fn start_reporting_worker(&mut self) -> Result<(), LabError> {
        self.start_worker()?;
        self.wait_for(self.workers.len() - 1, "its report is acknowledged", WITHIN, |lines| {
            let ack = lines.iter().find(|line| line.message() == "udp_endpoint_ack")?;
            (ack.string("status") == Some("success")).then_some(())
        })
    }

    /// Starts both workers, the second once the first is acknowledged, and waits for their links.
    ///
    /// # Errors
    /// They do not link within half a minute.
    ///
    /// # Panics
    /// The lab has fewer than two sides, or workers were started already.
    pub fn link(&mut self) -> Result<Linked, LabError> {
        self.start_reporting_worker()?;
        self.start_reporting_worker()?;
        self.linked(WITHIN)
    }

    /// Waits for the links of both workers.
    ///
    /// # Errors
    /// They do not link within that time.
    ///
    /// # Panics
    /// There are fewer than two workers.
    pub fn linked(&self, within: Duration) -> Result<Linked, LabError> {
        let said = |index| self.wait_for(index, "link established", within, established);
        let established = [said(0)?, said(1)?];
        let report = with_message("UDP endpoint sent to the rendezvous");
        let second_report_at =
            self.wait_for(1, "the report has a time", WITHIN, |lines| report(lines)?.time())?;
        Ok(Linked { established, second_report_at })
    }

    /// Asks the worker of side `worker` to end.
    ///
    /// # Errors
    /// It cannot be told.
    ///
    /// # Panics
    /// That worker was not started.
    pub fn end_worker(&self, worker: usize) -> Result<(), LabError> {
        self.workers[worker].terminate()
    }

    /// Waits until `pick` finds what it looks for in the log of the worker of side `worker`.
    ///
    /// # Errors
    /// It does not within that time; the error shows the ends of all logs.
    ///
    /// # Panics
    /// That worker was not started.
    pub fn wait_for<T>(
        &self,
        worker: usize,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        let found = self.workers[worker].wait_for(what, within, pick);
        if let Err(LabError::TimedOut { what, within, ended, .. }) = found {
            return Err(LabError::TimedOut { what, within, ended, logs: self.tails() });
        }
        found
    }

    /// The same in the log of the rendezvous.
    ///
    /// # Errors
    /// Likewise.
    pub fn wait_for_rendezvous<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        self.rendezvous.wait_for(what, within, pick)
    }

    /// All lines that a worker has written so far.
    ///
    /// # Panics
    /// That worker was not started.
    #[must_use]
    pub fn lines(&self, worker: usize) -> Vec<Line> {
        self.workers[worker].lines()
    }

    /// The last lines of all programs, those of the simulated NATs included.
    #[must_use]
    pub fn tails(&self) -> String {
        let all = std::iter::once(&self.rendezvous).chain(&self.workers);
        let sides = self.lab.sides().iter().map(crate::topology::Side::tails);
        all.map(Process::tail).chain(sides).collect()
    }
}

/// Starts a rendezvous at the [`SERVICES`] of a namespace, with further words on its command line.
pub(crate) fn start_rendezvous(wan: &Namespace, more: &[&str]) -> Result<Process, LabError> {
    let listen = format!("{}:{HTTP_PORT}", SERVICES[0]);
    start_rendezvous_as(wan, &[&["--listen", &listen], more].concat())
}

/// The same where the words say where it listens for HTTP.
fn start_rendezvous_as(wan: &Namespace, words: &[&str]) -> Result<Process, LabError> {
    let [one, two, _] = SERVICES;
    let mut command = with_logs(wan.own_program(multicall::HOLEPUNCH)?, LOG);
    command.arg("rendezvous");
    let stun: Vec<String> =
        [one, two].iter().flat_map(|ip| STUN_PORTS.map(|port| format!("{ip}:{port}"))).collect();
    command.args(["--stun-listen", &stun.join(",")]).args(words);
    let rendezvous = Process::start("the rendezvous", command)?;
    let is_up = with_message("rendezvous is running");
    rendezvous.wait_for("rendezvous is running", WITHIN, is_up)?;
    Ok(rendezvous)
}

/// Tells a worker, or a program over a link, where that rendezvous is.
pub(crate) fn knowing_the_rendezvous(mut command: Command) -> Command {
    let [one, two, _] = SERVICES;
    let stun = STUN_PORTS[0];
    command
        .env("RENDEZVOUS_SERVICE_URL", format!("http://{one}:{HTTP_PORT}"))
        .env("STUN_SERVERS", format!("{one}:{stun},{two}:{stun}"));
    command
}

/// Logs as JSON, and no settings from the environment of whoever runs the laboratory.
pub(crate) fn with_logs(mut command: Command, log: &str) -> Command {
    command.args(["--log-format", "json", "--log", log]).env_clear();
    for kept in ["PATH", "RUST_BACKTRACE", multicall::BINARY] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// Finds the first line with that message.
fn with_message(message: &str) -> impl Fn(&[Line]) -> Option<Line> {
    move |lines| lines.iter().find(|line| line.message() == message).cloned()
}

fn established(lines: &[Line]) -> Option<Established> {
    let line = lines.iter().find(|line| line.message() == "link established")?;
    Some(Established {
        address: line.string("address")?.parse().ok()?,
        ms_since_offer: line.number("ms_since_offer")?,
        rtt_ms: line.number("rtt_ms")?,
        probes: line.count("probes")?,
        at: line.time()?,
    })
}
