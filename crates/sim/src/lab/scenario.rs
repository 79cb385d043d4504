//! What two workers stand behind, and what happens to them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use holepunch_wire::nat::{NatProfile, SearchWish};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::outcome::{Outcome, Verdict};
use super::worker::Record;
use super::world::World;
use crate::link::Loss;
use crate::net::SegmentId;
use crate::presets::{NatKind, Site, SiteSpec, place, place_pair};

/// The second worker comes so much later than the first, or up to twice as much: the first has had
/// time to learn its profile.
const USUALLY_LATER: Duration = Duration::from_secs(3);
/// Packets of a burst of losses, on average.
const BURST_PACKETS: f64 = 4.0;
/// Share of packets that are overtaken, where there is jitter.
const REORDERED: f64 = 0.05;
/// A history that has shown nothing by then has failed.
const LIMIT: Duration = Duration::from_secs(45);
/// After a relay verdict of both sides, so long is waited for a link all the same.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);
/// A link stands for so long before something happens to it.
const QUIET: Duration = Duration::from_secs(5);
/// What happens to a link has to be repaired within this time after the first packet that met it; a
/// keep-alive comes within 10 s.
const REPAIR_LIMIT: Duration = Duration::from_secs(40);

/// What happens to a pair that is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// Nothing.
    None,
    /// The NAT of the first worker forgets everything and goes on at other ports.
    Rebind,
    /// The first worker finds itself in another network, behind a NAT of the same kind.
    Move,
}

/// What two workers stand behind, and what happens to them.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What the first worker stands behind.
    pub first: NatKind,
    /// What the second one stands behind.
    pub second: NatKind,
    /// Share of packets lost, one way.
    pub loss: f64,
    /// Whether losses come in bursts.
    pub bursts: bool,
    /// How much later than usual a packet may come, one way; some are overtaken then.
    pub jitter: Duration,
    /// Whether both have IPv6, too.
    pub ipv6: bool,
    /// One way between each worker and the core: of signalling as of packets.
    pub ways: [Duration; 2],
    /// What signalling takes beyond that, each way.
    pub lag: [Duration; 2],
    /// How much later the second worker comes, at least.
    pub later: Duration,
    /// What both want of searches.
    pub wish: SearchWish,
    /// What both make of their NAT profiles before they tell them.
    pub lie: Option<fn(&mut NatProfile)>,
    /// What happens to the link.
    pub incident: Incident,
    /// Whether the timers of both are 50 to 500 ms late: their machines are busy.
    pub busy: bool,
}

impl Scenario {
    /// A pair with nothing unusual.
    #[must_use]
    pub fn new(first: NatKind, second: NatKind) -> Self {
        Self {
            first,
            second,
            loss: 0.0,
            bursts: false,
            jitter: Duration::ZERO,
            ipv6: false,
            ways: [Duration::from_millis(40); 2],
            lag: [Duration::ZERO; 2],
            later: USUALLY_LATER,
            wish: SearchWish::Usual,
            lie: None,
            incident: Incident::None,
            busy: false,
        }
    }

