//! Hosts behind the boxes of a kind, put into a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Layer, NatKind};
use crate::nat::{Filtering, FirewallConfig, Mapping, NatConfig};
use crate::net::{AccessConfig, BoxConfig, BoxId, HostId, Middlebox, Network, SegmentId};

/// A box between those of the kind and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// A router that translates nothing.
    Router,
    /// A home router's NAT.
    Nat,
}

/// A host to put into a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteSpec {
    /// What stands between it and the core.
    pub kind: NatKind,
    /// What stands between these boxes and the host, the outermost first.
    pub inner: [Option<Inner>; 2],
    /// The link between its outermost box, or itself, and the core.
    pub access: AccessConfig,
    /// Whether it has an IPv6 address, too, behind a stateful firewall where there is a box.
    pub ipv6: bool,
}

impl SiteSpec {
    /// A host of this kind with the usual access of a home, IPv4 only.
    #[must_use]
    pub fn new(kind: NatKind) -> Self {
        Self { kind, inner: [None; 2], access: AccessConfig::home(), ipv6: false }
    }
}

/// A host in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The host.
    pub host: HostId,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The boxes above it, the outermost first.
    pub boxes: Vec<BoxId>,
    /// Where it is attached.
    pub segment: SegmentId,
}

/// Puts a host into a network. What stands before the boxes of its kind needs one of these. Each has its number there, from which its addresses come:
/// 198.18.0.0/15 on the core, 2001:db8::/32, 192.168.1.0/24 on every LAN.
///
/// # Panics
/// The number is taken.
pub fn place(net: &mut Network, spec: SiteSpec, number: u16) -> Site {
    let mut boxes = add_boxes(net, SegmentId::CORE, &spec.kind.layers(), spec.access, number);
    for inner in spec.inner.into_iter().flatten() {
        let outer = boxes.last().map_or(SegmentId::CORE, |id| net.inside(*id));
        let config = match inner {
            Inner::Router => {
                let (ipv4, ipv6) = (Middlebox::Router, Middlebox::Router);
                BoxConfig { ipv4, ipv6, udp_blocked: false }
            }
            Inner::Nat => {
                let answers_only = Filtering::AddressAndPortDependent;
                let config = NatConfig::new(Mapping::EndpointIndependent, answers_only);
                BoxConfig::nat(config, inner_address(number).into())
            }
        };
        boxes.push(net.add_box(outer, config, AccessConfig::direct()));
    }
    settle(net, spec, boxes, number)
}

/// Puts two hosts into a network, with the numbers 1 and 2. Two of the kind `carrier` share the
/// carrier's NAT, two of the kind `same-lan` their LAN.
///
/// # Panics
/// One of the numbers is taken.
pub fn place_pair(net: &mut Network, a: SiteSpec, b: SiteSpec) -> [Site; 2] {
    let first = place(net, a, 1);
    let shared = match (a.kind, b.kind) {
        (NatKind::SameLan, NatKind::SameLan) => first.boxes.len(),
        (NatKind::Carrier, NatKind::Carrier) => 1,
        _ => return [first, place(net, b, 2)],
    };
    let mut boxes = first.boxes[..shared].to_vec();
    let segment = boxes.last().map_or(SegmentId::CORE, |id| net.inside(*id));
    let layers = b.kind.layers();
    boxes.extend(add_boxes(net, segment, &layers[shared..], AccessConfig::direct(), 2));
    let second = settle(net, b, boxes, 2);
    [first, second]
}

/// Adds a chain of boxes below a segment, the outermost first.
fn add_boxes(
    net: &mut Network,
    below: SegmentId,
    layers: &[Layer],
    access: AccessConfig,
    number: u16,
) -> Vec<BoxId> {
    let mut boxes = Vec::new();
    let mut segment = below;
    for layer in layers {
        let is_outermost = segment == SegmentId::CORE;
        let external = if is_outermost { public_address(number) } else { inner_address(number) };
        let access = if boxes.is_empty() { access } else { AccessConfig::direct() };
        let id = net.add_box(segment, box_config(layer, external.into()), access);
        segment = net.inside(id);
        boxes.push(id);
    }
    boxes
}

fn box_config(layer: &Layer, external: IpAddr) -> BoxConfig {
    match layer {
        Layer::Nat(config) => BoxConfig::nat(config.clone(), external),
        Layer::Firewall(config) => BoxConfig::firewall(config.clone()),
        Layer::UdpBlocked => {
            let config =
                NatConfig::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
            BoxConfig {
                ipv4: Middlebox::Nat { config, external },
                ipv6: Middlebox::Firewall(FirewallConfig::default()),
                udp_blocked: true,
            }
        }
    }
}

fn settle(net: &mut Network, spec: SiteSpec, boxes: Vec<BoxId>, number: u16) -> Site {
    let is_translated = boxes.iter().any(|id| net.nat(*id).is_some());
    let ipv4 = if is_translated { lan_address(number) } else { public_address(number) };
    let ipv6 = spec.ipv6.then(|| Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 2));
    let segment = boxes.last().map_or(SegmentId::CORE, |id| net.inside(*id));
    let access = if boxes.is_empty() { spec.access } else { AccessConfig::direct() };
    let addresses: Vec<IpAddr> =
        std::iter::once(IpAddr::from(ipv4)).chain(ipv6.map(IpAddr::from)).collect();
    let host = net.add_host(segment, &addresses, access);
    Site { host, ipv4, ipv6, boxes, segment }
}

fn public_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

/// Between two boxes: the range that carriers use for it (RFC 6598).
fn inner_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(100, 64, high, low)
}

/// On a LAN, where the numbers of hosts start at 2, after the router's.
fn lan_address(number: u16) -> Ipv4Addr {
    let [_, low] = number.to_be_bytes();
    Ipv4Addr::new(192, 168, 1, low.saturating_add(1))
}
