//! The rules of NAT boxes, for nftables.

use crate::counters;
use crate::nat::{self, INNER, NatKind, OUTER};
use crate::nat64;
use crate::port_service;

/// Table that holds the translation and the filter.
const TABLE: &str = "translation";

/// A table for a box that forwards nothing.
pub(crate) const SHUT: &str = "table ip shut {
  chain through {
    type filter hook forward priority filter
    policy drop
  }
}
";

/// All rules of a box of this kind, its counters included.
pub(crate) fn of_box(kind: NatKind) -> String {
    let counters = counters::box_rules(OUTER);
    match kind {
        NatKind::None => counters,
        NatKind::PortPreserving => {
            counters + &table(&[outward("", "masquerade"), through(), to_the_box("")])
        }
        NatKind::Symmetric => {
            counters + &table(&[outward("", "masquerade fully-random"), through(), to_the_box("")])
        }
        NatKind::SymmetricBlock(first) => {
            let last = first.saturating_add(nat::BLOCK - 1);
            let from_block = format!("masquerade to :{first}-{last} fully-random");
            let outward = [outward(UDP, &from_block), outward_as("others", NOT_UDP, "masquerade")];
            counters + &table(&[outward.concat(), through(), to_the_box("")])
        }
        NatKind::SymmetricWith(_) => {
            let through = through().replace(ESTABLISHED, &format!("{ESTABLISHED}\n    {OPENED}"));
            let chains = [outward("", "masquerade fully-random"), through, to_the_box("")];
            counters + &table(&chains) + &port_service::table()
        }
        NatKind::Nat64 => {
            let through = through().replace(INNER, nat64::DEVICE);
            counters + &table(&[outward("", "masquerade"), through, to_the_box("")])
        }
        NatKind::KernelRemap => counters + &table(&[outward("", "masquerade"), through()]),
        NatKind::Simulated(_) if kind.translates() => {
            let outward = outward(NOT_UDP, "masquerade");
            counters + &table(&[untracked(), outward, to_the_box(NOT_UDP)])
        }
        NatKind::Simulated(_) => counters + &table(&[untracked()]),
    }
}

/// Answers get through, and what comes to ports that were opened on request.
const ESTABLISHED: &str = "ct state established,related accept";
const OPENED: &str = "ct status dnat accept";

/// The simulated NAT does with UDP what the kernel does with everything else.
const NOT_UDP: &str = "meta l4proto != udp";
const UDP: &str = "meta l4proto udp";

fn table(chains: &[String]) -> String {
    format!("table ip {TABLE} {{\n{}}}\n", chains.concat())
}

/// Source translation with connection tracking.
fn outward(only: &str, how: &str) -> String {
    outward_as("outward", only, how)
}

fn outward_as(chain: &str, only: &str, how: &str) -> String {
    format!(
        "  chain {chain} {{
    type nat hook postrouting priority srcnat
    policy accept
    oifname \"{OUTER}\" {only} {how}
  }}
"
    )
}

/// What the table of connections does not know does not get through.
fn through() -> String {
    format!(
        "  chain through {{
    type filter hook forward priority filter
    policy drop
    iifname \"{INNER}\" oifname \"{OUTER}\" accept
    {ESTABLISHED}
  }}
"
    )
}

/// Drops what comes for the box itself. If it were let through, each packet would take the very entry
/// that the host's own packets to its sender need, and the kernel would give those another port. A
/// box without this does just that.
fn to_the_box(only: &str) -> String {
    format!(
        "  chain to_the_box {{
    type filter hook input priority filter
    policy accept
    iifname \"{OUTER}\" {only} ct state != {{ established, related }} drop
  }}
"
    )
}

/// Each packet passes twice, before the simulated NAT and after it; the kernel is to remember neither.
fn untracked() -> String {
    "  chain untracked {
    type filter hook prerouting priority raw
    policy accept
    meta l4proto udp notrack
  }
"
    .to_owned()
}
