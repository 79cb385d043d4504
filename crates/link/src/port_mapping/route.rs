//! The router to which packets to the internet go.

use std::net::{IpAddr, Ipv4Addr};

use holepunch_wire::address::AddressKind;

use crate::surroundings::local_towards;

/// Routes that are read: some 8,000, of 128 bytes each. Default routes stand first, and a host that knows the ways of the
/// whole internet is behind no home router.
#[cfg(any(target_os = "linux", target_os = "android"))]
const TABLE_BYTES_MAX: u64 = 1024 * 1024;

/// The default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) router: Ipv4Addr,
    /// The own address, as the router sees it.
    pub(super) own: Ipv4Addr,
}

impl Route {
    /// `None` where there is no router, or the system does not tell it.
    pub(super) fn current() -> Option<Self> {
        let router = default_router()?;
        let IpAddr::V4(own) = local_towards(router.into())? else { return None };
        Some(Self { router, own })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn default_router() -> Option<Ipv4Addr> {
    use std::io::Read;
    let mut table = String::new();
    let file = std::fs::File::open("/proc/net/route").ok()?;
    file.take(TABLE_BYTES_MAX).read_to_string(&mut table).ok()?;
    of_table(&table)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn default_router() -> Option<Ipv4Addr> {
    let routers = netdev::get_default_gateway().ok()?.ipv4;
    routers.into_iter().find(|router| is_a_host(*router))
}

/// The router of the default route with the least metric, in the kernel's table of IPv4 routes (`proc_net_route(5)`): a line of
/// heads, then one for each route.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn of_table(table: &str) -> Option<Ipv4Addr> {
    // `RTF_UP`, `RTF_GATEWAY`, `RTF_REJECT`.
    let (used, told) = (0x1 | 0x2, 0x1 | 0x2 | 0x200);
    let defaults = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let [destination, router] = [fields.next()?, fields.next()?].map(address);
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        let metric: u32 = fields.nth(2)?.parse().ok()?;
        let mask = address(fields.next()?)?;
        let is_default = destination?.is_unspecified() && mask.is_unspecified();
        let is_used = flags & told == used;
        (is_default && is_used && is_a_host(router?)).then_some((metric, router?))
    });
    defaults.min_by_key(|(metric, _)| *metric).map(|(_, router)| router)
}

/// The kernel prints the four octets as one number of the machine's own byte order.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn address(digits: &str) -> Option<Ipv4Addr> {
    u32::from_str_radix(digits, 16).ok().map(|number| number.to_ne_bytes().into())
}

fn is_a_host(router: Ipv4Addr) -> bool {
    AddressKind::of(router.into()).is_reachable_unicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    /// A line as the kernel writes it.
    fn line(
        destination: [u8; 4],
        router: [u8; 4],
        flags: u32,
        metric: u32,
        mask: [u8; 4],
    ) -> String {
        let [destination, router, mask] = [destination, router, mask].map(u32::from_ne_bytes);
        format!(
            "eth0\t{destination:08X}\t{router:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0 \n"
        )
    }

    fn default(router: [u8; 4], flags: u32, metric: u32) -> String {
        line([0; 4], router, flags, metric, [0; 4])
    }

    fn found(lines: &[String]) -> Option<Ipv4Addr> {
        of_table(&format!("{HEADS}{}", lines.concat()))
    }

    #[test]
    fn the_default_route_with_the_least_metric_tells_the_router() {
        let network = line([192, 168, 1, 0], [0; 4], 1, 0, [255, 255, 255, 0]);
        let host = line([0; 4], [192, 168, 1, 9], 7, 0, [255; 4]);
        let [wifi, cable] = [([192, 168, 2, 1], 600), ([192, 168, 1, 1], 100)]
            .map(|(router, metric)| default(router, 3, metric));
        let lines = [network, host, wifi, cable];
        assert_eq!(found(&lines), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(found(&lines[..2]), None, "no default route");
    }

    #[test]
    fn routes_that_lead_to_no_router_do_not_count() {
        for odd in [
            default([0; 4], 1, 0),
            default([192, 168, 1, 1], 2, 0),
            default([192, 168, 1, 1], 0x203, 0),
            default([0; 4], 3, 0),
            default([224, 0, 0, 1], 3, 0),
            default([255; 4], 3, 0),
        ] {
            let good = default([10, 0, 0, 1], 3, u32::MAX);
            assert_eq!(found(&[odd.clone(), good]), Some(Ipv4Addr::new(10, 0, 0, 1)), "{odd}");
            assert_eq!(found(std::slice::from_ref(&odd)), None, "{odd}");
        }
    }

    #[test]
    fn a_table_that_is_none_tells_no_router() {
        let good = default([10, 0, 0, 1], 3, 0);
        assert_eq!(of_table(&good), None, "the first line is the heads");
        for end in 0..good.len() - "0\t0\t0 \n".len() - 9 {
            assert_eq!(found(&[good[..end].to_owned()]), None, "{:?}", &good[..end]);
        }
        for odd in [
            "",
            "\n\n\n",
            "eth0\t-1\t0100000A\t3\t0\t0\t0\t0\n",
            "eth0\t0\t1FFFFFFFF\t3\t0\t0\t0\t0\n",
            "eth0\t0\tzz\t3\t0\t0\t0\t0\n",
            "eth0\t0\t0100000A\t3\t0\t0\t-1\t0\n",
            "eth0\t0\t0100000A\t\u{663}\t0\t0\t0\t0\n",
        ] {
            assert_eq!(found(&[odd.to_owned()]), None, "{odd:?}");
        }
    }
}
