//! Calls by id from other rooms.

use holepunch_matchmaker::Protocol;
use holepunch_wire::session::SESSIONS_MAX;
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::ErrorCode;

use crate::table::Table;

/// A worker in a room, which may be called from everywhere.
fn callable(table: &mut Table, number: u64, room: &str, mode: &str) {
    table.connect(number, Protocol::V1, room);
    table.say(number, &format!(r#"{{"type":"hello","mode":"{mode}","callable":true}}"#));
    table.report(number);
}

fn call(table: &mut Table, number: u64, peer: u64) {
    table.say(number, &format!(r#"{{"type":"call","peer":"w{peer}"}}"#));
}

/// What a worker was last told that cannot be, as the bytes on the wire.
fn refused(table: &Table, number: u64) -> (Option<ErrorCode>, String) {
    let frame = table.frames[&number].last().unwrap().clone();
    match FromServer::parse(&frame) {
        Ok(FromServer::Error(said)) => (said.code, frame),
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn whoever_wants_to_be_called_is_called_from_everywhere_and_the_welcome_says_that_this_is_so() {
    let mut table = Table::new();
    for (number, room, mode) in [(1, "own", "call"), (2, "m", "mesh"), (3, "p", "pair")] {
        callable(&mut table, number, room, mode);
        assert!(table.welcome(number).calls_from_anywhere);
        table.v1(&[10 + number], "");
        call(&mut table, 10 + number, number);
        assert_eq!(table.offers(number)[0].peer.as_str(), format!("w1{number}"));
        assert_eq!(table.offers(10 + number)[0].peer.as_str(), format!("w{number}"));
    }
}

#[test]
fn nobody_learns_whether_a_worker_is_there_that_does_not_want_to_be_called() {
    let mut table = Table::new();
    // Whoever has made up a code waits in its room and says nothing of calls.
    table.connect(1, Protocol::V1, "");
    table.say(1, r#"{"type":"hello","room":"code-7","mode":"pair","fresh":true}"#);
    table.report(1);
    // One that wanted a room that somebody has is in the room without a name.
    table.connect(2, Protocol::V1, "");
    table.say(2, r#"{"type":"hello","room":"code-7","fresh":true,"callable":true}"#);
    // One that has changed its mind.
    callable(&mut table, 3, "p", "pair");
    table.say(3, r#"{"type":"hello"}"#);
    table.v1(&[9], "elsewhere");
    let answers: Vec<_> = [1, 2, 3, 4]
        .into_iter()
        .map(|nobody| {
            call(&mut table, 9, nobody);
            let (code, frame) = refused(&table, 9);
            (code, frame.replace(&format!("w{nobody}"), "w"))
        })
        .collect();
    assert_eq!(answers[0].0, Some(ErrorCode::NotRegistered));
    assert!(answers.iter().all(|answer| *answer == answers[3]), "w4 is not there: {answers:?}");
    assert!((1..=3).all(|number| table.offers(number).is_empty()));
}

#[test]
fn a_stranger_who_calls_takes_nobodys_place_in_the_room() {
    let mut table = Table::new();
    callable(&mut table, 1, "tea", "pair");
    table.v1(&[2], "");
    call(&mut table, 2, 1);
    assert_eq!(table.offers(1).len(), 1, "by the call");
    table.v1(&[3], "tea");
    table.report(3);
    assert_eq!(table.offers(1)[1].peer.as_str(), "w3", "as if nobody had called");
    table.v1(&[4], "tea");
    table.report(4);
    assert!(table.offers(4).is_empty(), "the two of the room have each other");
}

#[test]
fn strangers_who_call_leave_half_of_the_sessions_to_the_workers_own_room() {
    let mut table = Table::new();
    callable(&mut table, 1, "tea", "pair");
    let half = SESSIONS_MAX as u64 / 2;
    for number in 10..10 + half {
        table.connect(number, Protocol::V1, "");
        call(&mut table, number, 1);
    }
    table.v1(&[5, 6], "");
    call(&mut table, 5, 1);
    assert_eq!(refused(&table, 5).0, Some(ErrorCode::NotCallable));
    table.v1(&[7], "tea");
    call(&mut table, 7, 1);
    assert_eq!(table.offers(7).len(), 1, "its own room has its share");
}
