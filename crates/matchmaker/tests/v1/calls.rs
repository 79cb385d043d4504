//! Calls by id from other rooms.

use std::time::Duration;

use holepunch_matchmaker::{Closing, Protocol};
use holepunch_wire::WorkerId;
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
        table.pass(Duration::from_secs(2));
    }
    assert_eq!(table.offers(1).len() as u64, half);
    table.v1(&[5, 6], "");
    call(&mut table, 5, 1);
    assert_eq!(refused(&table, 5).0, Some(ErrorCode::NotCallable));
    table.v1(&[7], "tea");
    call(&mut table, 7, 1);
    assert_eq!(table.offers(7).len(), 1, "its own room has its share");
}

/// Connections of strangers, each of which calls a worker whenever it may, from now on.
struct Strangers {
    /// By their connection, and the address that it comes from.
    numbers: Vec<(u64, u64)>,
    next: u64,
}

impl Strangers {
    fn new(table: &mut Table, count: u64, addresses: u64) -> Self {
        let numbers = (0..count).map(|number| (1000 + number, 100 + number % addresses)).collect();
        let strangers = Self { numbers, next: 1000 + count };
        for (number, address) in &strangers.numbers {
            table.connect_id((*number, *address), id(*number), Protocol::V1, "");
        }
        strangers
    }

    /// Each whose session has come to nothing is somebody else from then on, and calls at once.
    fn call(&mut self, table: &mut Table, peer: u64) {
        for (number, address) in &mut self.numbers {
            if let Some(offer) = table.offers(*number).first() {
                let session = offer.details.session;
                table.say(*number, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
                table.close(*number);
                *number = self.next;
                self.next += 1;
                table.connect_id((*number, *address), id(*number), Protocol::V1, "");
            }
            table.frames.get_mut(number).unwrap().clear();
            call(table, *number, peer);
        }
    }
}

fn id(number: u64) -> WorkerId {
    WorkerId::new(&format!("w{number}")).unwrap()
}

/// So long an honest caller waits for its session, while so many strangers call from so many addresses.
fn waited(strangers: u64, addresses: u64, own_address: u64) -> Duration {
    const STEP: Duration = Duration::from_millis(250);
    let mut table = Table::new();
    callable(&mut table, 1, "own", "call");
    let mut strangers = Strangers::new(&mut table, strangers, addresses);
    for _ in 0..400 {
        strangers.call(&mut table, 1);
        table.pass(STEP);
    }
    let before = table.offers(1).len() as u128;
    assert!((80..=100).contains(&before), "a worker follows one a second: {before} in 100 s");
    table.connect_id((2, own_address), id(2), Protocol::V1, "");
    let mut waited = Duration::ZERO;
    while table.offers(2).is_empty() {
        // As a worker does where it has no session.
        if waited.as_millis().is_multiple_of(5000) {
            call(&mut table, 2, 1);
        }
        strangers.call(&mut table, 1);
        table.pass(STEP);
        waited += STEP;
        assert!(waited < Duration::from_secs(120), "it is never its turn");
    }
    waited
}

#[test]
fn however_many_strangers_call_from_some_addresses_another_one_has_its_turn_at_once() {
    for (strangers, addresses) in [(60, 1), (60, 6), (60, 60), (100, 20)] {
        let waited = waited(strangers, addresses, 99);
        assert!(waited < Duration::from_secs(3), "{strangers} of {addresses}: {waited:?}");
    }
}

#[test]
fn whoever_calls_from_an_address_of_strangers_waits_no_longer_than_each_of_them() {
    let waited = waited(30, 1, 100);
    assert!(waited < Duration::from_secs(45), "{waited:?}");
}

#[test]
fn strangers_who_hold_all_sessions_that_callers_have_hold_up_nobody_for_longer_than_these_last() {
    let mut table = Table::new();
    callable(&mut table, 1, "own", "call");
    let mut numbers = 10..;
    while table.offers(1).len() < SESSIONS_MAX / 2 {
        let number = numbers.next().unwrap();
        table.connect(number, Protocol::V1, "");
        call(&mut table, number, 1);
        table.pass(Duration::from_secs(2));
    }
    table.v1(&[5], "");
    call(&mut table, 5, 1);
    assert_eq!(refused(&table, 5).0, Some(ErrorCode::NotCallable));
    table.pass(Duration::from_secs(60));
    assert!(table.offers(5).is_empty(), "the other half is the room's");
    table.close_as(10, Closing::Goodbye);
    table.pass(Duration::from_secs(2));
    assert_eq!(table.offers(5).len(), 1);
}

#[test]
fn whoever_has_gone_or_has_a_session_by_now_holds_up_nobody_in_line() {
    let mut table = Table::new();
    callable(&mut table, 1, "own", "call");
    for number in 10..22 {
        table.connect(number, Protocol::V1, "");
        call(&mut table, number, 1);
    }
    assert_eq!(table.offers(1).len(), 8, "at once");
    table.close(18);
    table.say(19, r#"{"type":"hello","room":"own"}"#);
    table.pass(Duration::from_millis(1250));
    let last = table.offers(1).last().unwrap().peer.clone();
    assert_eq!(last.as_str(), "w20", "the first in line that still waits from elsewhere");
    table.close(1);
    table.pass(Duration::from_secs(60));
    assert!(table.offers(21).is_empty());
}
