//! How far a packet gets.

use holepunch_sim::net::{ACCESS_HOPS, CORE_HOPS, LossReason, TTL_DEFAULT};

use crate::common::{at, ms};
use crate::world::{SERVER, World};

/// Routers between two homes: a NAT, an access, the core, an access, a NAT.
const ROUTERS: u8 = 1 + ACCESS_HOPS + CORE_HOPS + ACCESS_HOPS + 1;

#[test]
fn a_packet_passes_as_many_routers_as_its_ttl_says_less_one() {
    for (ttl, arrives) in [(ROUTERS, 0), (ROUTERS + 1, 1)] {
        let (mut world, a, b) = World::pair("full-cone", "full-cone");
        let to_b = world.reflexive(&b);
        world.send_with_ttl(&a, to_b, ttl);
        assert_eq!(world.run(ms(200)).len(), arrives, "TTL {ttl}");
        assert_eq!(world.lost(LossReason::Ttl), 1 - arrives as u64);
    }
}

#[test]
fn a_packet_with_a_low_ttl_opens_the_own_nat_and_leaves_no_trace_at_the_peers() {
    let (mut world, a, b) = World::pair("remap", "remap");
    let (to_a, to_b) = (world.reflexive(&a), world.reflexive(&b));
    world.send_with_ttl(&a, to_b, 4);
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.net.nat(b.boxes[0]).unwrap().counters().drops_total(), 0);
    world.send(&b, to_a);
    let delivered = world.run(ms(200));
    assert_eq!((delivered[0].host, delivered[0].from), (a.host, to_b), "B's port has stayed");
}

#[test]
fn a_packet_that_gets_to_the_peers_nat_occupies_its_tuple_even_if_it_could_go_no_further() {
    for ttl in [ROUTERS, TTL_DEFAULT] {
        let (mut world, a, b) = World::pair("remap", "remap");
        let (to_a, to_b) = (world.reflexive(&a), world.reflexive(&b));
        world.send_with_ttl(&a, to_b, ttl);
        assert!(world.run(ms(200)).is_empty());
        world.send(&b, to_a);
        assert!(world.run(ms(200)).is_empty(), "B now comes from a port that A did not send to");
    }
}

#[test]
fn a_ttl_of_one_does_not_even_open_the_own_nat() {
    let (mut world, a) = World::single("eim-apdf");
    world.send_with_ttl(&a, at(SERVER), 1);
    world.send_with_ttl(&a, at(SERVER), 0);
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.net.nat(a.boxes[0]).unwrap().mappings(), 0);
    world.send_with_ttl(&a, at(SERVER), 2);
    world.run(ms(200));
    assert_eq!(world.net.nat(a.boxes[0]).unwrap().mappings(), 1);
}
