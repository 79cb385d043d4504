//! How a packet goes from one place to the next.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use holepunch_wire::address::AddressKind;

use super::middlebox::Outward;
use super::topology::Attachment;
use super::{
    BoxId, Datagram, Delivery, HostId, IN_FLIGHT_MAX, LAN_DELAY, LossReason, Network, SegmentId,
};

/// Bytes of the IP and UDP headers.
const HEADERS_V4: usize = 28;
const HEADERS_V6: usize = 48;

/// A packet gets somewhere.
#[derive(Debug)]
pub(super) enum Event {
    /// To a segment, where its way on is decided.
    Segment(SegmentId, Entered, Datagram),
    /// To a box, from inside.
    Inner(BoxId, Datagram),
    /// To a box, from outside.
    Outer(BoxId, Datagram),
    /// To a host.
    Host(HostId, Datagram),
}

/// Through what a packet has come into a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// From something attached to it.
    From(Attachment),
    /// From outside, through the box above.
    Above,
}

/// Takes `hops` from the TTL; false when it runs out.
fn pass(datagram: &mut Datagram, hops: u8) -> bool {
    let passes = datagram.ttl > hops;
    if passes {
        datagram.ttl -= hops;
    }
    passes
}

fn bytes(datagram: &Datagram) -> usize {
    datagram.payload.len() + if datagram.to.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 }
}

