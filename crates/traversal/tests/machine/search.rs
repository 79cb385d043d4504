//! Searches: when one is made, how large, and when it ends.

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_traversal::{Event, Input, SearchRefusal, SessionEvent, SessionFailure, SocketId};
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::check::encode_success;
use holepunch_wire::plan::{Aim, Announce, Search, Strategy};
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{ServerV1, WorkerV1};

use holepunch_wire::stun::TransactionId;

use crate::world::{SESSION, Sent, World, address, credentials, plan, search};
use crate::{ms, secs};

const SOCKETS_MAX: usize = 256;
const PROBES_MAX: usize = 2048;
const PER_SECOND_MAX: usize = 100;

const AIMS: [Aim; 4] = [
    Aim::Endpoint,
    Aim::Announced,
    Aim::Window { first: 1, last: u16::MAX, centre: 30_000 },
    Aim::Random,
];

fn accepted(number: u32) -> ServerV1 {
    ServerV1::PeerAccepted { session: SESSION, number, ports: (2000..2012).collect() }
}

/// A machine that is offered a dead peer, with this search.
fn offered(search: &Search) -> World {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| {
        offer.details.plan = plan(1, Strategy::Birthday, Some(search.clone()));
    });
    world
}

/// What the first machine has sent for its search: all but the checks between the two own sockets.
fn probes(world: &World) -> Vec<&Sent> {
    let endpoint = world.parties[1].told;
    let is_plain =
        |sent: &&Sent| sent.transmit.socket == SocketId::MAIN && sent.transmit.to == endpoint;
    let checks = world.parties[0].sent.iter().filter(|sent| sent.is_check());
    checks.filter(|sent| !is_plain(sent)).collect()
}

/// Most of these times within any one second.
fn most_in_a_second(times: &[Duration]) -> usize {
    let within =
        |from: Duration| times.iter().filter(|at| (from..from + secs(1)).contains(*at)).count();
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

#[test]
fn a_plan_that_asks_for_sixty_thousand_is_cut_back_to_the_bounds() {
    for aim in AIMS {
        let mut world = offered(&search(aim, Announce::Nothing));
        world.signal(0, accepted(1));
        world.run(secs(60));
        let sent = probes(&world);
        let times: Vec<Duration> = sent.iter().map(|sent| sent.at).collect();
        let party = &world.parties[0];
        assert!(party.opened < SOCKETS_MAX, "{aim:?}: {} sockets", party.opened);
        assert!(!sent.is_empty() && sent.len() <= PROBES_MAX, "{aim:?}: {} packets", sent.len());
        let most = most_in_a_second(&times);
        assert!(most <= PER_SECOND_MAX, "{aim:?}: {most} in a second");
        assert!(party.has(|it| *it == SessionEvent::Failed(SessionFailure::SearchExhausted)));
        assert_eq!(party.opened, party.closed, "{aim:?}");
    }
}

#[test]
fn the_whole_budget_is_used_where_the_plan_asks_for_it() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    world.signal(0, accepted(1));
    world.run(secs(60));
    assert_eq!(probes(&world).len(), PROBES_MAX);
    assert_eq!(world.parties[0].opened, SOCKETS_MAX - 1, "its own socket is one of them");
}

#[test]
fn a_plan_that_asks_for_nothing_sends_nothing() {
    let nothing = Search {
        sockets: 0,
        probes_max: 0,
        per_second: 0,
        ..search(Aim::Random, Announce::Nothing)
    };
    let mut world = offered(&nothing);
    world.signal(0, accepted(1));
    world.run(secs(60));
    assert_eq!(probes(&world).len(), 0);
    assert!(world.parties[0].has(|event| matches!(event, SessionEvent::Failed(_))));
}

#[test]
fn there_is_no_search_toward_an_address_that_nobody_vouches_for() {
    for aim in AIMS {
        let mut world = World::new();
        world.parties[1].is_dead = true;
        world.offer(0, |offer| {
            offer.details.address_proof = AddressProof::None;
            let search = search(aim, Announce::Nothing);
            offer.details.plan = plan(1, Strategy::Birthday, Some(search));
        });
        world.signal(0, accepted(1));
        world.run(secs(60));
        assert_eq!((probes(&world).len(), world.parties[0].opened), (0, 0), "{aim:?}");
        let refused = SessionEvent::SearchRefused(SearchRefusal::Unproven);
        assert!(world.parties[0].has(|event| *event == refused));
    }
}

