//! Two traversal machines and the real matchmaker under one virtual clock, no sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one event among many")]

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_traversal::{Event, FailReason};
use world::{Filter, Mapping, NatKind, World};

const PLAIN: NatKind =
    NatKind { mapping: Mapping::EndpointIndependent, filter: Filter::PortDependent };
const OPEN: NatKind = NatKind { mapping: Mapping::None, filter: Filter::None };
const SYMMETRIC: NatKind =
    NatKind { mapping: Mapping::PortDependent, filter: Filter::PortDependent };

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Links two plain NATs under loss, over many seeds; the worst time from the offers to both links.
fn links_under_loss(percent: u32) -> Duration {
    let mut worst = Duration::ZERO;
    for seed in 0..1000 {
        let mut world = World::new(seed, percent);
        let a = world.add("a", PLAIN);
        let b = world.add("b", PLAIN);
        world.run_until(secs(60), |world| world.is_linked(a) && world.is_linked(b));
        assert!(world.is_linked(a) && world.is_linked(b), "seed {seed} at {percent} % loss");
        let punches = world.count(a, |event| matches!(event, Event::PunchStarted(..)));
        assert_eq!(punches, 1, "seed {seed}: the first punch makes the link");
        worst = worst.max(world.link_time(a)).max(world.link_time(b));
    }
    worst
}

#[test]
fn two_plain_nats_link_without_loss_within_one_round_trip() {
    // 40 ms each way between the peers, and their offers arrive at the same moment.
    assert!(links_under_loss(0) <= Duration::from_millis(80));
}

#[test]
fn a_first_ping_that_died_at_a_closed_nat_costs_no_wait_for_the_schedule() {
    for seed in 0..100 {
        let mut world = World::new(seed, 0);
        let a = world.add("a", PLAIN);
        // B's offer takes so long that A has come to its sparse PINGs, which found B's NAT closed.
        world.run(secs(1));
        let b = world.add_far("b", PLAIN, Duration::from_millis(1300));
        world.run(secs(10));
        assert!(world.is_linked(a) && world.is_linked(b), "seed {seed}");
        assert!(world.link_time(b) <= Duration::from_millis(160), "seed {seed}: two round trips");
    }
}

#[test]
fn two_plain_nats_link_at_10_percent_loss() {
    assert!(links_under_loss(10) <= secs(5));
}

#[test]
fn two_plain_nats_link_at_30_percent_loss() {
    assert!(links_under_loss(30) <= secs(10));
}

#[test]
fn a_mapping_that_changes_while_waiting_is_reported_again_and_linked_to() {
    let mut world = World::new(1, 0);
    let a = world.add("a", PLAIN);
    world.run(secs(20));
    let before = world.reports(a);
    assert_eq!(before.len(), 1, "a waiting worker reports once: {before:?}");
    world.rebind(a);
    world.run(secs(11));
    let after = world.reports(a);
    assert_eq!(after.len(), 2, "{after:?}");
    assert_ne!(after[0], after[1]);
    let b = world.add("b", PLAIN);
    world.run(secs(2));
    assert!(world.is_linked(a) && world.is_linked(b));
}

#[test]
fn a_peer_that_comes_40_s_late_finds_the_mapping_alive() {
    let mut world = World::new(2, 0);
    let a = world.add("a", PLAIN);
    world.run(secs(40));
    let b = world.add("b", PLAIN);
    world.run(secs(2));
    assert!(world.is_linked(a) && world.is_linked(b));
    assert_eq!(world.reports(a).len(), 1, "NATs forget after 30 s; this mapping never changed");
}

#[test]
fn a_symmetric_nat_links_with_an_open_peer_through_the_source_that_is_seen() {
    for seed in 0..100 {
        let mut world = World::new(seed, 10);
        let hard = world.add("hard", SYMMETRIC);
        let open = world.add("open", OPEN);
        // Long enough for discovery, whose first requests may all be lost.
        world.run_until(secs(60), |world| world.is_linked(hard) && world.is_linked(open));
        assert!(world.is_linked(hard) && world.is_linked(open), "seed {seed}");
        assert!(world.count(open, |event| matches!(event, Event::SourceObserved(..))) > 0);
    }
}

