//! How often there is a search, and how large many of them are together.

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_traversal::{SearchRefusal, SessionEvent};
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::plan::{Aim, Announce, Search, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::ServerV1;

use crate::search::{PER_SECOND_MAX, PROBES_MAX, accepted, most_in_a_second, offered, probes};
use crate::world::{SESSION, World, address, plan, search};
use crate::{ms, secs};

fn refusals(world: &World, refusal: SearchRefusal) -> usize {
    let is = |(_, event): &(_, &SessionEvent)| **event == SessionEvent::SearchRefused(refusal);
    world.parties[0].session_events().filter(is).count()
}

fn searches(world: &World) -> usize {
    let is = |(_, event): &(_, &SessionEvent)| matches!(event, SessionEvent::SearchStarted(_));
    world.parties[0].session_events().filter(is).count()
}

/// A whole session with a small search toward the same address, from offer to end.
fn session_with_search(world: &mut World, number: u64) {
    let id = SessionId(number);
    let small = Search { sockets: 1, probes_max: 10, ..search(Aim::Random, Announce::Nothing) };
    world.offer(0, |offer| {
        offer.details.session = id;
        offer.details.plan = plan(1, Strategy::Birthday, Some(small.clone()));
    });
    world.signal(0, ServerV1::PeerAccepted { session: id, number: 1, ports: Vec::new() });
    world.run(secs(5));
    world.signal(0, ServerV1::ended(id, EndReason::PeerLeft));
}

#[test]
fn there_is_one_search_a_minute_and_four_an_hour_toward_one_address() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    session_with_search(&mut world, 1);
    assert_eq!(searches(&world), 1);
    session_with_search(&mut world, 2);
    assert_eq!((searches(&world), refusals(&world, SearchRefusal::TooMany)), (1, 1));
    for number in 3..30 {
        world.run(secs(60));
        session_with_search(&mut world, number);
    }
    assert_eq!(searches(&world), 4, "within half an hour");
    world.run(secs(3600));
    session_with_search(&mut world, 30);
    assert_eq!(searches(&world), 5, "an hour later");
}

#[test]
fn there_is_one_search_at_a_time() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    let search = search(Aim::Random, Announce::Nothing);
    world.offer(0, |offer| {
        offer.details.session = SessionId(2);
        offer.endpoint = Some(address("198.51.100.2:4000"));
        offer.details.plan = plan(1, Strategy::Birthday, Some(search.clone()));
    });
    world.run(secs(1));
    assert_eq!(refusals(&world, SearchRefusal::Busy), 1);
}

/// A plan that follows another is the same search only as long as it is about as large.
#[test]
fn ever_new_plans_for_one_session_do_not_make_an_endless_search() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    world.signal(0, accepted(1));
    for number in 2..20 {
        world.run(secs(15));
        let search = search(Aim::Random, Announce::Nothing);
        let plan = plan(number, Strategy::Birthday, Some(search));
        world.signal(0, ServerV1::Plan { session: SESSION, plan });
        world.signal(0, accepted(number));
    }
    let sent = probes(&world).len();
    // Four searches an hour toward one address, whatever they are called.
    assert!(sent <= 4 * PROBES_MAX, "{sent} packets in five minutes");
}

#[test]
fn a_session_that_is_offered_anew_does_not_search_anew() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    for _ in 0..20 {
        world.offer(0, |offer| {
            let search = search(Aim::Random, Announce::Nothing);
            offer.details.plan = plan(1, Strategy::Birthday, Some(search));
        });
        world.signal(0, accepted(1));
        world.run(secs(15));
    }
    let sent = probes(&world).len();
    assert!(sent <= 4 * PROBES_MAX, "{sent} packets in five minutes");
}

#[test]
fn plans_in_quick_succession_do_not_quicken_a_search() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    world.signal(0, accepted(1));
    for number in 2..500 {
        world.run(ms(2));
        let search = Search { sockets: 1, ..search(Aim::Random, Announce::Nothing) };
        let plan = plan(number, Strategy::Birthday, Some(search));
        world.signal(0, ServerV1::Plan { session: SESSION, plan });
        world.signal(0, accepted(number));
    }
    let times: Vec<Duration> = probes(&world).iter().map(|sent| sent.at).collect();
    let most = most_in_a_second(&times);
    assert!(most <= PER_SECOND_MAX, "{most} in a second");
}

#[test]
fn a_session_whose_peer_moves_to_and_fro_does_not_search_again_and_again() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    world.signal(0, accepted(1));
    world.run(secs(1));
    for number in 2..60 {
        let last = if number % 2 == 0 { 10 } else { 11 };
        let at = SocketAddr::from(([198, 51, 100, last], 4000));
        let message = ServerV1::PeerCandidates {
            session: SESSION,
            generation: number,
            candidates: vec![Candidate::new(CandidateKind::ServerReflexive, at)],
            address_proof: AddressProof::Stun,
        };
        world.signal(0, message);
        let search = search(Aim::Random, Announce::Nothing);
        let plan = plan(number, Strategy::Birthday, Some(search));
        world.signal(0, ServerV1::Plan { session: SESSION, plan });
        world.signal(0, accepted(number));
        world.run(secs(1));
    }
    for target in [world.parties[1].told, address("198.51.100.10:1"), address("198.51.100.11:1")] {
        let sent = probes(&world);
        let toward = sent.iter().filter(|sent| sent.transmit.to.ip() == target.ip()).count();
        // Its first checks are none of the search.
        let most = PROBES_MAX + 26;
        assert!(toward > 0 && toward <= most, "{toward} packets to {target} in a minute");
    }
}
