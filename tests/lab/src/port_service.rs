//! A router that opens ports on request: Debian's `miniupnpd` in a NAT box.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::nat::{INNER, OUTER};
use crate::process::Process;

/// The program, and where it comes from.
const PROGRAM: &str = "miniupnpd";
const PACKAGE: &str = "miniupnpd-nftables";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How a router is asked for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortService {
    /// UPnP Internet Gateway Device.
    Upnp,
    /// PCP (RFC 6887), and NAT-PMP (RFC 6886) before it.
    Pcp,
}

impl PortService {
    /// Whether the program is there.
    ///
    /// # Errors
    /// What is missing.
    pub fn check() -> Result<(), &'static str> {
        let mut version = Command::new(PROGRAM);
        version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match version.status() {
            Ok(_) => Ok(()),
            Err(_) => Err("no miniupnpd here (Debian: apt-get install miniupnpd-nftables)"),
        }
    }

    fn config(self, inside: Ipv4Addr) -> String {
        let [upnp, pcp] = [Self::Upnp, Self::Pcp].map(|it| if it == self { "yes" } else { "no" });
        let [a, b, c, _] = inside.octets();
        format!(
            "ext_ifname={OUTER}
listening_ip={INNER}
port=0
enable_upnp={upnp}
enable_natpmp={pcp}
upnp_table_name={TABLE}
upnp_nat_table_name={TABLE}
upnp_forward_chain=opened
upnp_nat_chain={INWARD}
upnp_nat_postrouting_chain=outward
secure_mode=yes
ipv6_disable=yes
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 {a}.{b}.{c}.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"
        )
    }

    fn is_ready(self, line: &str) -> bool {
        match self {
            Self::Upnp => line.contains("HTTP listening on port"),
            Self::Pcp => line.contains("Listening for NAT-PMP/PCP traffic"),
        }
    }

    /// Starts it in a NAT box whose address toward the host is `inside`.
    pub(crate) fn start(
        self,
        namespace: &Namespace,
        inside: Ipv4Addr,
    ) -> Result<Process, LabError> {
        // `ip netns exec` gives a mount namespace of its own, so that the files are gone with the
        // program. It knows no leash, so the kernel ends it with whoever has started it.
        let script = "mount -t tmpfs none /run && printf %s \"$1\" >/run/conf &&
            exec setpriv --pdeathsig KILL miniupnpd -d -f /run/conf -P /run/pid";
        let mut command = namespace.inside("sh");
        command.args(["-c", script, "sh", &self.config(inside)]);
        let name = format!("{PROGRAM} ({PACKAGE})");
        let process = Process::start(&name, command)?;
        process.wait_for("it listens", READY_WITHIN, |lines| {
            lines.iter().any(|line| self.is_ready(line.text())).then_some(())
        })?;
        Ok(process)
    }
}

/// Table of nftables in which the program keeps the ports that it has opened, and the chain that
/// translates what comes to them.
pub(crate) const TABLE: &str = "opened_ports";
pub(crate) const INWARD: &str = "inward";

/// The table, with a chain that the program fills, for translation. What it says of packets on their
/// way out is left alone: the host's other packets are to be translated as ever.
pub(crate) fn table() -> String {
    format!(
        "table inet {TABLE} {{
  chain opened {{
  }}
  chain outward {{
  }}
  chain {INWARD} {{
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    policy accept
    iifname \"{OUTER}\" jump {INWARD}
  }}
}}
"
    )
}
