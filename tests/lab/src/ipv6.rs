//! Hosts that have IPv6, with or without IPv4 beside it.
//!
//! ```text
//!         wan: rendezvous and STUN at 2001:db8:0:1::1, nobody at 198.18.0.1
//!     ::ffff |                           | ::ffff
//! 2001:db8:0:10::/64              2001:db8:0:11::/64
//!       ::1 [host0]                     [host1] ::1
//! ```
//!
//! Nothing is translated. Each host has a firewall that lets in answers alone, as home routers have for IPv6
//! (RFC 6092).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::LabError;
use crate::multicall;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::program::Program;
use crate::session::{LOG, with_logs};

/// Where the rendezvous is.
pub const SERVICE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1);
/// A name of that address.
pub const SERVICE_NAME: &str = "rendezvous.test";
/// An address of IPv4 from which no answer comes.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where the rendezvous serves HTTP, and STUN.
const HTTP_PORT: u16 = 8080;
const STUN_PORT: u16 = 3478;
/// A machine that is busy may take its time.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What the hosts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv6 alone.
    Ipv6,
    /// Both, but what leaves by IPv4 gets no further than the router.
    Ipv4Dead,
    /// IPv4 alone; the rendezvous is out of reach.
    Ipv4,
}

/// Two hosts and a rendezvous. Dropping it removes them.
#[derive(Debug)]
pub struct Ipv6Lab {
    // Programs end before the namespaces that they run in.
    _rendezvous: Process,
    hosts: [Namespace; 2],
    _wan: Namespace,
}

impl Ipv6Lab {
    /// Builds the network, and starts the rendezvous.
    ///
    /// # Errors
    /// The system does not permit it, or a tool is missing.
    pub fn build(families: Families) -> Result<Self, LabError> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let namespace = |role: &str| Namespace::new(number, &format!("six-{role}"));
        let wan = namespace("wan")?;
        wan.set_parameter("net/ipv6/conf/all/forwarding", 1)?;
        wan.load_rules(NOTHING_BY_IPV4)?;
        wan.ip(&[
            format!("address add {SERVICE}/128 dev lo"),
            format!("address add {NOBODY}/32 dev lo"),
        ])?;
        let hosts = [namespace("host0")?, namespace("host1")?];
        for (index, host) in (0_u8..).zip(&hosts) {
            join(index, host, &wan, families)?;
        }
        let rendezvous = start_rendezvous(&wan)?;
        Ok(Self { _rendezvous: rendezvous, hosts, _wan: wan })
    }

    /// The address of host `index`, 0 or 1.
    #[must_use]
    pub fn host_ip(index: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0x10 + u16::from(index), 0, 0, 0, 1)
    }

    /// The address of the STUN server of the rendezvous.
    #[must_use]
    pub fn stun() -> SocketAddr {
        (SERVICE, STUN_PORT).into()
    }

    /// The same by name.
    #[must_use]
    pub fn stun_by_name() -> String {
        format!("{SERVICE_NAME}:{STUN_PORT}")
    }

    /// Starts a worker in host `index`, 0 or 1, with these STUN servers.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// There is no such host.
    pub fn worker(&self, index: usize, stun: &str) -> Result<Program, LabError> {
        self.start(index, &["worker", "--stun-servers", stun])
    }

    /// Starts `holepunch bench` in host `index`, 0 or 1, with these STUN servers.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// There is no such host.
    pub fn bench(&self, index: usize, stun: &str) -> Result<Program, LabError> {
        let more = ["--room", "six", "--seconds", "0.2", "--json", "--wait-direct-sec", "45"];
        self.start(index, &[&["bench", "--stun-servers", stun], &more[..]].concat())
    }

    fn start(&self, index: usize, words: &[&str]) -> Result<Program, LabError> {
        let url = format!("http://[{SERVICE}]:{HTTP_PORT}");
        let mut command = self.command(index, words)?;
        command.arg("--no-port-mapping").env("RENDEZVOUS_SERVICE_URL", url);
        command.env("IP_ECHO_URL", "none").env("PORT", "0");
        Process::start(&format!("{} {index}", words[0]), command).map(Program::new)
    }

    /// Starts `holepunch nat` in host 0, with these STUN servers.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn nat(&self, stun: &str) -> Result<Program, LabError> {
        let command = self.command(0, &["nat", "--json", "--stun-servers", stun])?;
        Process::start("nat", command).map(Program::new)
    }

    /// A command of `holepunch` in a host, which knows the name of the rendezvous.
    fn command(&self, index: usize, words: &[&str]) -> Result<Command, LabError> {
        let binary = std::env::current_exe().map_err(|error| LabError::program("worker", error))?;
        // `ip netns exec` gives a mount namespace of its own, so that the file is gone with the program.
        let script = "mount -t tmpfs none /run && printf '%s\n' \"$1\" >/run/hosts &&
            mount --bind /run/hosts /etc/hosts && shift && exec \"$@\"";
        let mut command = self.hosts[index].inside("sh");
        command.args(["-c", script, "sh", &format!("{SERVICE} {SERVICE_NAME}")]);
        command.arg(binary).arg(multicall::HOLEPUNCH);
        let mut command = with_logs(command, LOG);
        command.args(words);
        Ok(command)
    }
}

