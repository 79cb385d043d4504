//! The network: a public part, and sides that are joined to it through NAT boxes.

use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::conditions::Conditions;
use crate::counters::{self, Flow, Place};
use crate::divert;
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::nat::{INNER, NatKind, OUTER};
use crate::nat64;
use crate::process::Process;
use crate::rules;

/// Addresses of the public network's services, all in `wan`: two for the rendezvous and its two STUN
/// servers, and one from which nobody asks and nobody is asked.
pub(crate) const SERVICES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2), Ipv4Addr::new(198, 18, 0, 3)];
/// How many further addresses the public network has, from 198.18.1.1 on, for the prober to ask.
pub(crate) const CROWD: u8 = 40;
/// Most sides of a laboratory: the third byte of their addresses counts them by tens.
pub const SIDES_MAX: usize = 25;

/// A network in namespaces of its own. Dropping it removes them.
#[derive(Debug)]
pub struct Lab {
    // Programs end before the namespaces that they run in.
    sides: Vec<Side>,
    pub(crate) wan: Namespace,
}

/// A host and the NAT box before it.
#[derive(Debug)]
pub struct Side {
    kind: NatKind,
    conditions: Conditions,
    /// The line to the public network, where it is not ideal.
    line: Option<Process>,
    /// The simulated NAT.
    nat: Option<Process>,
    /// The service that opens ports on request, or that of NAT64.
    service: Option<Process>,
    pub(crate) nat_box: Namespace,
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

/// The address of a member of the crowd, of which there are [`CROWD`].
pub(crate) fn crowd() -> impl Iterator<Item = Ipv4Addr> {
    (1..=CROWD).map(|last| Ipv4Addr::new(198, 18, 1, last))
}

fn all_services() -> impl Iterator<Item = Ipv4Addr> {
    SERVICES.into_iter().chain(crowd())
}

impl Network {
    /// Side `index` has the link network 198.18.10.0/24, 198.18.20.0/24 and so on. Behind each NAT is
    /// the same private network, as in so many homes; without NAT there is a public one.
    fn of_side(index: usize, kind: NatKind) -> Self {
        let tens = u8::try_from(10 * (index + 1)).unwrap_or(u8::MAX);
        let inside = |last| {
            if kind.translates() {
                Ipv4Addr::new(192, 168, 1, last)
            } else {
                Ipv4Addr::new(198, 19, tens, last)
            }
        };
        // A service that opens ports refuses to do so at addresses that are reserved, as those of
        // 198.18.0.0/15 are.
        let has_service = matches!(kind, NatKind::SymmetricWith(_));
        let [first, second] = if has_service { [192, 0] } else { [198, 18] };
        let link = |last| Ipv4Addr::new(first, second, tens, last);
        Self { provider: link(254), outside: link(1), gateway: inside(1), host: inside(100) }
    }
}

impl Lab {
    /// Builds a network with a side for each of `kinds`, on ideal lines.
    ///
    /// # Errors
    /// The system does not permit it, or a tool is missing.
    ///
    /// # Panics
    /// More than 25 sides.
    pub fn build(kinds: &[NatKind]) -> Result<Self, LabError> {
        let sides: Vec<_> = kinds.iter().map(|kind| (*kind, Conditions::IDEAL)).collect();
        Self::build_on(&sides)
    }

    /// Builds a network with sides of these kinds, on lines with these conditions.
    ///
    /// # Errors
    /// The system does not permit it, or a tool is missing.
    ///
    /// # Panics
    /// More than 25 sides.
    pub fn build_on(specs: &[(NatKind, Conditions)]) -> Result<Self, LabError> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        assert!(specs.len() <= SIDES_MAX, "at most {SIDES_MAX} sides");
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let wan = Namespace::new(number, "wan")?;
        wan.set_parameter("net/ipv4/ip_forward", 1)?;
        let mut addresses: Vec<String> =
            all_services().map(|ip| format!("address add {ip}/32 dev lo")).collect();
        if specs.iter().any(|(_, conditions)| !conditions.is_ideal()) {
            divert::prepare(&wan)?;
            addresses.extend(divert::own_addresses_last());
        }
        wan.ip(&addresses)?;
        let mut sides = Vec::new();
        for (index, &(kind, conditions)) in specs.iter().enumerate() {
            sides.push(Side::build(number, index, kind, conditions, &wan)?);
        }
        Ok(Self { sides, wan })
    }

    /// Gives all programs that are started from now on a file in `/run`. One called `hosts` is their `/etc/hosts`.
    pub fn give(&mut self, name: &str, text: &str) {
        let sides = self.sides.iter_mut().flat_map(|side| [&mut side.nat_box, &mut side.host]);
        for namespace in sides.chain([&mut self.wan]) {
            namespace.give(name, text);
        }
    }

    /// Gives the public network one more address.
    ///
    /// # Errors
    /// That is not possible.
    pub fn add_public_address(&self, address: Ipv4Addr) -> Result<(), LabError> {
        self.wan.ip(&[format!("address add {address}/32 dev lo")])
    }

