//! Searches: when one is made, how large, and when it ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use holepunch_traversal::{Event, Input, SearchRefusal, SessionEvent, SessionFailure, SocketId};
use holepunch_wire::check::encode_success;
use holepunch_wire::plan::{Aim, Announce, Plan, Search, Strategy};
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{ServerV1, WorkerV1};
use holepunch_wire::stun::TransactionId;

use crate::world::{SESSION, Sent, World, address, credentials, peer_check, plan, search};
use crate::{ms, secs};

const SOCKETS_MAX: usize = 256;
pub(crate) const PROBES_MAX: usize = 2048;
pub(crate) const PER_SECOND_MAX: usize = 100;

const AIMS: [Aim; 6] = [
    Aim::Endpoint,
    Aim::Observed,
    Aim::FreshPort,
    Aim::Announced,
    Aim::Window { first: 1, last: u16::MAX, centre: 30_000 },
    Aim::Random,
];

pub(crate) fn accepted(number: u32) -> ServerV1 {
    ServerV1::PeerAccepted { session: SESSION, number, ports: (2000..2012).collect() }
}

/// A machine that is offered a dead peer, with this search.
pub(crate) fn offered(search: &Search) -> World {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| {
        offer.details.plan = plan(1, Strategy::Birthday, Some(search.clone()));
    });
    world
}

/// What the first machine has sent for its search: all but the checks between the two own sockets.
pub(crate) fn probes(world: &World) -> Vec<&Sent> {
    let endpoint = world.parties[1].told;
    let is_plain =
        |sent: &&Sent| sent.transmit.socket == SocketId::MAIN && sent.transmit.to == endpoint;
    let checks = world.parties[0].sent.iter().filter(|sent| sent.is_check());
    checks.filter(|sent| !is_plain(sent)).collect()
}

/// Most of these times within any one second.
pub(crate) fn most_in_a_second(times: &[Duration]) -> usize {
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
fn a_search_whose_machine_is_called_late_makes_up_for_it_within_its_pace() {
    for aim in [Aim::Random, Aim::Endpoint] {
        let mut world = offered(&search(aim, Announce::Nothing));
        world.signal(0, accepted(1));
        for _ in 0..20 {
            world.sleep(ms(300));
        }
        let times: Vec<Duration> = probes(&world).iter().map(|sent| sent.at).collect();
        let (sent, most) = (times.len(), most_in_a_second(&times));
        assert!(most <= PER_SECOND_MAX, "{aim:?}: {most} in a second");
        // The many sockets that aim at one endpoint are 256.
        let least = if aim == Aim::Random { 500 } else { SOCKETS_MAX - 1 };
        assert!(sent >= least, "{aim:?}: {sent} packets in 6 s");
    }
}

#[test]
fn a_search_that_slept_sends_no_more_at_once_than_half_a_second_of_it() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    world.signal(0, accepted(1));
    world.run(secs(1));
    let before = probes(&world).len();
    world.sleep(secs(10));
    let sent = probes(&world).len() - before;
    assert!((40..=PER_SECOND_MAX / 2 + 2).contains(&sent), "{sent} packets");
}

#[test]
fn a_plan_that_waits_for_a_measurement_is_not_ended_by_the_checks_beside_it() {
    let fails_after = |strategy| {
        let mut world = World::new();
        world.parties[1].is_dead = true;
        world.offer(0, |offer| offer.details.plan = plan(1, strategy, None));
        let offered = world.elapsed();
        world.run(secs(20));
        let failed = world.parties[0].when(|event| matches!(event, SessionEvent::Failed(_)));
        failed.unwrap() - offered
    };
    assert_eq!(fails_after(Strategy::Plain), secs(11));
    assert_eq!(fails_after(Strategy::TestReuse), secs(15));
}

#[test]
fn another_plan_of_a_search_for_announced_ports_begins_anew_with_other_sockets() {
    let search = Search { sockets: 2, fresh: true, ..search(Aim::Announced, Announce::LocalPorts) };
    let with = |number, ttl| {
        let plan = plan(number, Strategy::Preserved, Some(search.clone()));
        Plan { opener_ttl: Some(ttl), delay_ms: 20, ..plan }
    };
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| offer.details.plan = with(1, 4));
    world.signal(0, accepted(1));
    world.run(ms(100));
    world.signal(0, ServerV1::Plan { session: SESSION, plan: with(2, 2) });
    world.signal(0, accepted(2));
    world.run(ms(100));
    let ttls: BTreeSet<_> =
        probes(&world).iter().map(|sent| (sent.transmit.socket, sent.transmit.ttl)).collect();
    assert_eq!(ttls.iter().filter(|(_, ttl)| *ttl == Some(2)).count(), 2, "{ttls:?}");
    let sockets: BTreeSet<_> = ttls.iter().map(|(socket, _)| *socket).collect();
    assert_eq!(sockets.len(), 4, "those of the first plan may have been met by early packets");
}

