//! The network: a public part, and sides that are joined to it through NAT boxes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::counters::{self, Flow, Place};
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::nat::{INNER, NatKind, OUTER};

/// Addresses of the public network's services, all in `wan`: two for the rendezvous and its two STUN
/// servers, and one from which nobody asks and nobody is asked.
pub(crate) const SERVICES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2), Ipv4Addr::new(198, 18, 0, 3)];
/// Most sides of a laboratory: the third byte of their addresses counts them by tens.
const SIDES_MAX: usize = 20;

/// A network in namespaces of its own. Dropping it removes them.
#[derive(Debug)]
pub struct Lab {
    pub(crate) wan: Namespace,
    sides: Vec<Side>,
}

/// A host and the NAT box before it.
#[derive(Debug)]
pub struct Side {
    kind: NatKind,
    nat_box: Namespace,
    pub(crate) host: Namespace,
    network: Network,
}

/// The addresses of a side.
#[derive(Debug, Clone, Copy)]
struct Network {
    /// The provider's end of the link to the NAT box.
    provider: Ipv4Addr,
    /// The NAT box's end.
    outside: Ipv4Addr,
    /// The NAT box's address toward the host.
    gateway: Ipv4Addr,
    host: Ipv4Addr,
}

impl Network {
    /// Side `index` has the link network 198.18.10.0/24, 198.18.20.0/24 and so on. Behind each NAT is
    /// the same private network, as in so many homes; without NAT there is a public one.
    fn of_side(index: usize, kind: NatKind) -> Self {
        let tens = u8::try_from(10 * (index + 1)).unwrap_or(u8::MAX);
        let inside = |last| match kind {
            NatKind::None => Ipv4Addr::new(198, 19, tens, last),
            NatKind::PortPreserving | NatKind::Symmetric => Ipv4Addr::new(192, 168, 1, last),
        };
        Self {
            provider: Ipv4Addr::new(198, 18, tens, 254),
            outside: Ipv4Addr::new(198, 18, tens, 1),
            gateway: inside(1),
            host: inside(100),
        }
    }
}

impl Lab {
    /// Builds a network with a side for each of `kinds`.
    ///
    /// # Errors
    /// The system does not permit it, or a tool is missing.
    ///
    /// # Panics
    /// More than 20 sides.
    pub fn build(kinds: &[NatKind]) -> Result<Self, LabError> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        assert!(kinds.len() <= SIDES_MAX, "at most {SIDES_MAX} sides");
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let wan = Namespace::new(number, "wan")?;
        wan.ip(&SERVICES.map(|ip| format!("address add {ip}/32 dev lo")))?;
        wan.set_parameter("net/ipv4/ip_forward", 1)?;
        let mut sides = Vec::new();
        for (index, &kind) in kinds.iter().enumerate() {
            sides.push(Side::build(number, index, kind, &wan)?);
        }
        Ok(Self { wan, sides })
    }

    /// One of the sides, in the order in which they were asked for.
    ///
    /// # Panics
    /// There is no such side.
    #[must_use]
    pub fn side(&self, index: usize) -> &Side {
        &self.sides[index]
    }

    /// All sides.
    #[must_use]
    pub fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// Checks that each NAT is what its kind claims.
    ///
    /// # Errors
    /// One is not, or could not be asked.
    pub fn check_nats(&self) -> Result<(), LabError> {
        for (index, side) in self.sides.iter().enumerate() {
            self.observe(index)?.check(index, side.kind)?;
        }
        Ok(())
    }
}

impl Side {
    fn build(lab: u32, index: usize, kind: NatKind, wan: &Namespace) -> Result<Self, LabError> {
        let nat_box = Namespace::new(lab, &format!("nat{index}"))?;
        let host = Namespace::new(lab, &format!("host{index}"))?;
        let network = Network::of_side(index, kind);
        let Network { provider, outside, gateway, host: address } = network;
        // The rules are there before the first packet.
        nat_box.load_rules(&kind.rules())?;
        host.load_rules(&counters::host_rules())?;
        nat_box.set_parameter("net/ipv4/ip_forward", 1)?;
        let link = format!("side{index}");
        let mut public = vec![
            format!("link add {link} type veth peer name {OUTER} netns {}", nat_box.name()),
            format!("address add {provider}/24 dev {link}"),
            format!("link set {link} up"),
        ];
        if kind == NatKind::None {
            public.push(format!("route add {address}/32 via {outside} onlink dev {link}"));
        }
        wan.ip(&public)?;
        nat_box.ip(&[
            format!("link add {INNER} type veth peer name eth0 netns {}", host.name()),
            format!("address add {outside}/24 dev {OUTER}"),
            format!("address add {gateway}/24 dev {INNER}"),
            format!("link set {OUTER} up"),
            format!("link set {INNER} up"),
            format!("route add default via {provider}"),
        ])?;
        host.ip(&[
            format!("address add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {gateway}"),
        ])?;
        Ok(Self { kind, nat_box, host, network })
    }

    /// What stands before the host.
    #[must_use]
    pub fn kind(&self) -> NatKind {
        self.kind
    }

    /// The host's own address.
    #[must_use]
    pub fn host_ip(&self) -> Ipv4Addr {
        self.network.host
    }

    /// The address under which the public network sees the host.
    #[must_use]
    pub fn public_ip(&self) -> Ipv4Addr {
        if self.kind.claim().translates { self.network.outside } else { self.network.host }
    }

    /// UDP packets counted so far.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn flows(&self, place: Place) -> Result<Vec<Flow>, LabError> {
        let namespace = match place {
            Place::HostIn => &self.host,
            Place::BoxIn | Place::BoxOut => &self.nat_box,
        };
        counters::flows(namespace, place)
    }
}
