//! Rooms in which everyone is offered everyone.

use std::time::Duration;

use holepunch_matchmaker::Protocol;
use holepunch_wire::session::SessionId;

use crate::table::Table;

/// A room of so many, in which everybody has a session with everybody.
fn mesh(workers: u64) -> Table {
    let mut table = Table::new();
    for number in 1..=workers {
        table.connect(number, Protocol::V1, "m");
        table.say(number, r#"{"type":"hello","mode":"mesh"}"#);
        table.report(number);
    }
    table
}

#[test]
fn those_who_have_just_parted_in_a_room_of_many_are_not_offered_each_other_at_once() {
    let mut table = mesh(32);
    let sessions: Vec<SessionId> =
        table.offers(1).into_iter().map(|offer| offer.details.session).collect();
    for session in &sessions {
        table.say(1, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    }
    for _ in 0..20 {
        table.say(1, r#"{"type":"ready"}"#);
        (2..=32).for_each(|number| table.report(number));
        table.pass(Duration::from_millis(100));
    }
    assert_eq!((table.offers(1).len(), table.offers(2).len()), (31, 31), "not at once");
    table.pass(Duration::from_secs(6));
    assert_eq!((table.offers(1).len(), table.offers(2).len()), (62, 32), "without being asked");
}

#[test]
fn a_worker_that_begins_anew_in_a_room_of_many_has_its_peers_at_once() {
    let mut table = mesh(3);
    table.close(1);
    table.connect_as(9, 1, Protocol::V1, "m");
    table.say(9, r#"{"type":"hello"}"#);
    table.report_from(9, 1);
    assert_eq!((table.offers(9).len(), table.offers(2).len()), (2, 3));
}

#[test]
fn a_room_of_many_is_full_at_some_point_however_it_was_entered() {
    let mut table = Table::new();
    for number in 1..=40 {
        table.connect(number, Protocol::V1, "m");
        table.say(number, r#"{"type":"hello","mode":"mesh"}"#);
    }
    for number in 1..=40 {
        table.report(number);
    }
    let most = (1..=40).map(|number| table.offers(number).len()).max();
    assert_eq!(most, Some(31));
    assert!((1..=32).all(|number| table.offers(number).len() == 31));
}

#[test]
fn those_who_wait_in_a_room_that_becomes_one_of_many_are_offered_everybody() {
    let mut table = Table::new();
    table.connect(1, Protocol::V1, "m");
    table.say(1, r#"{"type":"hello"}"#);
    table.report(1);
    table.connect(2, Protocol::V1, "m");
    table.say(2, r#"{"type":"hello","mode":"mesh"}"#);
    table.report(2);
    table.connect(3, Protocol::V1, "m");
    table.report(3);
    assert!((1..=3).all(|number| table.offers(number).len() == 2), "everyone with everyone");
}

#[test]
fn a_worker_without_its_peer_is_offered_everybody_where_its_room_has_become_one_of_many() {
    let mut table = Table::new();
    table.v1(&[1, 2], "m");
    table.report(1);
    table.report(2);
    let [offer] = &table.offers(1)[..] else { panic!("the two are a pair") };
    let session = offer.details.session;
    table.connect(3, Protocol::V1, "m");
    table.say(3, r#"{"type":"hello","mode":"mesh"}"#);
    table.report(3);
    table.say(2, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    assert_eq!((table.offers(1).len(), table.offers(3).len()), (2, 1));
}

#[test]
fn a_worker_that_has_come_back_with_its_sessions_is_offered_those_who_come_later() {
    let mut table = mesh(2);
    let session = table.offers(1)[0].details.session;
    let token = table.welcome(1).resume;
    table.close(1);
    table.connect_as(9, 1, Protocol::V1, "m");
    table.say(9, &format!(r#"{{"type":"hello","resume":"{token}","sessions":["{session}"]}}"#));
    table.report_from(9, 1);
    table.connect(3, Protocol::V1, "m");
    table.say(3, r#"{"type":"hello"}"#);
    table.report(3);
    assert_eq!((table.offers(9).len(), table.offers(3).len()), (1, 2));
}