/// A search from five sockets to one endpoint, whose first packets are to go no further than these hops.
fn with_opener(number: u32, delay_ms: u32) -> Plan {
    let search = Search { sockets: 5, ..search(Aim::Endpoint, Announce::Nothing) };
    let plan = plan(number, Strategy::Birthday, Some(search));
    Plan { opener_ttl: Some(4), delay_ms, ..plan }
}

/// Runs that search. The numbers of packets of its fresh sockets that go so far, and of the others.
fn far_and_near(world: &mut World) -> (usize, usize) {
    let before = probes(world).len();
    world.run(secs(7));
    let near = |sent: &&&Sent| sent.transmit.ttl == Some(4);
    let sent = probes(world).split_off(before);
    (sent.iter().filter(|it| !near(it)).count(), sent.iter().filter(near).count())
}

#[test]
fn a_plan_that_holds_nothing_back_has_one_opener_for_each_socket() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| offer.details.plan = with_opener(1, 0));
    world.signal(0, accepted(1));
    assert_eq!(far_and_near(&mut world), (4, 4), "one of the five is the own socket");
}

#[test]
fn a_search_goes_on_under_another_plan_that_wants_it_and_knows_more() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| offer.details.plan = with_opener(1, 0));
    world.signal(0, accepted(1));
    world.run(secs(1));
    let opened = world.parties[0].opened;
    world.signal(0, ServerV1::Plan { session: SESSION, plan: with_opener(2, 20) });
    let has_accepted = world.parties[0]
        .log
        .iter()
        .any(|(_, event)| matches!(event, Event::Signal(WorkerV1::PlanAccepted { number: 2, .. })));
    assert!(has_accepted, "the rendezvous is to know that both make it");
    let (far, near) = far_and_near(&mut world);
    assert_eq!((far, near), (0, 4), "now all packets are openers");
    assert_eq!((world.parties[0].opened, world.parties[0].closed), (opened, 0));
    let other = Plan { search: Some(search(Aim::Random, Announce::Nothing)), ..with_opener(3, 20) };
    world.signal(0, ServerV1::Plan { session: SESSION, plan: other });
    world.run(secs(1));
    assert_eq!(world.parties[0].closed, opened, "another search has sockets of its own");
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
    // Its budget is untouched.
    let failed = SessionEvent::Failed(SessionFailure::SearchUnready);
    assert!(world.parties[0].has(|event| *event == failed));
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

#[test]
fn a_search_that_has_no_server_to_ask_comes_to_an_end() {
    for announce in [Announce::NextPorts, Announce::SkewedPorts, Announce::FreshPort] {
        let mut world = offered(&Search { sockets: 4, ..search(Aim::Announced, announce) });
        world.run(secs(15));
        assert!(world.parties[0].has(|event| matches!(event, SessionEvent::Failed(_))));
        assert_eq!((probes(&world).len(), world.parties[0].fresh_sockets()), (0, 0));
    }
}

#[test]
fn a_plan_that_replaces_another_takes_no_more_sockets_than_one() {
    let mut world = offered(&search(Aim::Random, Announce::Nothing));
    for number in 2..10 {
        let plan = plan(number, Strategy::Birthday, Some(search(Aim::Random, Announce::Nothing)));
        world.signal(0, ServerV1::Plan { session: SESSION, plan });
        world.run(ms(100));
    }
    assert_eq!(world.parties[0].fresh_sockets(), SOCKETS_MAX - 1, "the last plan has all of its");
    assert!(world.parties[0].open_most <= SOCKETS_MAX, "{}", world.parties[0].open_most);
}

