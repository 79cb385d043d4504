//! An access line and the way beyond it, by the simulator's model of a link.

use std::time::Instant;

use holepunch_sim::link::{Link, LinkConfig, Loss};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::packet::Packet;
use super::{Dropped, Toward};
use crate::conditions::Conditions;

/// A line with the same conditions in both directions.
#[derive(Debug)]
pub(super) struct Line {
    /// Inward and outward.
    links: [Link; 2],
    /// Likewise, for all that is not UDP.
    signalling: [Link; 2],
    hops: u8,
    rng: StdRng,
}

impl Line {
    pub(super) fn new(conditions: Conditions, seed: u64) -> Self {
        let Conditions { delay, jitter, signalling, loss, hops } = conditions;
        let loss = if loss > 0.0 { Loss::Random(loss) } else { Loss::None };
        let config = LinkConfig::with_delay(delay).with_jitter(jitter).with_loss(loss);
        let for_signalling = LinkConfig::with_delay(delay + signalling);
        Self {
            links: [config; 2].map(Link::new),
            signalling: [for_signalling; 2].map(Link::new),
            hops,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// When a packet arrives, if it does.
    pub(super) fn pass(
        &mut self,
        toward: Toward,
        packet: &mut Packet<'_>,
        now: Instant,
    ) -> Result<Instant, Dropped> {
        if !packet.take_hops(self.hops) {
            return Err(Dropped::TimeToLive);
        }
        let links = if packet.is_udp() { &mut self.links } else { &mut self.signalling };
        let link = match toward {
            Toward::Inside => &mut links[0],
            Toward::Outside => &mut links[1],
        };
        link.carry(packet.bytes().len(), now, &mut self.rng).ok_or(Dropped::Lost)
    }
}