    /// Has a NAT box let nothing through, neither way: what is to get out takes a program in the box.
    ///
    /// # Errors
    /// The rules cannot be loaded.
    ///
    /// # Panics
    /// There is no such side.
    pub fn shut_box(&self, side: usize) -> Result<(), LabError> {
        self.sides[side].nat_box.load_rules(rules::SHUT)
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

    /// Checks that each NAT and each line is what it claims; then the simulated NATs begin anew, with
    /// empty tables.
    ///
    /// # Errors
    /// One is not, or could not be asked.
    pub fn check_nats(&mut self) -> Result<(), LabError> {
        for (index, observed) in self.observe_all()?.into_iter().enumerate() {
            let Side { kind, conditions, .. } = self.sides[index];
            observed.check(index, kind, conditions)?;
        }
        self.sides.iter_mut().try_for_each(Side::start_nat)
    }
}

impl Side {
    fn build(
        lab: u32,
        index: usize,
        kind: NatKind,
        conditions: Conditions,
        wan: &Namespace,
    ) -> Result<Self, LabError> {
        let nat_box = Namespace::new(lab, &format!("nat{index}"))?;
        let host = Namespace::new(lab, &format!("host{index}"))?;
        let network = Network::of_side(index, kind);
        // The rules are there before the first packet.
        nat_box.load_rules(&rules::of_box(kind))?;
        host.load_rules(&counters::host_rules())?;
        let (line, nat, service) = (None, None, None);
        let mut side = Self { kind, conditions, line, nat, service, nat_box, host, network };
        side.join(index, wan)?;
        if !conditions.is_ideal() {
            wan.ip(&divert::through_line(index, &link(index), side.public_ip()))?;
            side.line = Some(divert::start_line(wan, index, conditions, fresh_seed())?);
        }
        side.start_nat()?;
        if let NatKind::SymmetricWith(service) = kind {
            side.service = Some(service.start(&side.nat_box, network.gateway)?);
        }
        if kind == NatKind::Nat64 {
            side.service = Some(nat64::start(&side.nat_box, &side.host)?);
        }
        Ok(side)
    }

    /// Joins the public network, the box and the host.
    fn join(&self, index: usize, wan: &Namespace) -> Result<(), LabError> {
        let Network { provider, outside, gateway, host: address } = self.network;
        let Self { nat_box, host, .. } = self;
        nat_box.set_parameter("net/ipv4/ip_forward", 1)?;
        let link = link(index);
        let mut public = vec![
            format!("link add {link} type veth peer name {OUTER} netns {}", nat_box.name()),
            format!("address add {provider}/24 dev {link}"),
            format!("link set {link} up"),
        ];
        if !self.kind.translates() {
            public.push(format!("route add {address}/32 via {outside} onlink dev {link}"));
        }
        wan.ip(&public)?;
        let mut lines = vec![
            format!("link add {INNER} type veth peer name eth0 netns {}", host.name()),
            format!("address add {outside}/24 dev {OUTER}"),
            format!("address add {gateway}/24 dev {INNER}"),
            format!("link set {OUTER} up"),
            format!("link set {INNER} up"),
            format!("route add default via {provider}"),
        ];
        if matches!(self.kind, NatKind::Simulated(_)) {
            divert::prepare(nat_box)?;
            lines.extend(divert::through_nat(gateway));
        }
        nat_box.ip(&lines)?;
        if self.kind == NatKind::Nat64 {
            return Ok(());
        }
        host.ip(&[
            format!("address add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {gateway}"),
        ])
    }

    /// Starts the NAT where it is a simulated one, in the place of one that runs already.
    fn start_nat(&mut self) -> Result<(), LabError> {
        if let NatKind::Simulated(kind) = self.kind {
            // The devices are free once the old one has ended.
            self.nat = None;
            let outside = self.network.outside;
            self.nat = Some(divert::start_nat(&self.nat_box, kind, outside, fresh_seed())?);
        }
        Ok(())
    }

    /// The last lines of the routers of this side, for people.
    pub(crate) fn tails(&self) -> String {
        let routers = self.nat.iter().chain(&self.line).chain(&self.service);
        routers.map(Process::tail).collect()
    }

    /// Waits until the service that opens ports has said this.
    ///
    /// # Errors
    /// It does not within that time, or there is none.
    pub fn service_says(&self, what: &str, within: Duration) -> Result<(), LabError> {
        let missing = || LabError::output("a kind of NAT", "no service that opens ports");
        let service = self.service.as_ref().ok_or_else(missing)?;
        service.wait_for(what, within, |lines| {
            lines.iter().any(|line| line.text().contains(what)).then_some(())
        })
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

    /// The address of the NAT box toward the host.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.network.gateway
    }

    /// The address under which the public network sees the host.
    #[must_use]
    pub fn public_ip(&self) -> Ipv4Addr {
        if self.kind.translates() { self.network.outside } else { self.network.host }
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

/// The end of the link to side `index` in the public network.
fn link(index: usize) -> String {
    format!("side{index}")
}

/// A seed for a simulated NAT or line. It is in the program's name, so that errors show it.
pub(crate) fn fresh_seed() -> u64 {
    RandomState::new().hash_one(0)
}