#[test]
fn searches_that_follow_each_other_take_no_more_sockets_than_one() {
    let mut world = World::new();
    world.offer_both(|index, offer| {
        if index == 0 {
            let search = search(Aim::Random, Announce::Nothing);
            offer.details.plan = plan(1, Strategy::Birthday, Some(search));
        }
    });
    world.run(ms(200));
    assert!(world.parties[0].has(|event| matches!(event, SessionEvent::Linked(_))));
    for number in 2..10 {
        let search = search(Aim::Random, Announce::Nothing);
        world.offer(0, |offer| {
            offer.details.session = SessionId(u64::from(number));
            offer.endpoint = Some(SocketAddr::from(([198, 51, 100, number], 4000)));
            offer.details.plan = plan(1, Strategy::Birthday, Some(search.clone()));
        });
        world.run(ms(100));
    }
    assert!(world.parties[0].open_most <= SOCKETS_MAX, "{}", world.parties[0].open_most);
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

/// A check of the second machine's, from there to that socket of the first one.
fn peer_checks(world: &mut World, socket: SocketId, from: SocketAddr) {
    let payload = peer_check(77);
    world.input(0, Input::Datagram { socket, from, payload: &payload });
}

#[test]
fn many_sockets_turn_to_the_port_that_the_peer_is_seen_at() {
    let mut world = offered(&Search { sockets: 20, ..search(Aim::Observed, Announce::Nothing) });
    world.signal(0, accepted(1));
    world.run(Duration::from_millis(100));
    let (told, seen) = (world.parties[1].told, address("203.0.113.2:7777"));
    assert_eq!(told.ip(), seen.ip());
    assert!(probes(&world).iter().all(|sent| sent.transmit.to == told));
    let before = probes(&world).len();
    assert!((5..20).contains(&before), "{before}");
    // Another host is nobody to turn to, nor is a packet without the code.
    peer_checks(&mut world, SocketId::MAIN, address("203.0.113.9:7777"));
    world.input(0, Input::Datagram { socket: SocketId::MAIN, from: seen, payload: b"PING" });
    world.run(Duration::from_millis(50));
    let sockets = |world: &World, to: SocketAddr| {
        let to = probes(world).into_iter().filter(|sent| sent.transmit.to == to);
        to.map(|sent| sent.transmit.socket).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(sockets(&world, seen), 0);
    peer_checks(&mut world, SocketId::MAIN, seen);
    world.run(secs(1));
    assert_eq!(sockets(&world, seen), 20, "each of them, those that opened later as well");
    let most = most_in_a_second(&probes(&world).iter().map(|it| it.at).collect::<Vec<_>>());
    assert!(most <= PER_SECOND_MAX, "{most}");
}

#[test]
fn a_socket_on_which_the_peer_was_heard_outlives_its_plan() {
    let mut world = offered(&Search { sockets: 8, ..search(Aim::Endpoint, Announce::Nothing) });
    world.signal(0, accepted(1));
    world.run(secs(1));
    let heard = *world.parties[0].sockets.keys().next_back().unwrap();
    peer_checks(&mut world, heard, address("203.0.113.2:7777"));
    let plan = plan(2, Strategy::Plain, None);
    world.signal(0, ServerV1::Plan { session: SESSION, plan });
    world.run(secs(1));
    let kept: Vec<SocketId> = world.parties[0].sockets.keys().copied().collect();
    assert_eq!(kept, [SocketId::MAIN, heard]);
    world.run(secs(5));
    assert_eq!(world.parties[0].fresh_sockets(), 0, "but not for ever");
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

#[test]
fn an_answer_that_was_read_from_a_socket_before_it_was_closed_does_not_count() {
    let mut world = offered(&Search { sockets: 2, ..search(Aim::Endpoint, Announce::Nothing) });
    world.signal(0, accepted(1));
    world.run(secs(1));
    let fresh = probes(&world)[0].transmit.clone();
    let transaction = TransactionId::of(&fresh.payload).unwrap();
    // The search ends, but the session has not been left yet.
    world.run(secs(29));
    assert_eq!(world.parties[0].fresh_sockets(), 0);
    assert_eq!(world.parties[0].machine.sessions(world.now).count(), 1);
    let (from, key) = (world.parties[1].told, credentials()[1].check_key());
    let payload = encode_success(transaction, address("198.51.100.1:1"), &key);
    world.input(0, Input::Datagram { socket: fresh.socket, from, payload: &payload });
    assert!(!world.parties[0].has(|event| matches!(event, SessionEvent::Linked(_))));
}

#[test]
fn a_search_that_no_socket_can_be_opened_for_is_refused_for_that_reason() {
    let specs = [
        Search { sockets: 3, fresh: true, ..search(Aim::Endpoint, Announce::Nothing) },
        Search { sockets: 3, fresh: true, ..search(Aim::Announced, Announce::LocalPorts) },
        Search { sockets: 1, ..search(Aim::Announced, Announce::NextPorts) },
        Search { sockets: 1, fresh: true, ..search(Aim::FreshPort, Announce::FreshPort) },
    ];
    for spec in specs {
        let mut world = World::new();
        world.parties[1].is_dead = true;
        world.parties[0].can_open = false;
        world.offer(0, |offer| {
            offer.details.plan = plan(1, Strategy::Birthday, Some(spec.clone()));
        });
        world.signal(0, accepted(1));
        world.run(secs(1));
        let party = &world.parties[0];
        let refusal = SessionEvent::SearchRefused(SearchRefusal::NoSocket);
        assert!(party.has(|event| *event == refusal), "{spec:?}");
        assert!(party.opened <= 3, "{spec:?}: {} attempts", party.opened);
    }
}
