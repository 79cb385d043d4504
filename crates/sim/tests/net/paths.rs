//! Ways through the core.

use holepunch_sim::link::{LinkConfig, Loss};
use holepunch_sim::nat::DropReason;
use holepunch_sim::net::{
    AccessConfig, BoxConfig, LossReason, Middlebox, Network, SegmentId, TTL_DEFAULT,
};
use holepunch_sim::presets::{NatKind, SiteSpec, place};

use crate::common::{at, ip, ms};
use crate::world::{PORT, SERVER, World, local};

#[test]
fn a_server_is_40_ms_away_and_a_host_80() {
    let (mut world, a, b) = World::pair("public", "public");
    world.send(&a, at(SERVER));
    world.send(&a, local(&b));
    let delivered = world.run(ms(200));
    let times: Vec<_> = delivered.iter().map(|one| (one.host, one.at - world.start)).collect();
    assert_eq!(times, [(world.server, ms(40)), (b.host, ms(80))]);
    assert_eq!((delivered[1].from, delivered[1].to), (local(&a), local(&b)));
    assert_eq!(delivered[1].payload, b"probe");
}

#[test]
fn a_nat_shows_its_own_address_and_lets_the_answer_in() {
    let (mut world, a) = World::single("eim-apdf");
    world.send(&a, at(SERVER));
    let question = world.run(ms(50)).remove(0);
    assert_eq!(question.from, at("198.18.0.1:5000"));
    assert_eq!(question.to, at(SERVER));
    world.net.send(world.server, question.reply(b"answer".to_vec()), world.now);
    let answer = world.run(ms(50)).remove(0);
    assert_eq!((answer.host, answer.from, answer.to), (a.host, at(SERVER), local(&a)));
    assert_eq!(answer.payload, b"answer");
}

#[test]
fn a_packet_meets_the_peers_nat_when_it_gets_there_not_when_it_is_sent() {
    // B opens its NAT 30 ms after A has sent, but 50 ms before A's packet is there.
    let (mut world, a, b) = World::pair("eim-apdf", "eim-apdf");
    let (to_a, to_b) = (world.reflexive(&a), world.reflexive(&b));
    world.send(&a, to_b);
    assert!(world.run(ms(30)).is_empty());
    world.send(&b, to_a);
    let hosts: Vec<_> = world.run(ms(200)).iter().map(|one| one.host).collect();
    assert_eq!(hosts, [b.host, a.host]);
}

#[test]
fn a_packet_that_is_there_before_the_peers_nat_was_opened_is_lost() {
    let (mut world, a, b) = World::pair("eim-apdf", "eim-apdf");
    let (to_a, to_b) = (world.reflexive(&a), world.reflexive(&b));
    world.send(&a, to_b);
    assert!(world.run(ms(81)).is_empty());
    assert_eq!(world.lost(LossReason::Box(DropReason::Filtered)), 1);
    world.send(&b, to_a);
    let hosts: Vec<_> = world.run(ms(200)).iter().map(|one| one.host).collect();
    assert_eq!(hosts, [a.host], "A had opened its own");
}

#[test]
fn two_nats_in_a_row_both_translate_and_both_filter() {
    let (mut world, a) = World::single("two-nats");
    let seen = world.reflexive(&a);
    assert_eq!(seen.ip(), ip("198.18.0.1"));
    let mappings: Vec<_> =
        a.boxes.iter().map(|id| world.net.nat(*id).unwrap().mappings()).collect();
    assert_eq!(mappings, [1, 1]);
    world.send_from(world.server, at(SERVER), seen, TTL_DEFAULT);
    world.send_from(world.server, at("192.0.2.2:3478"), seen, TTL_DEFAULT);
    let delivered = world.run(ms(100));
    assert_eq!(delivered.len(), 1, "only from where it was sent to");
    assert_eq!((delivered[0].host, delivered[0].to), (a.host, local(&a)));
}

#[test]
fn a_firewall_keeps_the_address_and_lets_only_answers_in() {
    let (mut world, a, b) = World::pair("firewall", "public");
    world.send(&b, local(&a));
    assert!(world.run(ms(200)).is_empty());
    world.send(&a, local(&b));
    let delivered = world.run(ms(200));
    assert_eq!((delivered.len(), delivered[0].from), (1, local(&a)));
    world.send(&b, local(&a));
    assert_eq!(world.run(ms(200)).len(), 1);
    assert_eq!(world.net.firewall(a.boxes[0]).unwrap().counters().drops_total(), 1);
}