#[test]
fn a_search_begins_only_when_both_have_accepted() {
    for aim in AIMS {
        let mut world = offered(&search(aim, Announce::LocalPorts));
        world.run(secs(3));
        let own = |(_, event): &(_, Event)| {
            matches!(event, Event::Signal(WorkerV1::PlanAccepted { number: 1, .. }))
        };
        assert_eq!(world.parties[0].log.iter().filter(|it| own(it)).count(), 1, "{aim:?}");
        assert_eq!(probes(&world).len(), 0, "{aim:?}: before the peer has accepted");
        // The acceptance of another plan is none of this one.
        world.signal(0, accepted(2));
        world.run(secs(1));
        assert_eq!(probes(&world).len(), 0, "{aim:?}: the peer has accepted another plan");
        world.signal(0, accepted(1));
        world.run(secs(1));
        assert!(!probes(&world).is_empty(), "{aim:?}: both have accepted");
    }
}

#[test]
fn an_acceptance_that_comes_before_the_plan_counts() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    world.signal(0, accepted(2));
    world.run(ms(100));
    let search = search(Aim::Random, Announce::Nothing);
    let plan = plan(2, Strategy::Birthday, Some(search));
    world.signal(0, ServerV1::Plan { session: SESSION, plan });
    world.run(secs(1));
    assert!(!probes(&world).is_empty());
}

#[test]
fn a_search_whose_peer_never_accepts_is_given_up() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    world.run(secs(40));
    assert!(world.parties[0].has(|event| matches!(event, SessionEvent::Failed(_))));
    assert_eq!(world.parties[0].opened, world.parties[0].closed);
    assert_eq!(probes(&world).len(), 0);
}

#[test]
fn a_search_without_any_socket_comes_to_an_end() {
    for aim in AIMS {
        let mut world = World::new();
        world.parties[1].is_dead = true;
        world.parties[0].can_open = false;
        world.offer(0, |offer| {
            let search = Search { fresh: true, ..search(aim, Announce::LocalPorts) };
            offer.details.plan = plan(1, Strategy::Preserved, Some(search));
        });
        world.signal(0, accepted(1));
        world.run(secs(60));
        assert_eq!(probes(&world).len(), 0, "{aim:?}");
        let failed = world.parties[0].has(|event| matches!(event, SessionEvent::Failed(_)));
        assert!(failed, "{aim:?}");
        assert!(world.parties[0].opened <= SOCKETS_MAX, "{aim:?}: {}", world.parties[0].opened);
    }
}

/// The second machine's socket is at another port than was told: only a search finds it.
fn hidden() -> World {
    let mut world = World::new();
    world.parties[0].told = address("203.0.113.1:4999");
    world.parties[1].told = address("203.0.113.2:4999");
    let real = address("203.0.113.2:5050");
    *world.parties[1].sockets.first_entry().unwrap().get_mut() = real;
    world
}

#[test]
fn a_search_stops_at_success_and_closes_its_sockets() {
    let mut world = hidden();
    world.offer_both(|index, offer| {
        let aim = Aim::Window { first: 5000, last: 5999, centre: 5000 };
        let search = Search { sockets: 8, ..search(aim, Announce::Nothing) };
        offer.details.plan = plan(1, Strategy::Sweep, (index == 0).then_some(search));
    });
    world.signal(0, accepted(1));
    world.run(secs(90));
    let party = &world.parties[0];
    let linked = party.when(|event| matches!(event, SessionEvent::Linked(_))).unwrap();
    let sent = probes(&world);
    let after = |sent: &&&Sent| sent.at > linked && sent.transmit.to != address("203.0.113.2:5050");
    assert_eq!(sent.iter().filter(after).count(), 0, "no packet of the search after the link");
    assert!(sent.len() < 1000, "{}", sent.len());
    assert!(party.opened == 7 && party.fresh_sockets() <= 7);
    let path = party.machine.sessions(world.now).next().unwrap().path.unwrap();
    assert_eq!(path.remote, address("203.0.113.2:5050"));
    let kept: Vec<SocketId> = party.sockets.keys().copied().collect();
    assert!(kept.iter().all(|it| *it == SocketId::MAIN || *it == path.socket), "{kept:?}");
}

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
    world.signal(0, ServerV1::SessionEnded { session: id, reason: String::new() });
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

#[test]
fn an_answer_on_another_socket_than_its_check_left_from_does_not_count() {
    let mut world = offered(&Search { sockets: 2, ..search(Aim::Endpoint, Announce::Nothing) });
    world.signal(0, accepted(1));
    world.run(secs(1));
    let fresh = probes(&world)[0].transmit.clone();
    let transaction = TransactionId::of(&fresh.payload).unwrap();
    let (peer, key) = (world.parties[1].told, credentials()[1].check_key());
    let answer = encode_success(transaction, address("198.51.100.1:1"), &key);
    world.inject(0, peer, &answer);
    world.run(secs(1));
    assert!(!world.parties[0].has(|event| matches!(event, SessionEvent::Linked(_))));
    world.input(0, Input::Datagram { socket: fresh.socket, from: peer, payload: &answer });
    assert!(world.parties[0].has(|event| matches!(event, SessionEvent::Linked(_))));
}