/// Joins a host to the public network.
fn join(index: u8, host: &Namespace, wan: &Namespace, families: Families) -> Result<(), LabError> {
    host.load_rules(FIREWALL)?;
    let link = format!("host{index}");
    let ip = Ipv6Lab::host_ip(index);
    let mut router = ip.segments();
    router[7] = 0xffff;
    let router = Ipv6Addr::from(router);
    let [v4, v4_router] = [1, 254].map(|last| Ipv4Addr::new(198, 19, index, last));
    let mut outside = vec![
        format!("link add {link} type veth peer name eth0 netns {}", host.name()),
        format!("link set {link} up"),
    ];
    let mut inside = vec!["link set eth0 up".to_owned()];
    if families != Families::Ipv4 {
        // Nobody else has these addresses: to look for duplicates takes a second.
        outside.push(format!("address add {router}/64 dev {link} nodad"));
        inside.push(format!("address add {ip}/64 dev eth0 nodad"));
        inside.push(format!("route add default via {router}"));
    }
    if families != Families::Ipv6 {
        outside.push(format!("address add {v4_router}/24 dev {link}"));
        inside.push(format!("address add {v4}/24 dev eth0"));
        inside.push(format!("route add default via {v4_router}"));
    }
    wan.ip(&outside)?;
    host.ip(&inside)
}

fn start_rendezvous(wan: &Namespace) -> Result<Process, LabError> {
    let mut command = with_logs(wan.own_program(multicall::HOLEPUNCH)?, LOG);
    command.args(["rendezvous", "--listen", &format!("[{SERVICE}]:{HTTP_PORT}")]);
    command.args(["--stun-listen", &Ipv6Lab::stun().to_string()]);
    let rendezvous = Process::start("the rendezvous", command)?;
    rendezvous.wait_for("rendezvous is running", READY_WITHIN, |lines| {
        lines.iter().any(|line| line.message() == "rendezvous is running").then_some(())
    })?;
    Ok(rendezvous)
}

/// The router takes no packet of IPv4.
const NOTHING_BY_IPV4: &str = "table ip nothing {
  chain input {
    type filter hook input priority filter
    policy drop
  }
  chain forward {
    type filter hook forward priority filter
    policy drop
  }
}
";

/// Answers come in, and what IPv6 itself needs.
const FIREWALL: &str = "table inet firewall {
  chain input {
    type filter hook input priority filter
    policy drop
    iifname \"lo\" accept
    meta l4proto icmpv6 accept
    ct state established,related accept
  }
}
";
