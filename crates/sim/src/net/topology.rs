//! Segments, boxes and hosts, and who leads to which address.

use std::net::IpAddr;

use super::access::{Access, AccessConfig};
use super::middlebox::Engine;
use super::{BoxConfig, BoxId, HostId, Network, SegmentId};

#[derive(Debug)]
pub(super) struct Segment {
    /// The box whose inside this is; none for the core.
    pub(super) parent: Option<BoxId>,
}

#[derive(Debug)]
pub(super) struct BoxNode {
    pub(super) outer: SegmentId,
    pub(super) inner: SegmentId,
    pub(super) ipv4: Engine,
    pub(super) ipv6: Engine,
    pub(super) udp_blocked: bool,
    pub(super) access: Access,
}

impl BoxNode {
    pub(super) fn engine(&self, ip: IpAddr) -> &Engine {
        if ip.is_ipv4() { &self.ipv4 } else { &self.ipv6 }
    }

    pub(super) fn engine_mut(&mut self, ip: IpAddr) -> &mut Engine {
        if ip.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 }
    }
}

#[derive(Debug)]
pub(super) struct HostNode {
    pub(super) segment: SegmentId,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) access: Access,
}

/// What is attached to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attachment {
    Host(HostId),
    /// By its outer side.
    Box(BoxId),
}

impl Network {
    /// Attaches a box to a segment.
    ///
    /// # Panics
    /// Its external address is taken in that segment.
    pub fn add_box(&mut self, outer: SegmentId, config: BoxConfig, access: AccessConfig) -> BoxId {
        let id = BoxId(self.boxes.len());
        let inner = SegmentId(self.segments.len());
        self.segments.push(Segment { parent: Some(id) });
        let node = BoxNode {
            outer,
            inner,
            ipv4: Engine::new(config.ipv4, self.fork_rng()),
            ipv6: Engine::new(config.ipv6, self.fork_rng()),
            udp_blocked: config.udp_blocked,
            access: Access::new(access),
        };
        let externals =
            [&node.ipv4, &node.ipv6].map(|engine| engine.nat().map(|nat| nat.external()));
        self.boxes.push(node);
        for external in externals.into_iter().flatten() {
            self.announce(outer, external, Attachment::Box(id));
        }
        id
    }

    /// The segment inside a box.
    #[must_use]
    pub fn inside(&self, id: BoxId) -> SegmentId {
        self.boxes[id.0].inner
    }

    /// Attaches a host with these addresses to a segment.
    ///
    /// # Panics
    /// One of the addresses is taken.
    pub fn add_host(
        &mut self,
        segment: SegmentId,
        addresses: &[IpAddr],
        access: AccessConfig,
    ) -> HostId {
        let id = HostId(self.hosts.len());
        let access = Access::new(access);
        self.hosts.push(HostNode { segment, addresses: addresses.to_vec(), access });
        for ip in addresses {
            self.announce(segment, *ip, Attachment::Host(id));
        }
        id
    }

    /// Attaches a server: a host on the core without delay.
    ///
    /// # Panics
    /// One of the addresses is taken.
    pub fn add_server(&mut self, addresses: &[IpAddr]) -> HostId {
        self.add_host(SegmentId::CORE, addresses, AccessConfig::direct())
    }

    /// Moves a host to another segment, or gives it other addresses. What is on its way to its old
    /// addresses is lost.
    ///
    /// # Panics
    /// One of the addresses is taken.
    pub fn move_host(&mut self, id: HostId, segment: SegmentId, addresses: &[IpAddr]) {
        let node = &mut self.hosts[id.0];
        let old_segment = std::mem::replace(&mut node.segment, segment);
        let old_addresses = std::mem::replace(&mut node.addresses, addresses.to_vec());
        for ip in old_addresses {
            self.withdraw(old_segment, ip);
        }
        for ip in addresses {
            self.announce(segment, *ip, Attachment::Host(id));
        }
    }

    /// Makes an address known in its segment, and outside as far as nothing translates.
    fn announce(&mut self, segment: SegmentId, ip: IpAddr, attachment: Attachment) {
        let (mut segment, mut attachment) = (segment, attachment);
        loop {
            let taken = self.routes.insert((segment, ip), attachment);
            assert!(taken.is_none(), "{ip} is taken by {taken:?}; each segment has it once");
            let Some((parent, outer)) = self.way_out(segment, ip) else { return };
            (segment, attachment) = (outer, Attachment::Box(parent));
        }
    }

    fn withdraw(&mut self, segment: SegmentId, ip: IpAddr) {
        let mut segment = segment;
        loop {
            self.routes.remove(&(segment, ip));
            let Some((_, outer)) = self.way_out(segment, ip) else { return };
            segment = outer;
        }
    }

    /// The box above a segment and its outer segment, where it leaves such addresses as they are.
    fn way_out(&self, segment: SegmentId, ip: IpAddr) -> Option<(BoxId, SegmentId)> {
        let parent = self.segments[segment.0].parent?;
        let node = &self.boxes[parent.0];
        node.engine(ip).nat().is_none().then_some((parent, node.outer))
    }
}
