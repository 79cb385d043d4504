//! A puncher of the simplest kind on the simulated network: it links the pairs that the oracle calls
//! plain, and no others.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use holepunch_sim::net::{Datagram, Delivery, TTL_DEFAULT};
use holepunch_sim::oracle::{Oracle, Verdict};
use holepunch_sim::presets::{NatKind, Site};

use crate::common::{at, ms};
use crate::world::{SERVER, World, local};

/// Dies between the own NATs and the peer's.
const OPENER_TTL: u8 = 5;

struct Peer {
    site: Site,
    targets: BTreeSet<SocketAddr>,
    answered: bool,
}

impl Peer {
    fn request(&self, world: &mut World, ttl: u8) {
        for to in &self.targets {
            let from = local(&self.site);
            let datagram = Datagram { from, to: *to, ttl, payload: b"request".to_vec() };
            world.net.send(self.site.host, datagram, world.now);
        }
    }

    /// Answers a request, and remembers where it came from.
    fn receive(&mut self, world: &mut World, delivery: &Delivery) {
        if self.targets.len() < 8 {
            self.targets.insert(delivery.from);
        }
        if delivery.payload == b"request" {
            world.net.send(self.site.host, delivery.reply(b"answer".to_vec()), delivery.at);
        } else {
            self.answered = true;
        }
    }
}

/// What the server sees of a host, where that has UDP.
fn reflexive(world: &mut World, site: &Site) -> Option<SocketAddr> {
    world.send(site, at(SERVER));
    let server = world.server;
    world.run(ms(100)).iter().find(|delivery| delivery.host == server).map(|seen| seen.from)
}

/// Whether each of two hosts gets an answer from the other within three seconds.
fn links(a: NatKind, b: NatKind) -> bool {
    let (mut world, a, b) = World::pair(&a.to_string(), &b.to_string());
    let (Some(to_a), Some(to_b)) = (reflexive(&mut world, &a), reflexive(&mut world, &b)) else {
        return false;
    };
    let of_b = BTreeSet::from([to_b, local(&b)]);
    let of_a = BTreeSet::from([to_a, local(&a)]);
    let mut peers = [
        Peer { site: a, targets: of_b, answered: false },
        Peer { site: b, targets: of_a, answered: false },
    ];
    for round in 0..15 {
        let ttl = if round == 0 { OPENER_TTL } else { TTL_DEFAULT };
        for peer in &peers {
            peer.request(&mut world, ttl);
        }
        run(&mut world, &mut peers, 200);
    }
    peers.iter().all(|peer| peer.answered)
}

/// Moves on in single milliseconds, so that answers go out when requests arrive.
fn run(world: &mut World, peers: &mut [Peer; 2], milliseconds: u32) {
    for _ in 0..milliseconds {
        for delivery in world.run(ms(1)) {
            for peer in peers.iter_mut().filter(|peer| peer.site.host == delivery.host) {
                peer.receive(world, &delivery);
            }
        }
    }
}

/// Kinds that stand for all others: those left out differ from them in the choice of ports only.
fn kinds() -> impl Iterator<Item = NatKind> {
    NatKind::all().into_iter().filter(|kind| {
        let name = kind.to_string();
        !(name.contains("-block") || name.contains("-preserving"))
    })
}

#[test]
fn a_simple_puncher_links_the_pairs_that_the_oracle_calls_plain_and_no_others() {
    let mut oracle = Oracle::default();
    let all: Vec<NatKind> = kinds().collect();
    let mut linked = 0;
    for (row, a) in all.iter().enumerate() {
        for b in &all[row..] {
            let verdict = oracle.verdict_of_kinds(*a, *b);
            let is_plain = matches!(verdict, Verdict::Plain { .. });
            assert_eq!(links(*a, *b), is_plain, "{a} and {b}: {verdict:?}");
            linked += usize::from(is_plain);
        }
    }
    let pairs = all.len() * (all.len() + 1) / 2;
    assert!(linked > pairs / 4 && linked < pairs, "{linked} of {pairs}");
}
