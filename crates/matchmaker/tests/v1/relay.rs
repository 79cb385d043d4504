//! What opens the relay of a session, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Card, CardV1, Command, ConnectionId, Effect, Halls, Held, InstanceId, Over, Protocol, Resumes,
    Room, Seat,
};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::relay::{RELAY_TOKEN_LIFETIME, RelayAccess, RelayTokenRefusal};
use holepunch_wire::session::{RelayToken, RoomMode, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionDetails};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::table::{Table, UNIX_S, relay_key};

/// Two workers with a key each, and what they are offered.
fn linked(mut table: Table) -> (Table, [SessionDetails; 2]) {
    table.v1(&[1, 2], "");
    for number in [1, 2] {
        tell_key(&mut table, number);
        table.report(number);
    }
    let offers = [1, 2].map(|number| table.offers(number)[0].details.clone());
    (table, offers)
}

/// Each worker has a key of its own.
fn tell_key(table: &mut Table, number: u64) {
    let key = PublicKey::from_bytes([u8::try_from(number).unwrap(); 32]);
    let hello = format!(r#"{{"type":"hello","key":"{key}"}}"#);
    table.say_proving(number, &hello, Some(key));
}

/// The tokens that a connection has been sent beside its offer.
fn renewed(table: &Table, connection: u64, of: SessionId) -> Vec<RelayToken> {
    let token = |it| match it {
        ServerV1::RelayToken { session, token } if session == of => Some(token),
        _ => None,
    };
    table.v1_messages(connection).into_iter().filter_map(token).collect()
}

#[test]
fn each_of_the_two_has_a_token_of_its_own_that_the_relay_knows_by_itself() {
    let (_, offers) = linked(Table::with_relay(None));
    for (own, offer) in offers.iter().enumerate() {
        assert_eq!(offer.relay_url, None);
        let token = offer.relay_token.as_ref().unwrap();
        let until = UNIX_S + RELAY_TOKEN_LIFETIME.as_secs();
        assert_eq!(relay_key().side(offer.session, token, until), Ok((own, None)));
        let late = relay_key().side(offer.session, token, until + 1);
        assert_eq!(late, Err(RelayTokenRefusal::Expired { ago_s: 1 }));
    }
}

#[test]
fn a_relay_elsewhere_is_named_to_both() {
    let (_, offers) = linked(Table::with_relay(Some("https://r.example")));
    for offer in offers {
        assert!(offer.relay_token.is_some());
        assert_eq!(offer.relay_url.as_deref(), Some("https://r.example"));
    }
}

#[test]
fn a_session_that_lasts_gets_fresh_tokens_at_half_time() {
    let (mut table, [offer, _]) = linked(Table::with_relay(None));
    table.state(1, offer.session, "relayed", "plain", 1);
    let half = RELAY_TOKEN_LIFETIME / 2;
    table.pass(half - Duration::from_secs(60));
    assert_eq!(renewed(&table, 1, offer.session), []);
    table.pass(Duration::from_secs(120) + half);
    for (own, connection) in [(0, 1), (1, 2)] {
        let [_, newest] = &renewed(&table, connection, offer.session)[..] else {
            panic!("two by now")
        };
        let until = UNIX_S + 2 * RELAY_TOKEN_LIFETIME.as_secs();
        assert_eq!(relay_key().side(offer.session, newest, until), Ok((own, None)));
    }
}

#[test]
fn whoever_is_away_meanwhile_gets_one_with_the_session() {
    let (mut table, [offer, _]) = linked(Table::with_relay(None));
    table.state(1, offer.session, "direct", "plain", 1);
    table.pass(RELAY_TOKEN_LIFETIME / 2 - Duration::from_secs(10));
    let token = table.welcome(1).resume;
    table.close(1);
    table.pass(Duration::from_secs(20));
    assert_eq!(renewed(&table, 2, offer.session).len(), 1);
    table.connect_as(9, 1, Protocol::V1, "");
    let key = PublicKey::from_bytes([1; 32]);
    let hello = format!(r#"{{"type":"hello","key":"{key}","resume":"{token}"}}"#);
    table.say_proving(9, &hello, Some(key));
    let [fresh] = &renewed(&table, 9, offer.session)[..] else { panic!("one") };
    let until = UNIX_S + RELAY_TOKEN_LIFETIME.as_secs() + 60;
    assert_eq!(relay_key().side(offer.session, fresh, until), Ok((0, None)));
}

/// What a desk tells a hall that has just been taken over: its worker, and the session that it is in.
fn rejoining(own: usize) -> Command {
    let worker = |own: usize| WorkerId::new(&format!("w{own}")).unwrap();
    let key = Some(PublicKey::from_bytes([u8::try_from(own).unwrap(); 32]));
    let card = Card {
        order: 0,
        version: 0,
        worker: worker(own),
        observed: [192, 0, 2, 1].into(),
        endpoint: None,
        overdue: false,
        rtt: None,
        pinged: None,
        elsewhere: 0,
        relay_bytes: None,
        v1: Some(Box::new(CardV1 { key, ..CardV1::default() })),
    };
    let held = Held {
        was_waiting: true,
        session: SessionId(7),
        own,
        peer: worker(1 - own),
        plan: Plan::new(Strategy::Plain, "as before"),
        direct: true,
        relayed: false,
        is_recovered: false,
    };
    let member = Some((RoomMode::Pair, false));
    Command::Rejoin {
        card: Arc::new(card),
        member,
        sessions: vec![held],
        over: Over::default(),
        resumes: Resumes::Nothing,
    }
}

#[test]
fn a_session_that_was_taken_over_gets_fresh_tokens_once_both_are_known() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let relay = RelayAccess { key: relay_key(), url: None, udp: Vec::new() };
    let mut halls = Halls::new(Some(relay), StdRng::seed_from_u64(1));
    halls.wall_clock(Duration::from_secs(UNIX_S), now);
    let mut told = Vec::new();
    for own in [0, 1] {
        let connection = ConnectionId(own as u64);
        let seat = Seat { instance: InstanceId(1), connection };
        halls.command(&Room::default(), seat, rejoining(own), now);
        while let Some((_, to, effect)) = halls.poll_effect() {
            if let Effect::Say(ServerV1::RelayToken { session, token }) = effect {
                assert_eq!(own, 1, "the other one is not there yet");
                told.push((to.connection.0, relay_key().side(session, &token, UNIX_S)));
            }
        }
    }
    assert_eq!(told, [(0, Ok((0, None))), (1, Ok((1, None)))]);
}

#[test]
fn a_session_that_has_ended_is_renewed_no_more() {
    let (mut table, [offer, _]) = linked(Table::with_relay(None));
    table.say(2, &format!(r#"{{"type":"leave","session":"{}"}}"#, offer.session));
    table.pass(RELAY_TOKEN_LIFETIME);
    assert_eq!(renewed(&table, 1, offer.session), []);
}

#[test]
fn there_is_no_token_without_both_keys() {
    let mut table = Table::with_relay(Some("https://r.example"));
    table.v1(&[1, 2], "");
    tell_key(&mut table, 1);
    table.report(1);
    table.report(2);
    let offers = [1, 2].map(|number| table.offers(number)[0].details.clone());
    assert!(offers.iter().all(|it| it.relay_token.is_none() && it.relay_url.is_none()));
}

#[test]
fn there_is_none_without_a_relay() {
    let (_, offers) = linked(Table::new());
    assert!(offers.iter().all(|offer| offer.relay_token.is_none()));
}
