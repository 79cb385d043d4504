//! Two hosts with a line between them.
//!
//! ```text
//! host0 198.19.10.1 [end0]--- line ---[end1] host1 198.18.20.1 --- wan 198.18.0.1 and .2
//! ```
//!
//! There is no NAT. `wan` is the place of a rendezvous: host 1 reaches it at once, host 0 over the line. Each host has
//! one address, so that whatever goes from one to the other goes over the line.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::settings::LaneSettings;
use super::{DEVICES, ENTRY, LaneCounts, READY, words};
use crate::error::LabError;
use crate::flow::{Flow, TcpFlow};
use crate::multicall;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::session::{LOG, knowing_the_rendezvous, start_rendezvous, with_logs};
use crate::tool::TOOL_WITHIN;
use crate::topology::{SERVICES, fresh_seed};

/// The addresses of the hosts.
pub const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 19, 10, 1), Ipv4Addr::new(198, 18, 20, 1)];
/// An address of `wan`, for a server.
pub const SERVICE: Ipv4Addr = SERVICES[0];
/// The address of `wan` toward host 1.
const WAN: Ipv4Addr = Ipv4Addr::new(198, 18, 20, 254);
/// Packets that wait for the line to read them. At 1 Gbit/s these are 100 ms: the line may not have a core of this
/// machine at once. What this queue drops is no part of the line; [`LineNetwork::overruns`] tells of it.
const DEVICE_QUEUE_PACKETS: u32 = 8192;
/// The line goes before all that it is between, as it would on a machine of its own: the least of the priorities for
/// real time, by `chrt`. It never takes a whole core, since it waits between batches, and the kernel leaves 5 % anyway.
const PRIORITY: [&str; 2] = ["--rr", "1"];
/// Most memory of a TCP socket for each direction, in bytes: more than twice the largest bandwidth-delay product that is
/// measured (500 Mbit/s, 200 ms), as the kernel gives half of it to the window.
const TCP_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Sockets begin with the kernel's own defaults.
const TCP_RECEIVE_BYTES: u32 = 131_072;
const TCP_SEND_BYTES: u32 = 16_384;
const TCP_BYTES_MIN: u32 = 4096;

/// Two hosts, a line, and a place for a rendezvous. Dropping it removes them.
#[derive(Debug)]
pub struct LineNetwork {
    // Programs end before the namespaces that they run in.
    line: Process,
    hosts: [Namespace; 2],
    wan: Namespace,
    of_the_line: Namespace,
}

