//! The end of sessions, and how many there are.

use holepunch_traversal::{Event, Input, OfferRefusal, RelayState, SessionEvent};
use holepunch_wire::plan::{Aim, Announce, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, LinkState, SessionId};
use holepunch_wire::signal::v1::{ServerV1, WorkerV1};

use crate::secs;
use crate::world::{SESSION, World, plan, search};

/// A machine whose search is under way, with all its sockets open.
fn searching() -> World {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    let search = search(Aim::Random, Announce::Nothing);
    world.offer(0, |offer| {
        offer.details.plan = plan(1, Strategy::Birthday, Some(search.clone()));
    });
    world.signal(0, ServerV1::PeerAccepted { session: SESSION, number: 1, ports: Vec::new() });
    world.run(secs(2));
    assert!(world.parties[0].fresh_sockets() > 200);
    world
}

fn assert_over(mut world: World) {
    let party = &world.parties[0];
    assert_eq!(party.fresh_sockets(), 0, "its sockets are closed at once");
    assert_eq!(party.opened, party.closed);
    assert_eq!(party.machine.sessions(world.now).count(), 0);
    assert!(party.has(|event| matches!(event, SessionEvent::Ended(..))));
    let before = world.elapsed();
    world.run(secs(60));
    let after = world.parties[0].sent.iter().filter(|sent| sent.at > before && sent.is_check());
    assert_eq!(after.count(), 0);
}

#[test]
fn leaving_closes_everything_and_tells_the_rendezvous() {
    for world in [searching(), World::linked()] {
        let mut world = world;
        world.input(0, Input::Leave(SESSION));
        let told =
            |(_, event): &(_, Event)| *event == Event::Signal(WorkerV1::Leave { session: SESSION });
        assert_eq!(world.parties[0].log.iter().filter(|it| told(it)).count(), 1);
        assert_over(world);
    }
}

#[test]
fn a_session_that_the_rendezvous_ends_closes_everything() {
    for world in [searching(), World::linked()] {
        let mut world = world;
        let reason = "another peer".to_owned();
        world.signal(
            0,
            ServerV1::SessionEnded { session: SESSION, code: EndReason::Unknown, reason },
        );
        assert_over(world);
    }
}

#[test]
fn a_peer_that_leaves_ends_the_session_on_both_sides() {
    let mut world = World::linked();
    world.input(1, Input::Leave(SESSION));
    world.run(secs(1));
    assert!(world.parties.iter().all(|it| it.machine.sessions(world.now).count() == 0));
}

#[test]
fn a_session_that_is_offered_anew_replaces_the_one_before() {
    let mut world = World::linked();
    world.offer_both(|_, _| {});
    world.run(secs(2));
    for party in &world.parties {
        assert_eq!(party.machine.sessions(world.now).count(), 1);
        let links = party.session_events().filter(|(_, it)| matches!(it, SessionEvent::Linked(_)));
        assert_eq!(links.count(), 2);
    }
}

#[test]
fn a_search_that_is_offered_anew_leaves_no_socket_behind() {
    let mut world = searching();
    world.offer(0, |_| {});
    world.run(secs(40));
    let party = &world.parties[0];
    assert_eq!((party.fresh_sockets(), party.opened), (0, party.closed));
}

#[test]
fn there_are_sixty_four_sessions_at_most() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    for n in 0..100 {
        world.offer(0, |offer| offer.details.session = SessionId(n));
        world.run(secs(1));
        // They go on, as linked ones would: each has another plan before it has failed.
        for old in (0..n).filter(|old| (n - old) % 8 == 0) {
            let number = u32::try_from((n - old) / 8 + 1).unwrap();
            let plan = plan(number, Strategy::Plain, None);
            world.signal(0, ServerV1::Plan { session: SessionId(old), plan });
        }
    }
    assert_eq!(world.parties[0].machine.sessions(world.now).count(), 64);
    let refused = |(_, event): &&(_, Event)| *event == Event::OfferIgnored(OfferRefusal::TooMany);
    assert_eq!(world.parties[0].log.iter().filter(refused).count(), 36);
}

