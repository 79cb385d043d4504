//! How much is sent to whom.

use std::net::SocketAddr;

use holepunch_traversal::{Input, SessionEvent, SessionFailure};
use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{CANDIDATES_MAX, Candidate, CandidateKind};
use holepunch_wire::check::encode_role_conflict;
use holepunch_wire::plan::{Aim, Announce, Strategy};
use holepunch_wire::session::AddressProof;
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::stun::TransactionId;

use crate::world::{SESSION, World, address, credentials, peer_check, plan, search};
use crate::{ms, secs};

/// Checks to an address that nothing proves to be the peer's.
const UNPROVEN_MAX: usize = 5;
/// Checks to the endpoint: the schedule's, and an opener.
const ENDPOINT_MAX: usize = 26;

fn victim(n: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], u16::try_from(1000 + n).unwrap()))
}

fn victims(from: usize, count: usize) -> Vec<Candidate> {
    (from..from + count).map(|n| Candidate::new(CandidateKind::Host, victim(n))).collect()
}

#[test]
fn addresses_that_the_peer_names_get_five_checks_each_and_its_endpoint_twenty_six() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| {
        offer.details.candidates = victims(0, CANDIDATES_MAX);
        offer.details.plan.opener_ttl = Some(4);
    });
    world.run(secs(60));
    let party = &world.parties[0];
    for n in 0..CANDIDATES_MAX {
        assert_eq!(party.checks_to(victim(n)), UNPROVEN_MAX, "{n}");
    }
    let to_endpoint = party.checks_to(world.parties[1].told);
    assert!((20..=ENDPOINT_MAX).contains(&to_endpoint), "{to_endpoint}");
    assert!(party.has(|event| *event == SessionEvent::Failed(SessionFailure::Silence)));
}

#[test]
fn however_many_sets_of_addresses_come_few_are_checked() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    for generation in 1..=40 {
        let candidates = victims(usize::try_from(generation).unwrap() * 16, 16);
        let address_proof = AddressProof::None;
        let message =
            ServerV1::PeerCandidates { session: SESSION, generation, candidates, address_proof };
        world.signal(0, message);
        world.run(ms(100));
    }
    world.run(secs(30));
    let checked = (0..1000).filter(|n| world.parties[0].checks_to(victim(*n)) > 0).count();
    assert!(checked <= 24, "{checked} addresses");
    assert!((0..1000).all(|n| world.parties[0].checks_to(victim(n)) <= UNPROVEN_MAX));
}

#[test]
fn a_session_goes_on_when_sets_of_addresses_come_without_end() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    for generation in 1..=300 {
        let candidates = vec![Candidate::new(CandidateKind::ServerReflexive, victim(0))];
        let address_proof = AddressProof::Stun;
        let message =
            ServerV1::PeerCandidates { session: SESSION, generation, candidates, address_proof };
        world.signal(0, message);
        world.run(ms(100));
    }
    let failed = world.parties[0].when(|event| matches!(event, SessionEvent::Failed(_)));
    assert!(failed.is_some_and(|at| at <= secs(15)), "{failed:?}");
    assert!(world.parties[0].checks_to(victim(0)) <= ENDPOINT_MAX);
}

/// Checks while a path is repaired: what has never answered deserves no more than before.
#[test]
fn a_repair_sends_no_more_to_addresses_that_have_never_answered() {
    let mut world = World::new();
    world.offer_both(|index, offer| {
        if index == 0 {
            offer.details.candidates = victims(0, CANDIDATES_MAX);
        }
    });
    world.run(secs(5));
    world.parties[1].is_dead = true;
    world.run(secs(60));
    let party = &world.parties[0];
    assert!(party.has(|event| *event == SessionEvent::Failed(SessionFailure::Lost)));
    let most = (0..CANDIDATES_MAX).map(|n| party.checks_to(victim(n))).max().unwrap();
    assert!(most <= 2 * UNPROVEN_MAX, "{most} checks to one address that never answered");
    // The path itself is tried for as long as the peer's consent lasts: three times a second, so that data moves
    // within a second of its return.
    let since = world.elapsed() - secs(60);
    let peer = world.parties[1].told;
    let tried =
        party.sent.iter().filter(|sent| sent.at > since && sent.transmit.to == peer).count();
    assert!((60..=90).contains(&tried), "{tried}");
}

#[test]
fn a_relay_plan_sends_at_most_five_checks() {
    for with_search in [false, true] {
        let mut world = World::new();
        world.parties[1].is_dead = true;
        world.offer(0, |offer| {
            let search = with_search.then(|| search(Aim::Random, Announce::Nothing));
            offer.details.plan = plan(1, Strategy::Relay, search);
            offer.details.candidates = victims(0, CANDIDATES_MAX);
        });
        let accepted = ServerV1::PeerAccepted { session: SESSION, number: 1, ports: Vec::new() };
        world.signal(0, accepted);
        world.run(secs(30));
        let checks = world.parties[0].sent.iter().filter(|sent| sent.is_check()).count();
        assert!(checks <= 5, "with a search: {with_search}: {checks}");
        assert_eq!(world.parties[0].opened, 0, "with a search: {with_search}");
        assert!(world.parties[0].has(|event| matches!(event, SessionEvent::Verdict(_))));
    }
}