/// Whether two private addresses are in one subnet by their prefix, so that a packet between them
/// never takes the way out, even where nobody answers.
fn on_link(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.is_private() && a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            AddressKind::of(a.into()).is_local() && a.segments()[..4] == b.segments()[..4]
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

impl Network {
    pub(super) fn send_from(&mut self, host: HostId, datagram: Datagram, now: Instant) {
        let addresses = &self.hosts[host.0].addresses;
        if !addresses.contains(&datagram.from.ip()) {
            return self.lose(LossReason::WrongSource);
        }
        if datagram.from.is_ipv4() != datagram.to.is_ipv4() {
            return self.lose(LossReason::Unroutable);
        }
        if addresses.contains(&datagram.to.ip()) {
            return self.at(now, Event::Host(host, datagram));
        }
        self.depart(Attachment::Host(host), datagram, now);
    }

    pub(super) fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Segment(segment, entered, datagram) => {
                self.route(segment, entered, datagram, now);
            }
            Event::Inner(id, datagram) => self.go_out(id, datagram, now),
            Event::Outer(id, datagram) => self.go_in(id, datagram, now),
            Event::Host(id, datagram) => self.deliver(id, datagram, now),
        }
    }

    /// Onto the segment that something is attached to.
    fn depart(&mut self, from: Attachment, mut datagram: Datagram, now: Instant) {
        let (access, segment) = match from {
            Attachment::Host(id) => {
                let node = &mut self.hosts[id.0];
                (&mut node.access, node.segment)
            }
            Attachment::Box(id) => {
                let node = &mut self.boxes[id.0];
                (&mut node.access, node.outer)
            }
        };
        if !pass(&mut datagram, access.hops) {
            return self.lose(LossReason::Ttl);
        }
        match access.up.carry(bytes(&datagram), now, &mut self.rng) {
            Some(at) => self.at(at, Event::Segment(segment, Entered::From(from), datagram)),
            None => self.lose(LossReason::Link),
        }
    }

    /// From a segment to what is attached to it.
    fn arrive(&mut self, to: Attachment, mut datagram: Datagram, now: Instant) {
        let access = match to {
            Attachment::Host(id) => &mut self.hosts[id.0].access,
            Attachment::Box(id) => &mut self.boxes[id.0].access,
        };
        if !pass(&mut datagram, access.hops) {
            return self.lose(LossReason::Ttl);
        }
        match (access.down.carry(bytes(&datagram), now, &mut self.rng), to) {
            (Some(at), Attachment::Host(id)) => self.at(at, Event::Host(id, datagram)),
            (Some(at), Attachment::Box(id)) => self.at(at, Event::Outer(id, datagram)),
            (None, _) => self.lose(LossReason::Link),
        }
    }

    fn route(
        &mut self,
        segment: SegmentId,
        entered: Entered,
        mut datagram: Datagram,
        now: Instant,
    ) {
        let is_core = segment == SegmentId::CORE;
        if is_core && AddressKind::of(datagram.from.ip()).is_local() {
            return self.lose(LossReason::PrivateSource);
        }
        if let Some(to) = self.routes.get(&(segment, datagram.to.ip())).copied() {
            let delay = match entered {
                Entered::From(_) if is_core => self.core_delay,
                Entered::From(_) => LAN_DELAY,
                Entered::Above => std::time::Duration::ZERO,
            };
            if is_core && !pass(&mut datagram, self.core_hops) {
                return self.lose(LossReason::Ttl);
            }
            return self.arrive(to, datagram, now + delay);
        }
        let is_from_here = entered != Entered::Above;
        match self.segments[segment.0].parent {
            Some(above) if is_from_here && !on_link(datagram.from.ip(), datagram.to.ip()) => {
                self.at(now, Event::Inner(above, datagram));
            }
            _ => self.lose(LossReason::Unroutable),
        }
    }

    fn go_out(&mut self, id: BoxId, mut datagram: Datagram, now: Instant) {
        let node = &mut self.boxes[id.0];
        if node.udp_blocked {
            return self.lose(LossReason::UdpBlocked);
        }
        if !pass(&mut datagram, 1) {
            return self.lose(LossReason::Ttl);
        }
        let inner = node.inner;
        match node.engine_mut(datagram.to.ip()).outward(datagram.from, datagram.to, now) {
            Ok(Outward::Onward(from)) => {
                datagram.from = from;
                self.depart(Attachment::Box(id), datagram, now);
            }
            Ok(Outward::Turned(from, to)) => {
                (datagram.from, datagram.to) = (from, to);
                self.at(now + LAN_DELAY, Event::Segment(inner, Entered::Above, datagram));
            }
            Err(why) => self.lose(LossReason::Box(why)),
        }
    }

    fn go_in(&mut self, id: BoxId, mut datagram: Datagram, now: Instant) {
        let node = &mut self.boxes[id.0];
        if node.udp_blocked {
            return self.lose(LossReason::UdpBlocked);
        }
        let inner = node.inner;
        match node.engine_mut(datagram.to.ip()).inward(datagram.from, datagram.to, now) {
            Ok(to) => datagram.to = to,
            Err(why) => return self.lose(LossReason::Box(why)),
        }
        if !pass(&mut datagram, 1) {
            return self.lose(LossReason::Ttl);
        }
        self.route(inner, Entered::Above, datagram, now);
    }

    fn deliver(&mut self, host: HostId, datagram: Datagram, now: Instant) {
        let Datagram { from, to, payload, .. } = datagram;
        // The host may have moved meanwhile.
        if !self.hosts[host.0].addresses.contains(&to.ip()) {
            return self.lose(LossReason::Unroutable);
        }
        self.traffic.delivered += 1;
        self.deliveries.push_back(Delivery { host, to, from, payload, at: now });
    }

    fn at(&mut self, when: Instant, event: Event) {
        if self.events.len() >= IN_FLIGHT_MAX {
            return self.lose(LossReason::InFlight);
        }
        self.events.insert((when, self.next_event), event);
        self.next_event += 1;
    }

    fn lose(&mut self, reason: LossReason) {
        *self.traffic.lost.entry(reason).or_default() += 1;
    }
}

/// A source as a host sees it, for whoever wants to answer.
impl Delivery {
    /// The answer to this datagram, from where it arrived to where it came from.
    #[must_use]
    pub fn reply(&self, payload: Vec<u8>) -> Datagram {
        self.reply_from(self.to, payload)
    }

    /// An answer from another local endpoint of the host.
    #[must_use]
    pub fn reply_from(&self, from: SocketAddr, payload: Vec<u8>) -> Datagram {
        Datagram { from, to: self.from, ttl: super::TTL_DEFAULT, payload }
    }
}
