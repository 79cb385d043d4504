//! Workers of several tenants, and what a worker's permit lets it do.

use std::time::Duration;

use holepunch_matchmaker::{Event, Patterns, Permit, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::session::RoomMode;
use holepunch_wire::tenant::Tenant;

use crate::table::{Table, UNIX_S, relay_key};

fn of(tenant: &str) -> Permit {
    Permit { tenant: Tenant::new(tenant).unwrap(), ..Permit::default() }
}

fn enter(table: &mut Table, number: u64, id: &str, room: &str, permit: Permit) {
    let worker = WorkerId::new(id).unwrap();
    table.connect_with((number, number), worker, Protocol::V1, room, permit);
}

fn offers(table: &Table, number: u64) -> Vec<String> {
    let frames = table.frames.get(&number).into_iter().flatten();
    frames.filter(|text| text.contains("\"p2p_connection_offer\"")).cloned().collect()
}

#[test]
fn two_tenants_have_the_same_ids_and_rooms_and_never_meet() {
    let mut table = Table::new();
    for (number, id, permit) in [
        (1, "a", of("one")),
        (2, "a", of("two")),
        (3, "a", Permit::default()),
        (4, "b", of("one")),
        (5, "b", of("two")),
    ] {
        enter(&mut table, number, id, "r", permit);
        table.say(number, r#"{"type":"hello","room":"r"}"#);
        table.report(number);
    }
    assert!(table.closes.is_empty(), "nobody takes the id of another tenant: {:?}", table.closes);
    assert!(offers(&table, 3).is_empty(), "it is alone in its tenant");
    for (own, other) in [(1, 4), (4, 1), (2, 5), (5, 2)] {
        let offered = offers(&table, own);
        let [offer] = &offered[..] else { panic!("{own}: {offered:?}") };
        let ip = format!("203.0.113.{other}");
        assert!(offer.contains(&ip) && !offer.contains("one") && !offer.contains("two"), "{offer}");
    }
    table.close(1);
    let late = |table: &Table, number| offers(table, number).len();
    enter(&mut table, 6, "c", "r", of("two"));
    table.report(6);
    assert_eq!((late(&table, 4), late(&table, 6)), (1, 0), "the peer of another tenant is none");
}

#[test]
fn a_call_finds_nobody_of_another_tenant() {
    let mut table = Table::new();
    enter(&mut table, 1, "called", "calls", of("one"));
    table.say(1, r#"{"type":"hello","room":"calls","mode":"call","callable":true}"#);
    table.report(1);
    enter(&mut table, 2, "stranger", "s", of("two"));
    enter(&mut table, 3, "friend", "s", of("one"));
    for caller in [2, 3] {
        table.say(caller, r#"{"type":"hello","room":"s"}"#);
        table.report(caller);
        table.say(caller, r#"{"type":"call","peer":"called"}"#);
    }
    let heard = table.frames[&2].concat();
    assert!(heard.contains("not_registered") && offers(&table, 2).is_empty(), "{heard}");
    assert_eq!((offers(&table, 3).len(), offers(&table, 1).len()), (1, 1));
}

#[test]
fn an_id_is_bound_to_a_key_in_its_own_tenant_alone() {
    let mut table = Table::new();
    let key = PublicKey::from_bytes([7; 32]);
    enter(&mut table, 1, "a", "", of("one"));
    table.say_proving(1, &format!(r#"{{"type":"hello","key":"{key}"}}"#), Some(key));
    enter(&mut table, 2, "a", "", of("two"));
    table.report(2);
    assert!(table.closes.is_empty() && table.frames[&2].concat().contains("success"));
    enter(&mut table, 3, "a", "", of("one"));
    table.pass(Duration::from_secs(11));
    assert_eq!(table.closes.get(&3).map(|it| it.0), Some(1008), "there it is bound");
}

#[test]
fn what_one_tenant_has_lost_is_not_taken_up_by_another() {
    let mut table = Table::new();
    for (number, id) in [(1, "a"), (2, "b")] {
        enter(&mut table, number, id, "r", of("one"));
        table.report(number);
    }
    let token = table.welcome(1).resume;
    let session = table.machine.sessions().next().unwrap().0;
    table.state(1, session, "direct", "plain", 1);
    table.state(2, session, "direct", "plain", 1);
    table.close(1);
    enter(&mut table, 3, "a", "r", of("two"));
    table.say(3, &format!(r#"{{"type":"hello","room":"r","resume":"{token}"}}"#));
    table.report(3);
    let ended = format!(r#"{{"type":"leave","session":"{session}"}}"#);
    table.say(3, &ended);
    assert!(table.machine.sessions().any(|(id, _)| id == session), "it waits for its own worker");
    assert!(offers(&table, 3).is_empty());
}

#[test]
fn a_tenant_has_as_many_places_as_it_may_and_no_other_has_less() {
    let mut table = Table::for_workers_of_a_tenant(2);
    for (number, tenant) in [(1, "one"), (2, "one"), (3, "one"), (4, "two")] {
        enter(&mut table, number, &format!("w{number}"), "", of(tenant));
    }
    enter(&mut table, 5, "w1", "", of("one"));
    for number in 6..9 {
        enter(&mut table, number, &format!("w{number}"), "", Permit::default());
    }
    let full = (1013, "too many workers of this tenant");
    assert_eq!(table.closes.remove(&1).map(|it| it.0), Some(1000), "it takes its own place");
    assert_eq!(table.closes, [(3, full)].into(), "who has no tenant is bounded by none");
}

#[test]
fn a_worker_is_only_where_it_may_be() {
    let rooms = Patterns::new(Some(vec!["build-*".to_owned()]));
    let permit = || Permit { rooms: rooms.clone(), ..of("one") };
    let mut table = Table::new();
    enter(&mut table, 1, "a", "build-1", permit());
    table.say(1, r#"{"type":"hello","room":"build-2"}"#);
    table.report(1);
    assert!(table.closes.is_empty());
    table.say(1, r#"{"type":"hello","room":"prod"}"#);
    let refused = (1008, "the worker's token does not allow this room");
    assert_eq!(table.closes, [(1, refused)].into());
    let told = |event: &Event| event.code() == ("refused", Some("room_not_allowed"));
    assert!(table.events.iter().any(told));
    enter(&mut table, 2, "b", "prod", of("one"));
    table.say(2, r#"{"type":"hello","room":"prod","callable":true}"#);
    table.report(2);
    enter(&mut table, 3, "c", "build-1", permit());
    table.say(3, r#"{"type":"call","peer":"b"}"#);
    let heard = table.frames[&3].concat();
    assert!(heard.contains("not_allowed") && offers(&table, 2).is_empty(), "{heard}");
}

#[test]
fn a_worker_is_only_in_rooms_of_modes_that_it_may_be_in() {
    let only = |mode| Permit { modes: Some(vec![mode]), ..of("one") };
    let refused = (1008, "the worker's token does not allow rooms of this mode");
    let mut table = Table::new();
    enter(&mut table, 1, "a", "calls", only(RoomMode::Call));
    table.say(1, r#"{"type":"hello","room":"calls","mode":"call"}"#);
    table.report(1);
    assert!(table.closes.is_empty(), "before its hello, the room had another mode");
    enter(&mut table, 2, "b", "calls", only(RoomMode::Pair));
    table.say(2, r#"{"type":"hello","room":"calls"}"#);
    enter(&mut table, 3, "c", "pairs", only(RoomMode::Call));
    table.report(3);
    enter(&mut table, 4, "d", "mesh", only(RoomMode::Pair));
    table.say(4, r#"{"type":"hello","room":"mesh","mode":"mesh"}"#);
    enter(&mut table, 5, "e", "later", only(RoomMode::Pair));
    table.say(5, r#"{"type":"hello","room":"later"}"#);
    table.report(5);
    assert_eq!(table.closes, [2, 3, 4].map(|number| (number, refused)).into());
    enter(&mut table, 6, "f", "later", of("one"));
    table.say(6, r#"{"type":"hello","room":"later","mode":"mesh"}"#);
    assert_eq!(table.closes.get(&5), Some(&refused), "another one has made it a room of many");
    enter(&mut table, 7, "g", "pairs", only(RoomMode::Pair));
    table.say(7, r#"{"type":"call","peer":"a"}"#);
    assert!(table.frames[&7].concat().contains("not_allowed"));
}

#[test]
fn the_relay_of_two_carries_what_the_smaller_permit_says() {
    let bounded = |bytes| Permit { relay_bytes: bytes, ..of("one") };
    for (bytes, expected) in [
        ([None, None], Some(None)),
        ([Some(1 << 20), None], Some(Some(1 << 20))),
        ([Some(1 << 30), Some(1 << 20)], Some(Some(1 << 20))),
        ([Some(0), None], None),
    ] {
        let mut table = Table::with_relay(None);
        for (number, bytes) in (1..).zip(bytes) {
            let key = PublicKey::from_bytes([u8::try_from(number).unwrap(); 32]);
            enter(&mut table, number, &format!("w{number}"), "r", bounded(bytes));
            table.say_proving(number, &format!(r#"{{"type":"hello","key":"{key}"}}"#), Some(key));
            table.report(number);
        }
        let details = table.offers(1).remove(0).details;
        let token = details.relay_token.as_ref();
        let opened = token.map(|it| relay_key().side(details.session, it, UNIX_S).unwrap().1);
        assert_eq!(opened, expected, "{bytes:?}");
    }
}