#[test]
fn a_punch_that_fails_says_why_and_asks_for_another_peer_only_then() {
    let mut world = World::new(3, 0);
    let a = world.add("a", SYMMETRIC);
    let b = world.add("b", PLAIN);
    world.run(secs(10));
    assert_eq!(world.reports(a).len(), 1, "no report while punching");
    world.run(secs(2));
    let silence = |event: &Event| {
        matches!(event, Event::LinkFailed { reason: FailReason::Silence, probes: 25, .. })
    };
    assert_eq!(world.count(a, silence), 1);
    assert_eq!(world.reports(a).len(), 2, "a report after the failure");
    let c = world.add("c", OPEN);
    world.run(secs(60));
    assert!(world.is_linked(c), "the third worker is linked with one of the two");
    let _left_over = b;
}

#[test]
fn a_lost_peer_is_noticed_and_another_asked_for_but_never_while_linked() {
    let mut world = World::new(4, 0);
    let a = world.add("a", PLAIN);
    let b = world.add("b", PLAIN);
    world.run(secs(120));
    assert!(world.is_linked(a));
    assert_eq!(world.reports(a).len(), 1, "no report while linked");
    world.kill(b);
    world.run(secs(19));
    assert_eq!(world.reports(a).len(), 1, "heard at most 10 s before, so not silent for 30 s yet");
    world.run(secs(13));
    assert_eq!(world.count(a, |event| matches!(event, Event::PeerLost(..))), 1);
    assert_eq!(world.reports(a).len(), 2);
    let c = world.add("c", PLAIN);
    world.run(secs(2));
    assert!(world.is_linked(a) && world.is_linked(c));
}

#[test]
fn losing_the_signalling_stops_neither_a_punch_nor_a_link() {
    let mut world = World::new(5, 0);
    let a = world.add("a", PLAIN);
    let b = world.add("b", PLAIN);
    world.run_until(secs(5), |world| {
        world.count(a, |event| matches!(event, Event::PunchStarted(..))) == 1
    });
    world.unregister(a);
    world.unregister(b);
    world.run(secs(60));
    assert!(world.is_linked(a) && world.is_linked(b));
    world.register(a);
    world.run(secs(5));
    assert_eq!(world.reports(a).len(), 1, "a linked worker registers without a report");
}

#[test]
fn a_peer_whose_nat_rebinds_while_linked_is_found_again() {
    let mut world = World::new(6, 0);
    let a = world.add("a", OPEN);
    let b = world.add("b", PLAIN);
    world.run(secs(5));
    world.rebind(b);
    world.run(secs(60));
    assert_eq!(world.count(a, |event| matches!(event, Event::PeerLost(..))), 0);
    assert_eq!(world.count(a, |event| matches!(event, Event::PathMoved(..))), 1);
}

#[test]
fn a_flood_with_the_peers_id_from_elsewhere_takes_no_answer_from_the_peer() {
    let mut world = World::new(8, 0);
    let a = world.add("a", OPEN);
    let b = world.add("b", PLAIN);
    world.run(secs(5));
    assert!(world.is_linked(a) && world.is_linked(b));
    let attacker: SocketAddr = "198.51.100.66:6".parse().unwrap();
    for number in 0..200 {
        world.inject(a, attacker, format!("P2P_PING_FROM_b_NUM_{number}"));
    }
    let peer = world.reports(b)[0];
    let before = world.sent_to(peer);
    world.inject(a, peer, "P2P_PING_FROM_b_NUM_1".to_owned());
    assert_eq!(world.sent_to(peer), before + 1, "the peer's own PING is answered all the same");
}

#[test]
fn strangers_and_forged_answers_change_nothing() {
    let mut world = World::new(7, 0);
    let a = world.add("a", OPEN);
    world.run(secs(1));
    let stranger: SocketAddr = "198.51.100.66:6".parse().unwrap();
    for number in 0..100 {
        world.inject(a, stranger, format!("P2P_PONG_FROM_b_TO_a_ACK_YOUR_PING_NUM_{number}"));
        world.inject(a, stranger, format!("P2P_PING_FROM_x_NUM_{number}"));
    }
    assert!(world.sent_to(stranger) <= 5, "answers to strangers are limited");
    let b = world.add("b", SYMMETRIC);
    world.run_until(secs(5), |world| {
        world.count(a, |event| matches!(event, Event::PunchStarted(..))) == 1
    });
    for number in 0..100 {
        world.inject(a, stranger, format!("P2P_PONG_FROM_b_TO_a_ACK_YOUR_PING_NUM_{number}"));
    }
    assert_eq!(world.count(a, |event| matches!(event, Event::PongReceived(..))), 0);
    world.run(secs(5));
    assert!(world.is_linked(a) && world.is_linked(b));
}
