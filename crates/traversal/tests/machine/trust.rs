//! Who is believed.

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_traversal::{Event, SessionEvent, SessionFailure};
use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::check::{
    CheckKey, CheckRequest, IceRole, ParsedCheck, encode_role_conflict, encode_success,
};
use holepunch_wire::credentials::Ufrag;
use holepunch_wire::stun::{TransactionId, binding_request};

use crate::world::{Sent, World, address, credentials};
use crate::{ms, secs};

/// One life of a session: link, an idle minute, the peer's death, the end. `strike` may do what a
/// stranger can do, every 40 ms; what the first machine has said and sent comes back.
fn life(strike: impl Fn(&mut World) -> usize) -> (Vec<(Duration, Event)>, Vec<Sent>) {
    let mut world = World::new();
    world.offer_both(|_, _| {});
    let mut strikes = 0;
    for step in 0..2500 {
        world.parties[1].is_dead = step > 1500;
        strikes += strike(&mut world);
        world.run(ms(40));
    }
    assert!(strikes == 0 || strikes > 1000, "{strikes} packets of strangers");
    let [party, _] = world.parties;
    let linked = party.has(|event| matches!(event, SessionEvent::Linked(_)));
    let lost = party.has(|event| *event == SessionEvent::Failed(SessionFailure::Lost));
    assert!(linked && lost, "the life is a whole one");
    (party.log, party.sent)
}

/// `strike` sends packets, and says how many.
fn assert_unmoved(strike: impl Fn(&mut World) -> usize) {
    let (quiet, struck) = (life(|_| 0), life(strike));
    assert_eq!(quiet.0, struck.0, "what it says is the same");
    assert_eq!(quiet.1, struck.1, "what it sends is the same");
}

fn stranger() -> SocketAddr {
    address("198.51.100.66:6666")
}

/// A request that names the session, with the peer's username fragment, made with `password`.
fn request(password: &str, role: IceRole) -> Vec<u8> {
    let [own, peer] = credentials();
    CheckRequest {
        transaction: TransactionId::from(0x1234_5678),
        remote_ufrag: own.ufrag(),
        local_ufrag: peer.ufrag(),
        priority: 1,
        role,
        tie_breaker: u64::MAX,
        use_candidate: true,
    }
    .encode(&CheckKey::new(password))
}

/// The numbers of the checks that the first machine has sent last.
fn awaited(world: &World) -> Vec<TransactionId> {
    let checks = world.parties[0].sent.iter().rev().filter(|sent| sent.is_check()).take(3);
    checks.filter_map(|sent| TransactionId::of(&sent.transmit.payload)).collect()
}

#[test]
fn stun_without_a_password_moves_nothing() {
    assert_unmoved(|world| {
        let peer = world.parties[1].told;
        for from in [peer, stranger()] {
            let request = binding_request(TransactionId::from(99));
            world.inject(0, from, &request);
            // An indication, and a message of another method.
            for kind in [0x11, 0x03] {
                let mut message = request.clone();
                message[1] = kind;
                world.inject(0, from, &message);
            }
        }
        6
    });
}

#[test]
fn a_check_with_a_wrong_password_moves_nothing() {
    assert_unmoved(|world| {
        let peer = world.parties[1].told;
        for from in [peer, stranger()] {
            for role in [IceRole::Controlling, IceRole::Controlled] {
                let before = world.parties[0].machine.dropped().unauthenticated;
                world.inject(0, from, &request("ThePasswordIsAnotherOne", role));
                // The peer's own password is not the one that checks to this side are made with.
                world.inject(0, from, &request(credentials()[1].password(), role));
                let dropped = world.parties[0].machine.dropped();
                let is_over = world.parties[0].machine.sessions(world.now).next().is_none();
                assert_eq!(dropped.unauthenticated - before, if is_over { 0 } else { 2 });
            }
        }
        8
    });
}

#[test]
fn a_check_for_a_session_that_is_not_there_moves_nothing() {
    assert_unmoved(|world| {
        let [own, peer] = credentials();
        let other = Ufrag::new("other").unwrap();
        let payload = CheckRequest {
            transaction: TransactionId::from(5),
            remote_ufrag: &other,
            local_ufrag: peer.ufrag(),
            priority: 1,
            role: IceRole::Controlled,
            tie_breaker: 1,
            use_candidate: false,
        }
        .encode(&own.check_key());
        world.inject(0, stranger(), &payload);
        1
    });
}

