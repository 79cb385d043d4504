//! Paths that are answered from another address than is sent to.

use std::net::SocketAddr;

use holepunch_traversal::{Event, Input, SessionEvent, SocketId};
use holepunch_wire::WorkerId;
use holepunch_wire::check::{Check, ParsedCheck, encode_success};
use holepunch_wire::credentials::{IceCredentials, RANDOM_BYTES};
use holepunch_wire::session::SessionId;
use holepunch_wire::stun::TransactionId;

use crate::secs;
use crate::world::{SESSION, World, address, peer_check};

/// What is sent there is answered from here, as far as the first machine has said.
fn source(world: &World, session: SessionId, to: SocketAddr) -> Option<SocketAddr> {
    let said = world.parties[0].log.iter().rev().find_map(|(_, event)| match event {
        Event::Session(of, _, SessionEvent::AnswersFrom(SocketId::MAIN, at, source))
            if (*of, *at) == (session, to) =>
        {
            Some(*source)
        }
        _ => None,
    });
    said.flatten()
}

#[test]
fn nats_that_give_each_destination_a_port_have_one_path_that_stays() {
    let mut world = World::behind_hard_nats();
    world.offer_both(|_, _| {});
    // The mappings that the first checks have made are forgotten by then.
    world.run(secs(60));
    let made = world.hard_nats().made;
    world.run(secs(1200));
    assert_eq!(world.hard_nats().made, made, "no further mapping is made");
    for party in &world.parties {
        assert!(party.has(|event| matches!(event, SessionEvent::Linked(_))));
        assert!(!party.has(|event| matches!(event, SessionEvent::Suspect(_))));
    }
    let path = |index: usize| {
        let party = &world.parties[index];
        party.machine.sessions(world.now).next().and_then(|it| it.path).unwrap().remote
    };
    let told = world.parties[1].told;
    assert_eq!(path(0), told, "the peer keeps its endpoint open by STUN");
    let nats = world.hard_nats();
    assert_eq!(Some(path(1)), nats.outside((0, SocketId::MAIN, told)), "it answers there");
    let answers_from = nats.outside((1, SocketId::MAIN, path(1)));
    assert_ne!(answers_from, Some(told));
    assert_eq!(source(&world, SESSION, told), answers_from);
}

#[test]
fn a_path_that_is_answered_from_where_it_leads_has_no_other_source() {
    let mut world = World::linked();
    world.run(secs(60));
    let [party, _] = world.parties;
    assert!(!party.has(|event| matches!(event, SessionEvent::AnswersFrom(..))));
}

const OTHER: SessionId = SessionId(2);

fn other_credentials() -> [IceCredentials; 2] {
    [3, 4].map(|byte| IceCredentials::from_random([byte; RANDOM_BYTES]))
}

fn other_endpoint() -> SocketAddr {
    address("203.0.113.77:7000")
}

/// A linked session, and one with another peer that has answered nothing.
fn two_sessions() -> World {
    let mut world = World::linked();
    let [own, peer] = other_credentials();
    let mut offer = world.offer_for(0);
    offer.peer = WorkerId::new("c").unwrap();
    offer.endpoint = Some(other_endpoint());
    offer.details.session = OTHER;
    (offer.details.credentials, offer.details.peer_credentials) = (own, peer);
    world.input(0, Input::SessionOffer(Box::new(offer)));
    world
}

/// The other peer answers the last check to it, and the answer comes from there.
fn answer(world: &mut World, from: SocketAddr) {
    let [_, peer] = other_credentials();
    let is_to_it = |payload: &[u8]| {
        let parsed = ParsedCheck::parse(payload);
        parsed.is_ok_and(|it| match it.check {
            Check::Request { username, .. } => username.receiver() == peer.ufrag().as_str(),
            _ => false,
        })
    };
    let mut sent = world.parties[0].sent.iter().rev();
    let check = sent.find(|sent| is_to_it(&sent.transmit.payload)).unwrap();
    let transaction = TransactionId::of(&check.transmit.payload).unwrap();
    assert_eq!(check.transmit.to, other_endpoint());
    world.inject(0, from, &encode_success(transaction, from, &peer.check_key()));
}

#[test]
fn an_answer_from_where_nobody_else_is_tells_the_source() {
    let mut world = two_sessions();
    answer(&mut world, address("203.0.113.77:7001"));
    assert_eq!(source(&world, OTHER, other_endpoint()), Some(address("203.0.113.77:7001")));
}

#[test]
fn what_comes_from_another_peer_belongs_to_no_path_of_this_one() {
    let mut world = two_sessions();
    let taken = world.parties[1].told;
    answer(&mut world, taken);
    assert!(world.parties[0].has(|event| matches!(
        event,
        SessionEvent::Linked(path) if path.remote == other_endpoint()
    )));
    assert_eq!(source(&world, OTHER, other_endpoint()), None);
}

#[test]
fn a_source_at_which_another_peer_shows_itself_is_given_up() {
    let mut world = two_sessions();
    let moved_to = address("203.0.113.2:9000");
    answer(&mut world, moved_to);
    assert_eq!(source(&world, OTHER, other_endpoint()), Some(moved_to));
    world.inject(0, moved_to, &peer_check(77));
    assert_eq!(source(&world, OTHER, other_endpoint()), None);
}
