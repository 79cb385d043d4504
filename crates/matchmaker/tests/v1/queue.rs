//! Workers that wait for one peer and are called meanwhile.

use std::time::Duration;

use holepunch_matchmaker::{Closing, Protocol};
use holepunch_wire::session::SESSIONS_MAX;

use crate::table::Table;

#[test]
fn two_that_wait_and_have_called_each_other_are_not_offered_each_other_again() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    table.report(1);
    // The same endpoint: the two do not suit each other by that.
    table.report_from(2, 1);
    table.say(1, r#"{"type":"call","peer":"w2"}"#);
    assert_eq!(table.offers(1).len(), 1, "by the call");
    table.report(2);
    assert_eq!((table.offers(1).len(), table.offers(2).len()), (1, 1));
    table.v1(&[3], "");
    table.report(3);
    assert_eq!((table.offers(1).len(), table.offers(3).len()), (2, 1), "somebody else is");
}

#[test]
fn a_worker_that_waits_and_has_all_its_sessions_is_offered_to_nobody() {
    let mut table = Table::new();
    table.v1(&[1], "");
    table.report(1);
    for number in 2..SESSIONS_MAX as u64 + 2 {
        table.connect(number, Protocol::V1, "");
        table.say(number, r#"{"type":"call","peer":"w1"}"#);
    }
    table.v1(&[90, 91], "");
    table.report(90);
    assert_eq!(table.offers(1).len(), 64);
    assert_eq!(table.offers(90).len(), 0);
    table.report(91);
    assert_eq!((table.offers(90).len(), table.offers(91).len()), (1, 1));
}

#[test]
fn guests_of_somebodys_own_room_are_not_offered_each_other() {
    let mut table = Table::new();
    table.v1(&[1], "");
    table.say(1, r#"{"type":"hello","room":"7","fresh":true}"#);
    table.report(1);
    for guest in [2, 3, 4] {
        table.v1(&[guest], "7");
        table.report(guest);
    }
    assert_eq!((table.offers(1).len(), table.offers(2).len()), (1, 1), "the owner has its guest");
    assert!(
        table.offers(3).is_empty() && table.offers(4).is_empty(),
        "who have not come for each other"
    );
    table.close_as(1, Closing::Goodbye);
    table.pass(Duration::from_secs(60));
    assert!(table.offers(3).is_empty() && table.offers(4).is_empty(), "nor when it has gone");
}
