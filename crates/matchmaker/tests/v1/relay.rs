//! What opens the relay of a session, and for how long.

use holepunch_matchmaker::RelayRefusal;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::session::{RelayToken, SessionId};

use crate::table::Table;

/// Two workers with a key each, and a session of theirs.
fn linked() -> (Table, SessionId, [RelayToken; 2]) {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    for number in [1, 2] {
        tell_key(&mut table, number);
        table.report(number);
    }
    let [first, second] = [1, 2].map(|number| table.offers(number)[0].details.clone());
    let tokens = [first.relay_token.unwrap(), second.relay_token.unwrap()];
    (table, first.session, tokens)
}

/// Each worker has a key of its own.
fn tell_key(table: &mut Table, number: u64) {
    let key = PublicKey::from_bytes([u8::try_from(number).unwrap(); 32]);
    let hello = format!(r#"{{"type":"hello","key":"{key}"}}"#);
    table.say_proving(number, &hello, Some(key));
}

#[test]
fn each_of_the_two_has_a_token_of_its_own() {
    let (table, session, [first, second]) = linked();
    assert_ne!(first, second);
    assert_eq!(table.machine.relay_end(session, &first), Ok(0));
    assert_eq!(table.machine.relay_end(session, &second), Ok(1));
    let other = RelayToken::from_random([1; 16]);
    assert_eq!(table.machine.relay_end(session, &other), Err(RelayRefusal::WrongToken));
    let unknown = SessionId(session.0 ^ 1);
    assert_eq!(table.machine.relay_end(unknown, &first), Err(RelayRefusal::UnknownSession));
}

#[test]
fn the_relay_ends_with_the_session() {
    let (mut table, session, [first, _]) = linked();
    table.say(2, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    assert_eq!(table.machine.relay_end(session, &first), Err(RelayRefusal::UnknownSession));
}

#[test]
fn a_direct_session_keeps_its_relay_while_its_worker_may_come_back() {
    let (mut table, session, [first, second]) = linked();
    table.state(1, session, "direct", "plain", 1);
    table.close(1);
    assert_eq!(table.machine.relay_end(session, &first), Ok(0));
    table.pass(std::time::Duration::from_secs(31));
    assert_eq!(table.machine.relay_end(session, &second), Err(RelayRefusal::UnknownSession));
}

#[test]
fn there_is_no_token_without_both_keys() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    tell_key(&mut table, 1);
    table.report(1);
    table.report(2);
    let offers = [1, 2].map(|number| table.offers(number)[0].details.clone());
    assert!(offers.iter().all(|offer| offer.relay_token.is_none()));
    let guess = RelayToken::from_random([0; 16]);
    let refused = table.machine.relay_end(offers[0].session, &guess);
    assert_eq!(refused, Err(RelayRefusal::UnknownSession));
}
