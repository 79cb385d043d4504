//! Networks that change.

use holepunch_sim::link::Loss;
use holepunch_sim::net::{AccessConfig, LossReason, SegmentId, TTL_DEFAULT};

use crate::common::{at, ip, ms};
use crate::world::{PORT, SERVER, World, local};

#[test]
fn a_nat_that_rebinds_forgets_who_was_let_in() {
    let (mut world, a) = World::single("eim-apdf");
    let before = world.reflexive(&a);
    world.net.rebind(a.boxes[0]);
    world.send_from(world.server, at(SERVER), before, TTL_DEFAULT);
    assert!(world.run(ms(200)).is_empty());
    assert_ne!(world.reflexive(&a), before);
}

#[test]
fn a_host_that_moves_is_reached_at_its_new_address_and_no_longer_at_the_old() {
    let (mut world, a, b) = World::pair("public", "eim-apdf");
    world.send_from(world.server, at(SERVER), local(&a), TTL_DEFAULT);
    world.run(ms(10));
    let lan = b.segment;
    world.net.move_host(a.host, lan, &[ip("192.168.1.99")]);
    assert_eq!(world.net.addresses(a.host), [ip("192.168.1.99")]);
    assert!(world.run(ms(200)).is_empty(), "what was under way is lost");
    world.send_from(world.server, at(SERVER), local(&a), TTL_DEFAULT);
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.lost(LossReason::Unroutable), 2);
    world.send_from(a.host, at("192.168.1.99:5000"), at(SERVER), TTL_DEFAULT);
    let seen = world.run(ms(200)).remove(0);
    assert_eq!(seen.from.ip(), ip("198.18.0.2"), "from behind its new NAT");
    world.net.send(world.server, seen.reply(Vec::new()), world.now);
    assert_eq!(world.run(ms(200))[0].host, a.host);
}

#[test]
fn a_packet_for_a_host_that_has_left_its_lan_ends_there() {
    let (mut world, a) = World::single("full-cone");
    let external = world.reflexive(&a);
    world.net.move_host(a.host, SegmentId::CORE, &[ip("198.51.100.1")]);
    world.send_from(world.server, at(SERVER), external, TTL_DEFAULT);
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.lost(LossReason::Unroutable), 1);
    let nat = world.net.nat(a.boxes[0]).unwrap();
    assert_eq!(nat.mappings(), 1, "it is not sent out again");
}

#[test]
fn a_host_that_moves_out_of_a_firewall_is_known_where_it_is() {
    let (mut world, a) = World::single("firewall");
    world.net.move_host(a.host, SegmentId::CORE, &[a.ipv4.into()]);
    world.send_from(world.server, at(SERVER), local(&a), TTL_DEFAULT);
    assert_eq!(world.run(ms(200)).len(), 1, "no firewall in between");
}

#[test]
#[should_panic(expected = "198.18.0.1 is taken")]
fn an_address_is_given_only_once() {
    let (mut world, _a) = World::single("public");
    world.net.add_host(SegmentId::CORE, &[ip("198.18.0.1")], AccessConfig::direct());
}

#[test]
fn a_link_that_goes_down_loses_what_is_sent_then_and_nothing_else() {
    let (mut world, a) = World::single("public");
    world.send(&a, at(SERVER));
    world.net.host_access_mut(a.host).set_up(false);
    world.send(&a, at(SERVER));
    world.net.host_access_mut(a.host).set_up(true);
    world.send(&a, at(SERVER));
    assert_eq!(world.run(ms(200)).len(), 2);
    assert_eq!(world.lost(LossReason::Link), 1);
    world.net.host_access_mut(a.host).set_loss(Loss::Random(1.0));
    world.send_from(world.server, at(SERVER), local(&a), TTL_DEFAULT);
    assert!(world.run(ms(200)).is_empty(), "both directions");
}

#[test]
fn the_core_can_be_made_slow_and_deep() {
    let (mut world, a, b) = World::pair("public", "public");
    world.net.set_core(ms(100), 30);
    world.send(&a, local(&b));
    world.send_with_ttl(&a, local(&b), 34);
    let delivered = world.run(ms(300));
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].at - world.start, ms(180));
    assert_eq!(world.lost(LossReason::Ttl), 1);
}

#[test]
fn every_packet_is_delivered_or_lost_for_one_reason() {
    let (mut world, a, b) = World::pair("hard-apdf-block64", "eim-adf");
    world.net.box_access_mut(a.boxes[0]).set_loss(Loss::Random(0.3));
    let to_b = world.reflexive(&b);
    for n in 0..200 {
        let to = if n % 2 == 0 { to_b } else { at(&format!("192.0.2.1:{}", PORT + n)) };
        world.send_with_ttl(&a, to, u8::try_from(n).unwrap());
    }
    world.run(ms(1000));
    let traffic = world.net.traffic();
    let lost: u64 = traffic.lost.values().sum();
    assert_eq!(traffic.sent, 201);
    assert_eq!(traffic.delivered + lost, traffic.sent);
    assert!(traffic.lost.len() >= 4, "{:?}", traffic.lost);
}