#[test]
fn an_answer_with_a_wrong_password_moves_nothing() {
    assert_unmoved(|world| {
        let (peer, key) = (world.parties[1].told, CheckKey::new("ThePasswordIsAnotherOne"));
        let awaited = awaited(world);
        for transaction in &awaited {
            let transaction = *transaction;
            for from in [peer, stranger()] {
                world.inject(0, from, &encode_success(transaction, stranger(), &key));
                world.inject(0, from, &encode_role_conflict(transaction, &key));
                // Without any password at all, as a STUN server answers.
                let mut bare = binding_request(transaction);
                bare[0] = 1;
                world.inject(0, from, &bare);
            }
        }
        6 * awaited.len()
    });
}

#[test]
fn an_answer_to_a_check_that_was_never_sent_moves_nothing() {
    assert_unmoved(|world| {
        let key = credentials()[1].check_key();
        let transaction = TransactionId::from(0xdead_beef);
        for from in [world.parties[1].told, stranger()] {
            world.inject(0, from, &encode_success(transaction, stranger(), &key));
            world.inject(0, from, &encode_role_conflict(transaction, &key));
        }
        4
    });
}

#[test]
fn an_answer_that_comes_twice_moves_nothing_the_second_time() {
    assert_unmoved(|world| {
        let answers: Vec<Vec<u8>> = world.parties[1]
            .sent
            .iter()
            .rev()
            .filter(|sent| sent.at + ms(100) < world.elapsed())
            .filter(|sent| !sent.is_check() && ParsedCheck::parse(&sent.transmit.payload).is_ok())
            .take(2)
            .map(|sent| sent.transmit.payload.clone())
            .collect();
        for answer in &answers {
            world.inject(0, world.parties[1].told, answer);
            world.inject(0, stranger(), answer);
        }
        2 * answers.len()
    });
}

#[test]
fn a_check_that_a_stranger_repeats_gets_few_packets_and_no_path() {
    let mut world = World::linked();
    let mut checks = world.parties[1].sent.iter().filter(|sent| sent.is_check());
    let check = checks.next_back().unwrap().transmit.payload.clone();
    for _ in 0..100 {
        world.inject(0, stranger(), &check);
        world.run(ms(100));
    }
    world.run(secs(30));
    let checks = world.parties[0].checks_to(stranger());
    // Those of the schedule, and as many that the repeated ones have triggered.
    assert!(checks <= 10, "{checks}");
    let path = world.parties[0].machine.sessions(world.now).next().unwrap().path.unwrap();
    assert_eq!(path.remote, world.parties[1].told);
}

#[test]
fn the_source_of_the_peers_checks_counts_more_than_what_was_advertised() {
    let mut world = World::new();
    let real = address("203.0.113.2:7777");
    *world.parties[1].sockets.first_entry().unwrap().get_mut() = real;
    world.offer_both(|_, _| {});
    world.run(secs(2));
    let path = world.parties[0].machine.sessions(world.now).next().unwrap().path.unwrap();
    assert_eq!((path.remote, path.kind), (real, CandidateKind::PeerReflexive));
    let linked = world.parties[0].when(|event| matches!(event, SessionEvent::Linked(_))).unwrap();
    assert!(linked <= secs(1) + ms(100), "{linked:?}, the offer came after a second");
    let path = world.parties[1].machine.sessions(world.now).next().unwrap().path.unwrap();
    assert_eq!(path.remote, world.parties[0].told);
}

#[test]
fn a_peer_that_moves_to_another_address_is_followed() {
    let mut world = World::linked();
    world.run(secs(12));
    let moved = address("203.0.113.2:8888");
    *world.parties[1].sockets.first_entry().unwrap().get_mut() = moved;
    world.run(secs(15));
    for (index, remote) in [(0, moved), (1, world.parties[0].told)] {
        let status = world.parties[index].machine.sessions(world.now).next().unwrap();
        assert_eq!(status.path.unwrap().remote, remote);
        assert!(!status.is_suspect);
    }
}