    /// Plays the history of this seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Outcome {
        self.play(seed, false).0
    }

    /// Plays the history of this seed and tells what happened on both sides, line by line.
    #[must_use]
    pub fn trace(&self, seed: u64) -> (Outcome, Vec<String>) {
        self.play(seed, true)
    }

    fn spec(&self, index: usize) -> SiteSpec {
        let kind = if index == 0 { self.first } else { self.second };
        let mut spec = SiteSpec::new(kind);
        spec.ipv6 = self.ipv6;
        spec.access.up.delay = self.ways[index];
        spec.access.down.delay = self.ways[index];
        // Once on each way between the two, and on the way to the server.
        if self.bursts {
            let leave = 1.0 / BURST_PACKETS;
            let enter = leave * self.loss / (1.0 - self.loss);
            spec.access.up.loss = Loss::Burst { p_enter: enter, p_leave: leave, loss: 1.0 };
        } else if self.loss > 0.0 {
            spec.access.up.loss = Loss::Random(self.loss);
        }
        if !self.jitter.is_zero() {
            spec.access.up.jitter = self.jitter;
            spec.access.up.reorder = REORDERED;
        }
        spec
    }

    fn play(&self, seed: u64, watch: bool) -> (Outcome, Vec<String>) {
        let (mut world, mut sites, start) = self.begin(seed, watch);
        settle(&mut world);
        let mut outcome = judge(&world, seed);
        if outcome.verdict == Verdict::Direct && self.incident != Incident::None {
            outcome.repair_time = self.disturb(&mut world, &mut sites[0]);
        }
        let log = |index: usize| {
            let name = ["first ", "second"][index];
            world.log(index, start).into_iter().map(move |line| format!("{name} {line}"))
        };
        let mut lines: Vec<String> = log(0).chain(log(1)).collect();
        lines.sort_by(|a, b| a[6..17].cmp(&b[6..17]));
        (outcome, lines)
    }

    /// A world in which both have just started, and when the first one did.
    pub(super) fn begin(&self, seed: u64, watch: bool) -> (World, [Site; 2], Instant) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(rng.random());
        let start = world.now();
        let sites = place_pair(&mut world.net, self.spec(0), self.spec(1));
        let observed = [public_ip(&world, &sites[0], 1), public_ip(&world, &sites[1], 2)];
        let observed = match (self.first, self.second) {
            (NatKind::SameLan, NatKind::SameLan) | (NatKind::Carrier, NatKind::Carrier) => {
                [observed[0]; 2]
            }
            _ => observed,
        };
        for index in 0..2 {
            if index == 1 {
                let later = self.later.mul_f64(rng.random_range(1.0..2.0));
                world.run(start + later, |_| false);
            }
            let way = self.ways[index] + self.lag[index];
            world.start(&sites[index], way, observed[index], self.wish, self.lie);
            if watch {
                world.watch(index);
            }
            if self.busy {
                world.busy(index);
            }
        }
        (world, sites, start)
    }

    /// The first worker finds itself in another network, behind a NAT of the same kind. There is one such.
    pub(super) fn move_first(&self, world: &mut World, site: &mut Site) {
        let elsewhere = place(&mut world.net, self.spec(0), 3);
        let addresses = world.net.addresses(elsewhere.host).to_vec();
        world.net.move_host(elsewhere.host, SegmentId::CORE, &[]);
        world.net.move_host(site.host, elsewhere.segment, &addresses);
        *site = Site { host: site.host, ..elsewhere };
        world.moved(0, addresses);
    }

    /// Lets something happen to the first worker's network; the time until the link is repaired.
    fn disturb(&self, world: &mut World, site: &mut Site) -> Option<Duration> {
        world.run(world.now() + QUIET, |_| false);
        match self.incident {
            Incident::None => return None,
            Incident::Rebind => {
                for id in &site.boxes {
                    world.net.rebind(*id);
                }
            }
            Incident::Move => self.move_first(world, site),
        }
        let event = world.now();
        let sent = world.net.traffic().sent;
        world.run(event + REPAIR_LIMIT, |world| world.net.traffic().sent > sent);
        let first_packet = world.now();
        let answered = |world: &World, index: usize| {
            world.status(index).is_some_and(|status| {
                !status.is_suspect && status.answered_at.is_some_and(|at| at > event)
            })
        };
        let repaired = |world: &World| answered(world, 0) && answered(world, 1);
        world.run(first_packet + REPAIR_LIMIT, repaired);
        repaired(world).then(|| world.now() - first_packet)
    }
}

/// Lets time pass until it is clear what becomes of the two.
pub(super) fn settle(world: &mut World) {
    world.run(world.now() + LIMIT, is_settled);
    if !is_linked(world) {
        // A verdict may be taken back when the profile becomes better.
        world.run(world.now() + SECOND_THOUGHTS, is_linked);
    }
}

/// Where a worker's signalling comes from.
fn public_ip(world: &World, site: &Site, number: u16) -> IpAddr {
    let translated = site.boxes.iter().any(|id| world.net.nat(*id).is_some());
    let [high, low] = number.to_be_bytes();
    let public = Ipv4Addr::new(198, 18, high, low);
    if translated { public.into() } else { site.ipv4.into() }
}

fn both(world: &World, is: impl Fn(&Record) -> bool) -> bool {
    [0, 1].iter().all(|index| world.record_of(*index).is_some_and(&is))
}

fn is_linked(world: &World) -> bool {
    both(world, |record| record.linked.is_some())
}

fn is_settled(world: &World) -> bool {
    is_linked(world) || both(world, |record| record.verdict.is_some())
}

pub(super) fn judge(world: &World, seed: u64) -> Outcome {
    let records = [world.record(0), world.record(1)];
    let [first, second] = &records;
    let since = second.reported_at.max(first.reported_at);
    let later = |a: Option<Instant>, b: Option<Instant>| Some(a?.max(b?));
    let linked_at = |index: usize| records[index].linked.map(|(at, _)| at);
    let linked = later(linked_at(0), linked_at(1));
    let told_at = |index: usize| records[index].verdict.as_ref().map(|(at, _)| *at);
    let told = later(told_at(0), told_at(1));
    let offered = first.offered_at.max(second.offered_at);
    let reason = second.verdict.clone().or_else(|| second.failed.clone());
    Outcome {
        seed,
        verdict: match (linked, told) {
            (Some(_), _) => Verdict::Direct,
            (None, Some(_)) => Verdict::Relay,
            (None, None) => Verdict::Failed,
        },
        link_time: linked.zip(since).map(|(at, since)| at - since),
        verdict_time: told.zip(offered).map(|(at, offered)| at - offered),
        probes: records.each_ref().map(|record| record.probes),
        probes_at_verdict: records.each_ref().map(|record| record.probes_at_verdict),
        sockets: records.iter().map(|record| record.sockets).max().unwrap_or(0),
        new_flows_per_second: records
            .iter()
            .map(|record| record.new_flows_per_second)
            .max()
            .unwrap_or(0),
        strategy: second.strategy,
        reason: if linked.is_some() { None } else { reason.map(|(_, reason)| reason) },
        repair_time: None,
    }
}
