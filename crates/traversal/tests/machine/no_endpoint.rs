//! Machines that no STUN server has seen: how they ask for peers, where they look for them, and what they
//! say of it.

use std::time::Duration;

use holepunch_traversal::{Event, Input, NoEndpoint, SessionEvent, Surroundings};
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::plan::Strategy;
use holepunch_wire::signal::v1::{ServerV1, Welcome, WorkerV1};

use crate::secs;
use crate::world::{SESSION, World, address, plan};

fn welcome(world: &mut World, index: usize) {
    let welcome = Welcome {
        server: "test".to_owned(),
        observed_ip: [198, 51, 100, 1].into(),
        observed_port: None,
        stun: Vec::new(),
        turn: Vec::new(),
        proof_nonce: String::new(),
        challenge: String::new(),
        resume: String::new(),
        sessions_max: 64,
        calls_from_anywhere: false,
    };
    world.signal(index, ServerV1::Welcome(welcome));
    world.input(index, Input::Registered);
}

/// Two without an endpoint that are registered.
fn registered() -> World {
    let mut world = World::without_stun();
    for index in 0..2 {
        welcome(&mut world, index);
    }
    world.run(secs(3));
    world
}

/// When a machine has asked for a peer without an endpoint.
fn asked(world: &World, index: usize) -> Vec<Duration> {
    let log = world.parties[index].log.iter();
    log.filter(|(_, event)| *event == Event::Signal(WorkerV1::Ready)).map(|(at, _)| *at).collect()
}

fn said(world: &World, index: usize) -> Vec<(Duration, NoEndpoint)> {
    let log = world.parties[index].log.iter();
    log.filter_map(|(at, event)| match event {
        Event::NoEndpoint(missing) => Some((*at, missing.clone())),
        _ => None,
    })
    .collect()
}

/// Offers each the other as a rendezvous does that knows candidates and no endpoint.
fn offer(world: &mut World, strategy: Strategy) {
    let hosts = world.parties.each_ref().map(|it| Candidate::new(CandidateKind::Host, it.told));
    world.offer_both(|index, offer| {
        offer.endpoint = None;
        offer.details.candidates = vec![hosts[1 - index]];
        offer.details.plan = plan(1, strategy, None);
    });
}

#[test]
fn they_tell_their_own_addresses_and_ask_for_a_peer_once() {
    let mut world = registered();
    world.run(secs(600));
    for (index, party) in world.parties.iter().enumerate() {
        let told = party.log.iter().filter_map(|(_, event)| match event {
            Event::Signal(WorkerV1::Candidates { candidates, .. }) => Some(candidates.clone()),
            _ => None,
        });
        let own = vec![Candidate::new(CandidateKind::Host, party.told)];
        assert_eq!(told.collect::<Vec<_>>(), [own]);
        assert_eq!(asked(&world, index).len(), 1);
    }
}

#[test]
fn their_checks_go_to_each_others_addresses_whatever_the_plan_expects() {
    for strategy in [Strategy::Plain, Strategy::Relay] {
        let mut world = registered();
        offer(&mut world, strategy);
        world.run(secs(1));
        for party in &world.parties {
            assert!(party.has(|event| matches!(event, SessionEvent::Linked(_))), "{strategy}");
            let expects_none = party.has(|event| matches!(event, SessionEvent::Verdict(_)));
            assert_eq!(expects_none, strategy == Strategy::Relay);
        }
    }
}

#[test]
fn an_address_where_nobody_answers_gets_five_checks() {
    for strategy in [Strategy::Plain, Strategy::Relay] {
        let mut world = registered();
        world.parties[1].is_dead = true;
        offer(&mut world, strategy);
        world.run(secs(60));
        assert_eq!(world.parties[0].checks_to(world.parties[1].told), 5, "{strategy}");
    }
}

#[test]
fn two_whose_endpoints_are_known_are_not_checked_at_other_addresses_where_nothing_is_expected() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    let elsewhere = address("192.168.1.9:5000");
    world.offer(0, |offer| {
        offer.details.candidates = vec![Candidate::new(CandidateKind::Host, elsewhere)];
        offer.details.plan = plan(1, Strategy::Relay, None);
    });
    world.run(secs(60));
    assert_eq!(world.parties[0].checks_to(elsewhere), 0);
    assert_eq!(world.parties[0].checks_to(world.parties[1].told), 5);
}

#[test]
fn after_a_session_that_came_to_nothing_another_peer_is_asked_for() {
    let mut world = registered();
    world.parties[1].is_dead = true;
    for round in 1..=3 {
        assert_eq!(asked(&world, 0).len(), round);
        offer(&mut world, Strategy::Relay);
        // It leaves 5 s after the verdict, and waits for up to a second, two the next time.
        world.run(secs(10));
        assert_eq!(world.parties[0].machine.sessions(world.now).count(), 0);
    }
    let ended = world.parties[0].session_events().find_map(|(_, event)| match event {
        SessionEvent::Ended(_, why) => Some(why.clone()),
        _ => None,
    });
    assert_eq!(ended.as_deref(), Some("no direct path came about: a test"));
}

#[test]
fn nothing_is_asked_for_while_there_is_a_link_and_at_once_when_the_peer_has_left() {
    let mut world = registered();
    offer(&mut world, Strategy::Plain);
    world.run(secs(60));
    assert_eq!(asked(&world, 0).len(), 1);
    world.input(1, Input::Leave(SESSION));
    world.run(secs(1));
    assert_eq!(asked(&world, 0).len(), 2);
}

#[test]
fn a_new_registration_asks_anew() {
    let mut world = registered();
    world.input(0, Input::Unregistered);
    world.run(secs(5));
    welcome(&mut world, 0);
    assert_eq!(asked(&world, 0).len(), 2);
}

#[test]
fn what_is_missing_is_said_once_and_again_every_ten_minutes() {
    let mut world = registered();
    assert_eq!(said(&world, 0).len(), 1);
    world.run(secs(590));
    assert_eq!(said(&world, 0).len(), 1);
    world.run(secs(3600 - 590));
    let said = said(&world, 0);
    assert!((6..=7).contains(&said.len()), "{said:?}");
    let own = world.parties[0].told;
    let expected = NoEndpoint {
        asked: Vec::new(),
        why: Some("no STUN server has an address".to_owned()),
        ipv6: false,
        has_ipv4: true,
        v1: true,
        candidates: vec![own],
    };
    assert!(said.iter().all(|(_, missing)| *missing == expected), "{said:?}");
}

#[test]
fn another_case_is_said_at_once() {
    let mut world = registered();
    let main = Some(world.parties[0].told);
    world.input(0, Input::Surroundings(Surroundings { main, ..Surroundings::default() }));
    world.run(secs(40));
    let said: Vec<bool> =
        said(&world, 0).iter().map(|(_, missing)| missing.candidates.is_empty()).collect();
    assert_eq!(said, [false, true]);
}

#[test]
fn a_rendezvous_of_the_baseline_is_asked_for_nothing_without_an_endpoint() {
    let mut world = World::without_stun();
    world.input(0, Input::Registered);
    world.run(secs(30));
    assert_eq!(asked(&world, 0), []);
    let said = said(&world, 0);
    assert!(said.len() == 1 && !said[0].1.v1, "{said:?}");
    assert!(!world.parties[0].log.iter().any(|(_, event)| matches!(event, Event::Report(_))));
}

#[test]
fn nothing_is_said_before_the_registration() {
    let mut world = World::without_stun();
    world.run(secs(30));
    assert_eq!(said(&world, 0), []);
}