#[test]
fn an_idle_link_sends_one_packet_in_nine_seconds_from_each_side() {
    let mut world = World::linked();
    world.run(secs(5));
    let since = world.elapsed();
    world.run(secs(600));
    // The controlling side checks, and the other one answers.
    let peers = world.parties.each_ref().map(|party| party.told);
    let [checks, answers] = [(0, true), (1, false)].map(|(party, is_check)| {
        let sent = world.parties[party].sent.iter();
        let sent = sent.filter(|it| it.at > since && it.transmit.to == peers[1 - party]);
        let sent: Vec<_> = sent.inspect(|it| assert_eq!(it.is_check(), is_check)).collect();
        sent.iter().map(|sent| sent.at).collect::<Vec<_>>()
    });
    assert!((59..=67).contains(&checks.len()), "{}", checks.len());
    assert!(checks.len().abs_diff(answers.len()) <= 1, "{}", answers.len());
    for two in checks.windows(2) {
        let pause = two[1] - two[0];
        // The pause is counted from the answer.
        assert!((secs(9)..=ms(10_030)).contains(&pause), "{pause:?}");
    }
}

#[test]
fn the_controlling_side_alone_nominates() {
    let mut world = World::linked();
    world.run(secs(60));
    let nominations =
        |index: usize| world.parties[index].sent.iter().filter(|sent| sent.nominates()).count();
    assert!(nominations(0) > 0);
    assert_eq!(nominations(1), 0);
}

/// A minute with a peer that knows the password, but sends 100 checks a second from ever new
/// addresses, none of which answers.
fn restless_peer() -> World {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    for n in 0..RESTLESS {
        world.inject(0, victim(n), &peer_check(n as u128));
        world.run(ms(10));
    }
    world
}

const RESTLESS: usize = 6000;

#[test]
fn checks_from_ever_new_addresses_bring_about_few_to_them() {
    let party = &restless_peer().parties[0];
    let checks = (0..RESTLESS).map(|n| party.checks_to(victim(n))).sum::<usize>();
    assert!(checks <= 400, "{checks} checks to addresses that never answered");
}

#[test]
fn checks_from_ever_new_addresses_do_not_keep_a_session_for_ever() {
    let failed = restless_peer().parties[0].when(|event| matches!(event, SessionEvent::Failed(_)));
    assert!(failed.is_some_and(|at| at <= secs(30)), "{failed:?}");
}

#[test]
fn an_endpoint_where_no_single_host_answers_gets_nothing() {
    for text in ["224.0.0.1:5000", "255.255.255.255:5000", "0.0.0.0:5000", "198.51.100.1:0"] {
        let mut world = World::new();
        world.offer(0, |offer| {
            offer.endpoint = Some(address(text));
            offer.details.plan =
                plan(1, Strategy::Birthday, Some(search(Aim::Random, Announce::Nothing)));
            offer.details.plan.opener_ttl = Some(4);
        });
        world.signal(0, ServerV1::PeerAccepted { session: SESSION, number: 1, ports: Vec::new() });
        world.run(secs(30));
        let sent = world.parties[0].sent.iter().filter(|sent| sent.is_check()).count();
        assert_eq!(sent, 0, "{text}");
    }
}

#[test]
fn offers_come_to_no_more_than_one_a_second() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    for n in 0..1000_u64 {
        world.offer(0, |offer| offer.details.session = holepunch_wire::session::SessionId(n));
        world.run(ms(10));
    }
    let started =
        world.parties[0].session_events().filter(|(_, it)| matches!(it, SessionEvent::Started(_)));
    let count = started.count();
    assert!((10..=21).contains(&count), "{count} in ten seconds");
}

#[test]
fn a_worker_alone_sends_what_its_mapping_needs() {
    let mut world = World::new();
    world.input(0, Input::Registered);
    world.run(secs(600));
    let sent = world.parties[0].sent.len();
    assert!((60..=68).contains(&sent), "{sent}");
}

/// A peer that refuses every role.
#[test]
fn a_peer_that_refuses_every_check_gets_few() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |_| {});
    let (key, peer) = (credentials()[1].check_key(), world.parties[1].told);
    let mut refused = 0;
    for _ in 0..3000 {
        let checks: Vec<TransactionId> = world.parties[0].sent[refused..]
            .iter()
            .filter(|sent| sent.is_check())
            .filter_map(|sent| TransactionId::of(&sent.transmit.payload))
            .collect();
        refused = world.parties[0].sent.len();
        for transaction in checks {
            world.inject(0, peer, &encode_role_conflict(transaction, &key));
        }
        world.run(ms(10));
    }
    let checks = world.parties[0].checks_to(peer);
    assert!(checks <= 60, "{checks} checks in half a minute");
}

/// What the first machine sends when it runs again after two seconds in which it has not.
fn after_a_pause(mut world: World) -> usize {
    world.sleep(secs(2));
    let now = world.elapsed();
    world.parties[0].sent.iter().filter(|sent| sent.at == now).count()
}

#[test]
fn checks_that_were_missed_are_not_made_up_for() {
    let mut world = World::new();
    world.parties[1].is_dead = true;
    world.offer(0, |offer| offer.details.candidates = victims(0, 2));
    assert_eq!(after_a_pause(world), 3, "one for each address");
}

#[test]
fn pings_that_were_missed_are_not_made_up_for() {
    let mut world = World::new();
    let (peer, endpoint) = (WorkerId::new("b").unwrap(), world.parties[1].told);
    world.input(0, Input::Offer(Offer { peer, endpoint }));
    assert_eq!(after_a_pause(world), 1);
}