impl LineNetwork {
    /// Builds the network; the settings are those from host 0 and those to it.
    ///
    /// # Errors
    /// A limit of the settings is not kept, the system does not permit it, or a tool is missing.
    pub fn build(settings: [LaneSettings; 2]) -> Result<Self, LabError> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        settings.iter().try_for_each(LaneSettings::check)?;
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let namespace = |role: &str| Namespace::new(number, &format!("fast-{role}"));
        let [host0, host1] = [namespace("host0")?, namespace("host1")?];
        let (wan, of_the_line) = (namespace("wan")?, namespace("line")?);
        let seed = fresh_seed();
        let binary = std::env::current_exe().map_err(|error| LabError::program(ENTRY, error))?;
        let mut command = of_the_line.inside("chrt");
        command.args(PRIORITY).arg(binary).arg(ENTRY).args(words(settings, seed));
        let line = Process::start(&format!("the fast line (seed {seed})"), command)?;
        line.wait_for("it has its devices", TOOL_WITHIN, |lines| {
            lines.iter().any(|line| line.text() == READY).then_some(())
        })?;
        let network = Self { line, hosts: [host0, host1], wan, of_the_line };
        network.join()?;
        Ok(network)
    }

    fn join(&self) -> Result<(), LabError> {
        let Self { hosts: [host0, host1], wan, of_the_line, .. } = self;
        let [address0, address1] = HOSTS;
        let [end0, end1] = DEVICES;
        of_the_line.ip(&[
            format!("link set {end0} txqueuelen {DEVICE_QUEUE_PACKETS}"),
            format!("link set {end1} txqueuelen {DEVICE_QUEUE_PACKETS}"),
            format!("link set {end0} netns {}", host0.name()),
            format!("link set {end1} netns {}", host1.name()),
        ])?;
        // Without addresses of IPv6 the kernel has nothing of its own to send.
        host0.ip(&[
            format!("link set {end0} addrgenmode none"),
            format!("address add {address0}/32 dev {end0}"),
            format!("link set {end0} up"),
            format!("route add default dev {end0} src {address0}"),
        ])?;
        host1.set_parameter("net/ipv4/ip_forward", 1)?;
        host1.ip(&[
            format!("link add wan type veth peer name host1 netns {}", wan.name()),
            format!("address add {address1}/24 dev wan"),
            "link set wan up".to_owned(),
            format!("link set {end1} addrgenmode none"),
            format!("link set {end1} up"),
            format!("route add {address0}/32 dev {end1} src {address1}"),
        ])?;
        let mut lines = vec![
            format!("address add {WAN}/24 dev host1"),
            "link set host1 up".to_owned(),
            format!("route add default via {address1}"),
        ];
        lines.extend(SERVICES.map(|ip| format!("address add {ip}/32 dev lo")));
        wan.ip(&lines)?;
        host1.ip(&SERVICES.map(|ip| format!("route add {ip}/32 via {WAN}")))?;
        hosts_for_tcp(&self.hosts)
    }

    /// What each direction of the line has done so far, the one from host 0 first.
    ///
    /// # Errors
    /// The line does not answer.
    pub fn counts(&self) -> Result<[LaneCounts; 2], LabError> {
        let answer = self.line.ask(TOOL_WITHIN)?;
        serde_json::from_str(&answer).map_err(|_| LabError::output("the line", &answer))
    }

    /// Packets that the line's devices have dropped, since the line did not read them in time: with any, the line was
    /// not what it was told to be.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn overruns(&self) -> Result<u64, LabError> {
        let mut sum = 0;
        for (host, device) in self.hosts.iter().zip(DEVICES) {
            let path = format!("/sys/class/net/{device}/statistics/tx_dropped");
            let text = host.read(&path)?;
            let dropped = text.trim().parse::<u64>();
            sum += dropped.map_err(|_| LabError::output("tx_dropped", &text))?;
        }
        Ok(sum)
    }

    /// Fills a TCP connection from host 0 to host 1 for so long, with this congestion control of the kernel.
    ///
    /// # Errors
    /// It does not come up, or the kernel has no such congestion control.
    pub fn tcp(&self, control: &str, time: Duration) -> Result<TcpFlow, LabError> {
        let [host0, host1] = &self.hosts;
        TcpFlow::start(host0, host1, HOSTS[1], control, time)
    }

    /// Starts a rendezvous without a relay in `wan`: what goes from host to host goes directly. It is to be dropped before
    /// the network.
    ///
    /// # Errors
    /// It does not come up.
    pub fn rendezvous(&self) -> Result<Rendezvous, LabError> {
        start_rendezvous(&self.wan, &["--no-relay"]).map(Rendezvous)
    }

    /// Starts `holepunch pipe` in both hosts, and fills it from host 0 to host 1.
    ///
    /// # Errors
    /// They cannot be started.
    pub fn pipe(&self, _with: &Rendezvous) -> Result<Flow, LabError> {
        let zero = std::fs::File::open("/dev/zero");
        let zero = zero.map_err(|error| LabError::program("/dev/zero", error))?;
        let (sender, _prints_nothing) =
            Process::start_with_input("the sender", self.piped(0)?, zero.into())?;
        let (receiver, out) =
            Process::start_with_input("the receiver", self.piped(1)?, Stdio::null())?;
        let out = out.ok_or_else(|| LabError::output("pipe", "no standard output"))?;
        Ok(Flow::new([sender, receiver], out))
    }

    fn piped(&self, host: usize) -> Result<Command, LabError> {
        let binary = std::env::current_exe().map_err(|error| LabError::program("pipe", error))?;
        let mut command = ending_with_this_thread(&self.hosts[host]);
        command.arg(binary).arg(multicall::HOLEPUNCH_WITH_INPUT);
        let mut command = knowing_the_rendezvous(with_logs(command, LOG));
        command.args(["pipe", "--room", "line", "--no-port-mapping"]);
        Ok(command)
    }

    /// Runs another program in a host, or in `wan`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn other(&self, place: Place, program: &str, words: &[&str]) -> Result<Other, LabError> {
        let namespace = match place {
            Place::Host(host) => &self.hosts[host],
            Place::Wan => &self.wan,
        };
        let mut command = ending_with_this_thread(namespace);
        command.arg(program).args(words);
        Process::start(program, command).map(Other)
    }
}

/// A command inside whose first word is still missing. The kernel ends it with the thread that has started it, since it
/// knows no leash: its input is its own, or it is somebody else's program.
fn ending_with_this_thread(namespace: &Namespace) -> Command {
    let mut command = namespace.inside("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command
}

fn hosts_for_tcp(hosts: &[Namespace]) -> Result<(), LabError> {
    for host in hosts {
        let sizes = |usual| format!("{TCP_BYTES_MIN} {usual} {TCP_BYTES_MAX}");
        host.set_parameter("net/ipv4/tcp_rmem", sizes(TCP_RECEIVE_BYTES))?;
        host.set_parameter("net/ipv4/tcp_wmem", sizes(TCP_SEND_BYTES))?;
        // What one connection has learnt would be the next one's start.
        host.set_parameter("net/ipv4/tcp_no_metrics_save", 1)?;
    }
    Ok(())
}

/// A rendezvous in `wan`.
#[derive(Debug)]
pub struct Rendezvous(#[expect(dead_code, reason = "it runs as long as it is held")] Process);

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of the two hosts.
    Host(usize),
    /// Where a rendezvous would be.
    Wan,
}

/// A program of somebody else's. Dropping it kills it.
#[derive(Debug)]
pub struct Other(Process);

impl Other {
    /// Waits for a line of its output that begins with this word: what follows the word.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn said(&self, word: &str, within: Duration) -> Result<String, LabError> {
        self.0.wait_for_output(word, within, |lines| {
            lines.iter().find_map(|line| {
                let rest = line.text().strip_prefix(word)?;
                rest.strip_prefix(' ').or(rest.is_empty().then_some("")).map(str::to_owned)
            })
        })
    }
}
