//! The boxes of a kind, in a row, translating by the simulator's model.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use holepunch_sim::nat::{Firewall, Nat};
use holepunch_sim::presets::{Layer, NatKind};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::packet::Datagram;
use super::{Dropped, Toward};

/// First octets of the addresses between boxes in a row: RFC 6598's, as carriers use them.
const BETWEEN: [u8; 2] = [100, 64];

/// One box of the row.
#[derive(Debug)]
enum Stage {
    // Boxed since it is far larger than the others.
    Nat(Box<Nat>),
    Firewall(Firewall),
    UdpBlocked,
}

/// All boxes between a host and the public network.
#[derive(Debug)]
pub(super) struct Layers {
    /// The innermost first.
    stages: Vec<Stage>,
}

impl Layers {
    /// `outside` is the address of the outermost NAT.
    pub(super) fn new(kind: NatKind, outside: Ipv4Addr, seed: u64) -> Self {
        let mut seeds = StdRng::seed_from_u64(seed);
        let layers = kind.layers().into_iter().enumerate();
        let mut stages: Vec<Stage> = layers
            .map(|(depth, layer)| match layer {
                Layer::Nat(config) => {
                    let external = external(depth, outside);
                    let rng = StdRng::from_rng(&mut seeds);
                    Stage::Nat(Box::new(Nat::new(config, IpAddr::V4(external), rng)))
                }
                Layer::Firewall(config) => Stage::Firewall(Firewall::new(config)),
                Layer::UdpBlocked => Stage::UdpBlocked,
            })
            .collect();
        stages.reverse();
        Self { stages }
    }

    /// Translates a packet, or drops it. The answer is where it goes: one that a box turns round goes
    /// back to where it came from.
    pub(super) fn pass(
        &mut self,
        toward: Toward,
        datagram: &mut Datagram<'_, '_>,
        now: Instant,
    ) -> Result<Toward, Dropped> {
        match toward {
            Toward::Outside => self.outward(datagram, now),
            Toward::Inside => {
                let all = self.stages.len();
                self.inward(all, datagram, now).map(|()| Toward::Inside)
            }
        }
    }

    fn outward(
        &mut self,
        datagram: &mut Datagram<'_, '_>,
        now: Instant,
    ) -> Result<Toward, Dropped> {
        for index in 0..self.stages.len() {
            let (from, to) = (datagram.source().into(), datagram.destination().into());
            match &mut self.stages[index] {
                Stage::Nat(nat) if SocketAddr::ip(&to) == nat.external() => {
                    let (source, receiver) = nat.hairpin(from, to, now)?;
                    datagram.set_source(v4(source)?);
                    datagram.set_destination(v4(receiver)?);
                    self.inward(index, datagram, now)?;
                    return Ok(Toward::Inside);
                }
                Stage::Nat(nat) => {
                    let source = nat.outbound(from, to, now)?;
                    datagram.set_source(v4(source)?);
                }
                Stage::Firewall(firewall) => firewall.outbound(from, to, now)?,
                Stage::UdpBlocked => return Err(Dropped::Blocked),
            }
        }
        Ok(Toward::Outside)
    }

    /// Through the innermost `count` boxes.
    fn inward(
        &mut self,
        count: usize,
        datagram: &mut Datagram<'_, '_>,
        now: Instant,
    ) -> Result<(), Dropped> {
        for stage in self.stages[..count].iter_mut().rev() {
            let (from, to) = (datagram.source().into(), datagram.destination().into());
            match stage {
                Stage::Nat(nat) => {
                    let receiver = nat.inbound(from, to, now)?;
                    datagram.set_destination(v4(receiver)?);
                }
                Stage::Firewall(firewall) => firewall.inbound(from, to, now)?,
                Stage::UdpBlocked => return Err(Dropped::Blocked),
            }
        }
        Ok(())
    }
}

fn external(depth: usize, outside: Ipv4Addr) -> Ipv4Addr {
    match u8::try_from(depth) {
        Ok(0) | Err(_) => outside,
        Ok(depth) => Ipv4Addr::new(BETWEEN[0], BETWEEN[1], depth, 1),
    }
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4, Dropped> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(Dropped::NotIpv4),
    }
}
