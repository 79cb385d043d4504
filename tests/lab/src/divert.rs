//! Sends packets through a router in user space: two TUN devices, and rules for routing.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::conditions::Conditions;
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::nat::{INNER, OUTER};
use crate::process::Process;
use crate::router;
use crate::tool::TOOL_WITHIN;

/// TUN devices of a simulated NAT, toward the host and toward the public network.
const NAT_INSIDE: &str = "nat-in";
const NAT_OUTSIDE: &str = "nat-out";
/// Tables of routes whose default leads into one device. Those of lines have the number of the side
/// added twice.
const TO_NAT_INSIDE: u32 = 101;
const TO_NAT_OUTSIDE: u32 = 102;
const TO_LINES: u32 = 1000;
/// The kernel's rule for its own addresses, which comes first otherwise, is put there.
const LOCAL_PREFERENCE: u32 = 1000;

/// Lines of `ip` that divert UDP through the devices of a simulated NAT in a box. Packets between the
/// host and the box itself, whose inner address is `gateway`, stay with the kernel.
pub(crate) fn through_nat(gateway: Ipv4Addr) -> Vec<String> {
    let mut lines = devices(NAT_INSIDE, TO_NAT_INSIDE, NAT_OUTSIDE, TO_NAT_OUTSIDE);
    lines.extend([
        format!("rule add pref 10 iif {INNER} to {gateway} lookup local"),
        format!("rule add pref 11 iif {INNER} ipproto udp lookup {TO_NAT_INSIDE}"),
        format!("rule add pref 12 iif {OUTER} ipproto udp lookup {TO_NAT_OUTSIDE}"),
    ]);
    lines.extend(own_addresses_last());
    lines
}

/// Devices of the line of side `index`, likewise.
fn line_devices(index: usize) -> [String; 2] {
    [format!("line{index}-in"), format!("line{index}-out")]
}

/// Lines of `ip` for the public network that divert UDP and TCP of a side, behind `link`, through a line.
/// `public` is the address under which the host is seen.
pub(crate) fn through_line(index: usize, link: &str, public: Ipv4Addr) -> Vec<String> {
    let [inside, outside] = line_devices(index);
    let number = u32::try_from(index).unwrap_or(u32::MAX / 4);
    let (to_inside, to_outside) = (TO_LINES + 2 * number, TO_LINES + 2 * number + 1);
    let mut lines = devices(&inside, to_inside, &outside, to_outside);
    // What has passed the line goes on to the side, and everything else to it and from it takes the
    // line. (The protocols are named since the kernel answers ARP by the same rules.)
    lines.push(format!("rule add pref 10 iif {inside} lookup main"));
    for protocol in ["udp", "tcp"] {
        lines.extend([
            format!("rule add pref 11 iif {link} ipproto {protocol} lookup {to_inside}"),
            format!("rule add pref 20 to {public} ipproto {protocol} lookup {to_outside}"),
        ]);
    }
    lines
}

fn devices(inside: &str, to_inside: u32, outside: &str, to_outside: u32) -> Vec<String> {
    [(inside, to_inside), (outside, to_outside)]
        .into_iter()
        .flat_map(|(device, table)| {
            [
                format!("tuntap add dev {device} mode tun"),
                format!("link set {device} up"),
                format!("route add default dev {device} table {table}"),
            ]
        })
        .collect()
}

/// Lines of `ip` after which the rules above go before those for the namespace's own addresses.
pub(crate) fn own_addresses_last() -> Vec<String> {
    vec![
        format!("rule add pref {LOCAL_PREFERENCE} lookup local"),
        "rule del pref 0 lookup local".to_owned(),
    ]
}

/// Prepares a namespace for diverted packets. Those that come back from a router may have the
/// namespace's own addresses as their source. And no socket is looked for before a packet's route is:
/// the kernel would not forward what it has found one for.
pub(crate) fn prepare(namespace: &Namespace) -> Result<(), LabError> {
    for scope in ["all", "default"] {
        namespace.set_parameter(&format!("net/ipv4/conf/{scope}/rp_filter"), 0)?;
        namespace.set_parameter(&format!("net/ipv4/conf/{scope}/accept_local"), 1)?;
    }
    namespace.set_parameter("net/ipv4/ip_early_demux", 0)
}

/// Starts the NAT of a box.
pub(crate) fn start_nat(
    namespace: &Namespace,
    kind: holepunch_sim::presets::NatKind,
    outside: Ipv4Addr,
    seed: u64,
) -> Result<Process, LabError> {
    let mut command = namespace.own_program(router::ENTRY)?;
    command.args(["nat", NAT_INSIDE, NAT_OUTSIDE, &kind.to_string()]);
    command.args([outside.to_string(), seed.to_string()]);
    start(&format!("the NAT {kind} (seed {seed})"), command)
}

/// Starts the line of side `index`.
pub(crate) fn start_line(
    namespace: &Namespace,
    index: usize,
    conditions: Conditions,
    seed: u64,
) -> Result<Process, LabError> {
    let mut command = namespace.own_program(router::ENTRY)?;
    command.arg("line").args(line_devices(index));
    let Conditions { delay, jitter, signalling, loss, hops } = conditions;
    command.args([delay, jitter, signalling].map(|time| time.as_millis().to_string()));
    command.args([loss.to_string(), hops.to_string(), seed.to_string()]);
    start(&format!("the line of side {index} (seed {seed})"), command)
}

fn start(name: &str, command: Command) -> Result<Process, LabError> {
    let router = Process::start(name, command)?;
    router.wait_for("it has its devices", TOOL_WITHIN, |lines| {
        lines.iter().any(|line| line.text() == router::READY).then_some(())
    })?;
    Ok(router)
}
