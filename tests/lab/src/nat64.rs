//! A network without IPv4, whose box has NAT64 (RFC 6146): Debian's `tayga`, and the kernel's masquerade behind it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::nat::INNER;
use crate::process::Process;

/// The device through which packets come to the program as IPv6, and from it as IPv4.
pub(crate) const DEVICE: &str = "nat64";
/// The well-known prefix (RFC 6052 §2.1): the last four bytes are the IPv4 address.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
/// The addresses of the host, the box, and the program.
const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 2);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 1);
const TRANSLATOR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 1, 0, 0, 0, 1);
/// What hosts are called behind the program, before the masquerade.
const POOL: &str = "192.168.255.0/24";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// An IPv4 address as such a network's DNS64 (RFC 6147) shows it.
#[must_use]
pub fn synthesized(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets();
    let last = |high, low| u16::from_be_bytes([high, low]);
    let [p0, p1, ..] = PREFIX.segments();
    Ipv6Addr::new(p0, p1, 0, 0, 0, 0, last(a, b), last(c, d))
}

/// Gives host and box their addresses, and starts the program.
pub(crate) fn start(nat_box: &Namespace, host: &Namespace) -> Result<Process, LabError> {
    nat_box.set_parameter("net/ipv6/conf/all/forwarding", 1)?;
    nat_box.ip(&[format!("address add {GATEWAY}/64 dev {INNER} nodad")])?;
    host.ip(&[
        format!("address add {HOST}/64 dev eth0 nodad"),
        "link set eth0 up".to_owned(),
        format!("route add default via {GATEWAY}"),
    ])?;
    let configuration = format!(
        "tun-device {DEVICE}\nipv4-addr 192.168.255.1\nipv6-addr {TRANSLATOR}\nprefix {PREFIX}/96\n\
         dynamic-pool {POOL}\ndata-dir /run\n"
    );
    let script = format!(
        "tayga -c /run/tayga.conf --mktun && ip link set {DEVICE} up &&
         ip route add {POOL} dev {DEVICE} && ip route add {PREFIX}/96 dev {DEVICE} &&
         exec setpriv --pdeathsig KILL stdbuf -oL tayga -d -c /run/tayga.conf >&2"
    );
    let mut command = nat_box.inside_with("sh", &[("tayga.conf", &configuration)]);
    command.args(["-c", &script]);
    let tayga = Process::start("tayga", command)?;
    tayga.wait_for("it translates", READY_WITHIN, |lines| {
        lines.iter().any(|line| line.text().starts_with("Dynamic pool")).then_some(())
    })?;
    Ok(tayga)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_end_of_the_one_that_dns64_shows() {
        let shown = synthesized(Ipv4Addr::new(192, 0, 2, 33));
        assert_eq!(shown, "64:ff9b::192.0.2.33".parse::<Ipv6Addr>().unwrap());
    }
}