#[test]
fn a_relay_that_serves_is_reported_once_and_one_that_is_hoped_for_is_not() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    let reported = |world: &World| {
        let is = |(_, event): &&(_, Event)| match event {
            Event::Signal(WorkerV1::LinkState(it)) => it.state == LinkState::Relayed,
            _ => false,
        };
        world.parties[0].log.iter().filter(is).count()
    };
    world.input(0, Input::Relayed(SESSION, RelayState::Hoped));
    assert_eq!(reported(&world), 0);
    for _ in 0..2 {
        world.input(0, Input::Relayed(SESSION, RelayState::Serves));
    }
    assert_eq!(reported(&world), 1);
    world.run(secs(60));
    assert_eq!(world.parties[0].machine.sessions(world.now).count(), 1, "it is not left");
    world.input(0, Input::Relayed(SESSION, RelayState::Absent));
    world.run(secs(60));
    assert_eq!(world.parties[0].machine.sessions(world.now).count(), 0);
}

#[test]
fn two_that_talk_by_a_relay_alone_try_the_direct_way_again() {
    let mut world = World::new();
    let is_linked = |event: &SessionEvent| matches!(event, SessionEvent::Linked(_));
    world.parties.iter_mut().for_each(|party| party.is_dead = true);
    world.offer_both(|_, _| {});
    let offered = world.elapsed();
    for index in 0..2 {
        world.input(index, Input::Relayed(SESSION, RelayState::Serves));
    }
    // The rendezvous draws its conclusion, and the network lets everything through from then on.
    world.run(secs(30));
    for index in 0..2 {
        world.signal(
            index,
            ServerV1::Plan { session: SESSION, plan: plan(2, Strategy::Relay, None) },
        );
    }
    world.parties.iter_mut().for_each(|party| party.is_dead = false);
    world.run(secs(40));
    for party in &world.parties {
        let after = party.when(is_linked).map(|at| (at - offered).as_secs());
        assert_eq!(after, Some(60));
    }
}

#[test]
fn a_worker_that_has_declined_a_search_asks_for_another_plan_when_the_direct_way_is_tried_again() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| {
        let search = Some(search(Aim::Random, Announce::Nothing));
        offer.details.plan = plan(1, Strategy::Birthday, search);
        offer.details.address_proof = AddressProof::None;
    });
    world.input(0, Input::Relayed(SESSION, RelayState::Serves));
    let plan = plan(2, Strategy::Relay, None);
    world.signal(0, ServerV1::Plan { session: SESSION, plan });
    let asked = |world: &World| {
        let is = |(_, event): &&(_, Event)| match event {
            Event::Signal(WorkerV1::LinkState(it)) => {
                it.state == LinkState::Checking && it.number == 2
            }
            _ => false,
        };
        world.parties[0].log.iter().filter(is).count()
    };
    world.run(secs(59));
    assert_eq!(asked(&world), 0);
    world.run(secs(2));
    assert_eq!(asked(&world), 1);
    world.run(secs(600));
    assert_eq!(asked(&world), 1, "nothing has been declined since");
}

#[test]
fn attempts_of_two_that_talk_by_a_relay_alone_are_few() {
    let mut world = World::new();
    let endpoint = world.parties[1].told;
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    world.input(0, Input::Relayed(SESSION, RelayState::Serves));
    // Each minute is counted from half a minute before.
    world.run(secs(30));
    let mut sent = Vec::new();
    for _ in 1..=36 {
        let before = world.parties[0].checks_to(endpoint);
        world.run(secs(60));
        sent.push(world.parties[0].checks_to(endpoint) - before);
    }
    let minutes: Vec<_> = (1..=36).filter(|minute| sent[minute - 1] > 0).collect();
    assert_eq!(minutes, [1, 3, 7, 15, 25, 35], "{sent:?}");
    assert!(sent.iter().all(|sent| *sent <= 25), "{sent:?}");
    world.input(0, Input::Relayed(SESSION, RelayState::Absent));
    world.run(secs(20));
    assert_eq!(world.parties[0].machine.sessions(world.now).count(), 0);
}

#[test]
fn a_relay_beside_a_direct_path_is_not_reported() {
    let mut world = World::linked();
    world.input(0, Input::Relayed(SESSION, RelayState::Serves));
    let is = |(_, event): &(_, Event)| match event {
        Event::Signal(WorkerV1::LinkState(it)) => it.state == LinkState::Relayed,
        _ => false,
    };
    assert!(!world.parties[0].log.iter().any(is));
}

#[test]
fn a_worker_leaves_when_nothing_has_come_of_it() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    world.run(secs(40));
    let left = Event::Signal(WorkerV1::Leave { session: SESSION });
    assert!(world.parties[0].log.iter().any(|(_, event)| *event == left));
    assert_eq!(world.parties[0].machine.sessions(world.now).count(), 0);
}
