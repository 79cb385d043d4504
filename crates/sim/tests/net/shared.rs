//! Hosts that share a LAN or a carrier's NAT.

use holepunch_sim::nat::DropReason;
use holepunch_sim::nat::{Filtering, Mapping, NatConfig};
use holepunch_sim::net::{AccessConfig, BoxConfig, LAN_DELAY, LossReason, SegmentId};

use crate::common::{at, ip, ms};
use crate::world::{World, local};

#[test]
fn two_hosts_of_one_lan_reach_each_other_directly() {
    let (mut world, a, b) = World::pair("same-lan", "same-lan");
    assert_eq!(a.boxes, b.boxes);
    world.send(&a, local(&b));
    let delivered = world.run(ms(100));
    assert_eq!(delivered.len(), 1);
    assert_eq!((delivered[0].from, delivered[0].at - world.start), (local(&a), LAN_DELAY));
    assert_eq!(world.net.nat(a.boxes[0]).unwrap().mappings(), 0, "the NAT saw nothing");
}

#[test]
fn a_private_address_of_the_own_subnet_that_nobody_has_never_gets_to_the_nat() {
    let (mut world, a) = World::single("eim-apdf");
    world.send(&a, at("192.168.1.77:5000"));
    world.send(&a, at("192.168.2.77:5000"));
    assert!(world.run(ms(100)).is_empty());
    assert_eq!(world.lost(LossReason::Unroutable), 2);
    // The other subnet's packet took the way out, and took a session with it, before the core
    // dropped it.
    assert_eq!(world.net.nat(a.boxes[0]).unwrap().table_len(), 1);
}

#[test]
fn two_homes_with_the_same_private_addresses_do_not_meet_by_them() {
    let (mut world, a, b) = World::pair("eim-apdf", "eim-apdf");
    assert_eq!((a.ipv4.octets()[2], b.ipv4.octets()[2]), (1, 1), "the same subnet");
    world.send(&a, local(&b));
    assert!(world.run(ms(100)).is_empty());
}

#[test]
fn two_homes_under_one_carrier_meet_by_its_hairpin() {
    let (mut world, a, b) = World::pair("carrier", "carrier");
    assert_eq!(a.boxes[0], b.boxes[0]);
    assert_ne!(a.boxes[1], b.boxes[1]);
    let (to_a, to_b) = (world.reflexive(&a), world.reflexive(&b));
    assert_eq!(to_a.ip(), to_b.ip());
    assert_ne!(to_a.port(), to_b.port());
    world.send(&a, to_b);
    assert!(world.run(ms(10)).is_empty(), "B's home router lets only answers in");
    world.send(&b, to_a);
    let delivered = world.run(ms(10));
    assert_eq!((delivered[0].host, delivered[0].from, delivered[0].to), (a.host, to_b, local(&a)));
    world.send(&a, to_b);
    assert_eq!(world.run(ms(10))[0].host, b.host);
}

#[test]
fn two_homes_under_one_carrier_meet_by_its_inner_addresses_too() {
    let (mut world, a, b) = World::pair("carrier", "carrier");
    let inner = |n: u8| at(&format!("100.64.0.{n}:5000"));
    world.send(&a, inner(2));
    world.run(ms(10));
    world.send(&b, inner(1));
    let delivered = world.run(ms(10));
    assert_eq!((delivered[0].host, delivered[0].from), (a.host, inner(2)));
}

#[test]
fn behind_a_nat_without_hairpin_two_hosts_do_not_meet_at_its_outside() {
    let (mut world, a, b) = World::pair("same-lan", "same-lan");
    let (to_a, to_b) = (world.reflexive(&a), world.reflexive(&b));
    world.send(&a, to_b);
    world.send(&b, to_a);
    assert!(world.run(ms(100)).is_empty());
    assert_eq!(world.lost(LossReason::Box(DropReason::NoHairpin)), 2);
}

#[test]
fn hairpin_traffic_never_touches_the_access_link() {
    let mut world = World::new();
    let config = NatConfig::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent)
        .with_hairpin(true);
    let config = BoxConfig::nat(config, ip("198.18.0.1"));
    let id = world.net.add_box(SegmentId::CORE, config, AccessConfig::home());
    let inside = world.net.inside(id);
    let [a, b] = ["10.0.0.2", "10.0.0.3"]
        .map(|address| world.net.add_host(inside, &[ip(address)], AccessConfig::direct()));
    world.net.box_access_mut(id).set_up(false);
    world.send_from(b, at("10.0.0.3:5001"), at("192.0.2.1:3478"), 64);
    world.send_from(a, at("10.0.0.2:5000"), at("198.18.0.1:5001"), 64);
    let delivered = world.run(ms(100));
    assert_eq!(delivered.len(), 1);
    assert_eq!((delivered[0].host, delivered[0].from), (b, at("198.18.0.1:5000")));
}
