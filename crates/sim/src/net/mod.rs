//! The network: a core internet, boxes, hosts, and the queue of what is under way.
//!
//! ## Topology
//! A *segment* is a network without inner structure: the core, or a LAN behind a box. Hosts and the
//! outer sides of boxes are attached to segments, each by an *access* link of its own. A box has one
//! outer segment and one inner. So two NATs in a row are a box behind a box, and a carrier's NAT is
//! one box whose inner segment has several others attached. A server is a host on the core.
//!
//! A packet climbs from its host's segment until one knows its destination, each box on the way
//! translating or filtering it, and then goes down. Each box sees it when it gets there, not when it
//! was sent: which side opens its NAT first is as in reality.
//!
//! ## TTL
//! Each box takes 1 before it translates outward and after it translates inward, as Linux does;
//! accesses and the core take as many as they have `hops`. Who has none left is dropped in silence.
//!
//! ## Driving it
//! [`send`](Network::send) and [`handle_timeout`](Network::handle_timeout), then
//! [`poll_delivery`](Network::poll_delivery) until it is empty; [`poll_timeout`](Network::poll_timeout)
//! says when to come again. One seed makes one history. Ids belong to the network that gave them;
//! with those of another, its methods panic or name something else.

mod access;
mod forward;
mod middlebox;
mod topology;
mod traffic;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use access::{ACCESS_DELAY, ACCESS_HOPS, Access, AccessConfig};
pub use middlebox::{BoxConfig, Middlebox};
pub use traffic::{LossReason, Traffic};

use crate::nat::{Firewall, Nat};
use forward::Event;
use topology::{Attachment, BoxNode, HostNode, Segment};

/// Routers of the core between any two accesses.
pub const CORE_HOPS: u8 = 4;
/// How long a packet takes from one attachment of a LAN to another.
pub const LAN_DELAY: Duration = Duration::from_micros(500);
/// The TTL of a packet whose sender does not care.
pub const TTL_DEFAULT: u8 = 64;
/// Most packets under way; a simulation that has more has run away.
pub const IN_FLIGHT_MAX: usize = 1 << 20;

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(usize);

/// A NAT, a firewall or a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoxId(usize);

/// The core, or a LAN behind a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(usize);

impl SegmentId {
    /// The internet that everything is attached to in the end.
    pub const CORE: Self = Self(0);
}

/// A UDP datagram that a host sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// An address of the host, and the local port.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// How many routers it may pass, and one more.
    pub ttl: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A UDP datagram that has reached a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The host.
    pub host: HostId,
    /// An address of the host, and the local port.
    pub to: SocketAddr,
    /// The source that the host sees.
    pub from: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
    /// When it arrived.
    pub at: Instant,
}

/// The simulated network.
#[derive(Debug)]
pub struct Network {
    rng: StdRng,
    core_delay: Duration,
    core_hops: u8,
    segments: Vec<Segment>,
    boxes: Vec<BoxNode>,
    hosts: Vec<HostNode>,
    /// Who has, or leads to, an address in a segment.
    routes: BTreeMap<(SegmentId, IpAddr), Attachment>,
    events: BTreeMap<(Instant, u64), Event>,
    /// Number of the next event: those of one moment happen in the order in which they were made.
    next_event: u64,
    deliveries: VecDeque<Delivery>,
    traffic: Traffic,
}

impl Network {
    /// A core with nothing attached.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            core_delay: Duration::ZERO,
            core_hops: CORE_HOPS,
            segments: vec![Segment { parent: None }],
            boxes: Vec::new(),
            hosts: Vec::new(),
            routes: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            deliveries: VecDeque::new(),
            traffic: Traffic::default(),
        }
    }

    /// Sets how long the core takes between any two accesses, and how many routers it has there.
    pub fn set_core(&mut self, delay: Duration, hops: u8) {
        (self.core_delay, self.core_hops) = (delay, hops);
    }

    /// Sends a datagram from a host.
    pub fn send(&mut self, host: HostId, datagram: Datagram, now: Instant) {
        self.traffic.sent += 1;
        self.send_from(host, datagram, now);
    }

    /// When the next packet gets somewhere.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves every packet as far as it gets by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), event) = entry.remove_entry();
            self.handle_event(event, at);
        }
    }

    /// The next datagram that has reached a host.
    pub fn poll_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }

    /// What was sent, delivered and lost so far.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The NAT of a box for IPv4, where it has one.
    #[must_use]
    pub fn nat(&self, id: BoxId) -> Option<&Nat> {
        self.boxes[id.0].ipv4.nat()
    }

    /// The firewall of a box for IPv4, where it has one.
    #[must_use]
    pub fn firewall(&self, id: BoxId) -> Option<&Firewall> {
        self.boxes[id.0].ipv4.firewall()
    }

    /// Makes a box forget everything; NATs go on at other ports.
    pub fn rebind(&mut self, id: BoxId) {
        let node = &mut self.boxes[id.0];
        node.ipv4.rebind();
        node.ipv6.rebind();
    }

    /// Lets a box drop all UDP, or no longer.
    pub fn set_udp_blocked(&mut self, id: BoxId, blocked: bool) {
        self.boxes[id.0].udp_blocked = blocked;
    }

    /// The link between a box and its outer segment.
    pub fn box_access_mut(&mut self, id: BoxId) -> &mut Access {
        &mut self.boxes[id.0].access
    }

    /// The link between a host and its segment.
    pub fn host_access_mut(&mut self, id: HostId) -> &mut Access {
        &mut self.hosts[id.0].access
    }

    /// The addresses of a host.
    #[must_use]
    pub fn addresses(&self, id: HostId) -> &[IpAddr] {
        &self.hosts[id.0].addresses
    }

    fn fork_rng(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.rng.random())
    }
}
