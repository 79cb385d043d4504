//! Where clouds hand credentials to whoever asks from one of their machines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses outside the link-local ranges. The documents of the providers, and cloud-init's data sources, name them.
const ADDRESSES: [IpAddr; 8] = [
    // Alibaba Cloud: "View instance metadata".
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200)),
    // Azure: "What is IP address 168.63.129.16?" (the wire server, which has certificates and settings).
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle Cloud: the classic address, and the one of "Getting Instance Metadata" for IPv6.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    // Google Cloud: "About VM metadata".
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Scaleway and Akamai (Linode): cloud-init, data sources "Scaleway" and "Akamai".
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
];

/// Whether a cloud serves credentials there. Amazon keeps all of fd00:ec2::/32 for services of the machine itself
/// ("Instance metadata": ::254; "EKS Pod Identity": ::23).
pub(super) fn serves_credentials(ip: IpAddr) -> bool {
    let is_amazon = matches!(ip, IpAddr::V6(ip) if ip.segments()[..2] == [0xfd00, 0xec2]);
    is_amazon || ADDRESSES.contains(&ip)
}