#[test]
fn ipv6_goes_through_a_home_router_untranslated_and_filtered() {
    let mut world = World::new();
    let spec = SiteSpec { ipv6: true, ..SiteSpec::new(NatKind::EimApdf) };
    let a = place(&mut world.net, spec, 1);
    let b = place(&mut world.net, SiteSpec { ipv6: true, ..SiteSpec::new(NatKind::Public) }, 2);
    let address = |site: &holepunch_sim::presets::Site| (site.ipv6.unwrap(), PORT).into();
    world.send(&b, address(&a));
    assert!(world.run(ms(200)).is_empty(), "nothing was sent out yet");
    world.send(&a, address(&b));
    assert_eq!(world.run(ms(200))[0].from, address(&a));
    world.send(&b, address(&a));
    assert_eq!(world.run(ms(200))[0].host, a.host);
}

#[test]
fn blocked_udp_gets_neither_out_nor_in() {
    let (mut world, a) = World::single("udp-blocked");
    world.send(&a, at(SERVER));
    world.send_from(world.server, at(SERVER), at("198.18.0.1:5000"), TTL_DEFAULT);
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.lost(LossReason::UdpBlocked), 2);
    world.net.set_udp_blocked(a.boxes[0], false);
    world.send(&a, at(SERVER));
    assert_eq!(world.run(ms(200)).len(), 1);
}

#[test]
fn addresses_that_nobody_has_lead_nowhere() {
    let (mut world, a) = World::single("public");
    for nobody in ["203.0.113.77:1", "192.168.1.2:5000", "127.0.0.1:5000", "[2001:db8::9]:1"] {
        world.send_from(a.host, local(&a), at(nobody), TTL_DEFAULT);
    }
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.lost(LossReason::Unroutable), 4);
    world.send_from(a.host, at("198.18.0.9:5000"), at(SERVER), TTL_DEFAULT);
    assert_eq!(world.lost(LossReason::WrongSource), 1);
}

#[test]
fn the_core_takes_no_private_source() {
    let mut world = World::new();
    let router = BoxConfig { ipv4: Middlebox::Router, ipv6: Middlebox::Router, udp_blocked: false };
    let id = world.net.add_box(SegmentId::CORE, router, AccessConfig::direct());
    let inside = world.net.inside(id);
    let host = world.net.add_host(inside, &[ip("10.0.0.2")], AccessConfig::direct());
    world.send_from(host, at("10.0.0.2:5000"), at(SERVER), TTL_DEFAULT);
    assert!(world.run(ms(200)).is_empty());
    assert_eq!(world.lost(LossReason::PrivateSource), 1);
}

#[test]
fn a_host_reaches_itself_at_once() {
    let (mut world, a) = World::single("eim-apdf");
    world.send(&a, local(&a));
    let delivered = world.run(ms(0));
    assert_eq!((delivered.len(), delivered[0].from), (1, local(&a)));
}

#[test]
fn one_seed_makes_one_history_and_another_seed_another() {
    let history = |seed| {
        let mut net = Network::new(seed);
        let loss = LinkConfig::with_delay(ms(40)).with_jitter(ms(9)).with_loss(Loss::Random(0.5));
        let access = AccessConfig::symmetric(loss);
        let kind = "hard-apdf-random".parse().unwrap();
        let a = place(&mut net, SiteSpec { access, ..SiteSpec::new(kind) }, 1);
        let server = net.add_server(&[ip("192.0.2.1")]);
        let mut world =
            World { net, now: crate::common::origin(), start: crate::common::origin(), server };
        world.start = world.now;
        for port in 0..100 {
            world.send(&a, at(&format!("192.0.2.1:{}", 1000 + port)));
        }
        let delivered = world.run(ms(200));
        let start = world.start;
        delivered.into_iter().map(|one| (one.at - start, one.from, one.to)).collect::<Vec<_>>()
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1), history(2));
    assert!((30..70).contains(&history(1).len()));
}
