//! Keys: who has to prove one, and what becomes of those who do not.

use std::time::Duration;

use holepunch_matchmaker::{ConnectionId, Event, Input, LeaveReason, Protocol, WakeReason};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::{PublicKey, Signature};

use crate::table::Table;

const OWN: PublicKey = PublicKey::from_bytes([1; 32]);
const OTHER: PublicKey = PublicKey::from_bytes([2; 32]);
const HOUR: Duration = Duration::from_secs(3600);

/// A hello with a key and a signature, and fields of its own.
fn hello(key: PublicKey, more: &str) -> String {
    let signature = Signature::from_bytes([3; 64]);
    format!(r#"{{"type":"hello","key":"{key}","signature":"{signature}"{more}}}"#)
}

impl Table {
    /// Opens the connection `number` under this id.
    fn open(&mut self, number: u64, id: &WorkerId, protocol: Protocol) {
        self.connect_id((number, number), id.clone(), protocol, "");
    }

    /// A hello whose signature proves its key.
    fn prove(&mut self, number: u64, key: PublicKey) {
        self.say_proving(number, &hello(key, ""), Some(key));
    }

    /// Opens the connection `number` under this id, and proves the key.
    fn enter(&mut self, number: u64, id: &WorkerId, key: PublicKey) {
        self.open(number, id, Protocol::V1);
        self.prove(number, key);
    }

    fn registered(&self) -> Vec<&str> {
        self.machine.workers().map(|worker| worker.id.as_str()).collect()
    }

    #[track_caller]
    fn is_refused(&self, number: u64, reason: &str) {
        let (code, said) = self.closes[&number];
        assert!(code == 1008 && said.starts_with(reason), "{code} {said}");
        assert!(
            self.events.iter().any(|it| matches!(it, Event::Refused(_, why) if why.text() == said))
        );
    }
}

fn named(id: &str) -> WorkerId {
    WorkerId::new(id).unwrap()
}

#[test]
fn a_proved_key_stands_in_offers_and_another_worker_has_none() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    table.prove(1, OWN);
    table.report(1);
    table.report(2);
    assert_eq!(table.offers(2)[0].details.peer_key, Some(OWN));
    assert_eq!(table.offers(1)[0].details.peer_key, None);
}

#[test]
fn a_hello_without_a_key_takes_back_nothing() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    table.prove(1, OWN);
    table.say(1, r#"{"type":"hello","mode":"pair"}"#);
    table.report(1);
    table.report(2);
    assert_eq!(table.offers(2)[0].details.peer_key, Some(OWN));
}

#[test]
fn a_key_without_its_proof_ends_the_connection() {
    let wrong = hello(OWN, "");
    let unsigned = format!(r#"{{"type":"hello","key":"{OWN}"}}"#);
    for (text, proved, reason) in [
        (&wrong, None, "the signature does not prove the key: it must be over"),
        (&wrong, Some(OTHER), "the signature does not prove the key: it must be over"),
        (&unsigned, None, "the signature does not prove the key: there is none"),
    ] {
        let mut table = Table::new();
        table.v1(&[1], "");
        table.say_proving(1, text, proved);
        table.is_refused(1, reason);
        let left = Event::Left(named("w1"), LeaveReason::Refused);
        assert!(table.events.contains(&left) && table.registered().is_empty());
    }
}

#[test]
fn an_id_made_from_a_key_is_registered_with_the_proof_and_not_before() {
    let (mut table, id) = (Table::new(), OWN.worker_id());
    table.open(1, &id, Protocol::V1);
    assert_eq!(table.welcome(1).challenge, "challenge 1");
    table.v1(&[2], "");
    table.report(2);
    let frames = table.frames[&1].len();
    table.say(1, r#"{"type":"hello","resume":"x"}"#);
    table.say(1, r#"{"type":"call","peer":"w2"}"#);
    table.say(1, r#"{"type":"get_my_details"}"#);
    table.report(1);
    let ignored = |it: &&Event| matches!(it, Event::MessageIgnored(worker, ..) if *worker == id);
    assert_eq!(table.events.iter().filter(ignored).count(), 4);
    assert_eq!((table.registered(), table.frames[&1].len()), (vec!["w2"], frames));
    table.prove(1, OWN);
    table.report(1);
    assert_eq!(table.offers(2)[0].peer, id);
    assert_eq!(table.offers(2)[0].details.peer_key, Some(OWN));
    assert!(table.closes.is_empty());
}

#[test]
fn a_pending_connection_enters_the_room_of_its_hello() {
    let (mut table, id) = (Table::new(), OWN.worker_id());
    table.v1(&[2], "red");
    table.report(2);
    table.open(1, &id, Protocol::V1);
    table.say_proving(1, &hello(OWN, r#","room":"red""#), Some(OWN));
    table.report(1);
    assert_eq!(table.offers(2)[0].peer, id);
}

#[test]
fn a_key_that_does_not_belong_to_the_id_is_refused() {
    let (mut table, id) = (Table::new(), OWN.worker_id());
    table.enter(1, &id, OTHER);
    table.is_refused(1, "the key does not belong to the id");
    assert!(table.registered().is_empty());
    let shouted = named(&id.as_str().to_uppercase());
    table.enter(2, &shouted, OWN);
    table.is_refused(2, "the key does not belong to the id");
}

#[test]
fn the_baseline_cannot_have_an_id_that_is_made_from_a_key() {
    let mut table = Table::new();
    table.open(1, &OWN.worker_id(), Protocol::Baseline);
    table.is_refused(1, "this id is bound to a key");
    assert!(table.registered().is_empty());
    assert_eq!(table.machine.poll_timeout(), None);
}

#[test]
fn who_does_not_prove_its_key_in_time_is_closed() {
    let (mut table, id) = (Table::new(), OWN.worker_id());
    table.open(1, &id, Protocol::V1);
    let (_, why) = table.machine.poll_timeout().unwrap();
    assert_eq!(why, WakeReason::ProofTimeout);
    table.pass(Duration::from_millis(9_999));
    assert!(table.closes.is_empty());
    table.pass(Duration::from_millis(1));
    table.is_refused(1, "this id is bound to a key");
    table.prove(1, OWN);
    assert!(table.registered().is_empty(), "too late");
    assert_eq!(table.machine.poll_timeout(), None);
}

#[test]
fn a_pending_connection_that_ends_leaves_nothing() {
    let (mut table, id) = (Table::new(), OWN.worker_id());
    table.open(1, &id, Protocol::V1);
    table.close(1);
    assert_eq!((table.machine.poll_timeout(), table.events.len()), (None, 0));
}

#[test]
fn a_shutdown_tells_those_who_are_pending() {
    let (mut table, id) = (Table::new(), OWN.worker_id());
    table.open(1, &id, Protocol::V1);
    table.input(Input::Shutdown);
    assert_eq!(table.closes[&1].0, 1001);
}

#[test]
fn a_live_session_is_replaced_when_the_newcomer_has_proved_the_same_key() {
    for id in [OWN.worker_id(), named("alice")] {
        let mut table = Table::new();
        table.enter(1, &id, OWN);
        table.report(1);
        table.open(2, &id, Protocol::V1);
        assert!(table.closes.is_empty(), "{id}: not before the proof");
        assert_eq!(table.machine.ready().count(), 1);
        table.prove(2, OWN);
        assert_eq!(table.closes[&1], (1000, "New connection from same worker ID"));
        assert_eq!(table.registered(), [id.as_str()]);
        table.close(1);
        assert_eq!(table.registered(), [id.as_str()], "the late end of the old one");
    }
}

#[test]
fn a_thief_does_not_touch_the_live_session() {
    for (id, reason) in [
        (OWN.worker_id(), "the key does not belong to the id"),
        (named("alice"), "this id is bound to another key"),
    ] {
        let mut table = Table::new();
        table.enter(1, &id, OWN);
        table.v1(&[3], "");
        table.report(1);
        table.report(3);
        let frames = table.frames[&1].len();
        table.enter(2, &id, OTHER);
        table.is_refused(2, reason);
        table.open(4, &id, Protocol::V1);
        table.say(4, &hello(OWN, ""));
        table.is_refused(4, "the signature does not prove the key");
        table.open(5, &id, Protocol::Baseline);
        table.is_refused(5, "this id is bound to a key");
        table.open(6, &id, Protocol::V1);
        table.pass(Duration::from_secs(11));
        table.is_refused(6, "this id is bound to a key");
        assert_eq!((table.frames[&1].len(), table.ended(3)), (frames, 0), "{id}");
        assert!(!table.closes.contains_key(&1) && table.registered().contains(&id.as_str()));
    }
}

#[test]
fn a_direct_session_is_taken_up_by_the_one_that_proves_the_key() {
    let (mut table, session) = Table::pair();
    table.prove(1, OWN);
    let token = table.welcome(1).resume;
    table.state(1, session, "direct", "plain", 1);
    table.connect_as(9, 1, Protocol::V1, "");
    assert_eq!(table.ended(2), 0);
    table.say_proving(9, &hello(OWN, &format!(r#","resume":"{token}""#)), Some(OWN));
    table.pass(Duration::from_secs(60));
    assert_eq!((table.ended(2), table.closes[&1].0), (0, 1000));
    assert!(!table.closes.contains_key(&9));
}

#[test]
fn an_id_whose_worker_has_proved_nothing_goes_to_the_last_one_at_once() {
    let (mut table, id) = (Table::new(), named("alice"));
    table.open(1, &id, Protocol::V1);
    table.open(2, &id, Protocol::Baseline);
    assert_eq!(table.closes[&1].0, 1000);
    table.open(3, &id, Protocol::V1);
    assert_eq!(table.closes[&2].0, 1000);
    assert_eq!(table.registered(), ["alice"]);
}

#[test]
fn the_key_of_a_connection_does_not_change() {
    let mut table = Table::new();
    table.v1(&[1], "");
    table.prove(1, OWN);
    table.prove(1, OWN);
    assert!(table.closes.is_empty());
    table.prove(1, OTHER);
    table.is_refused(1, "this id is bound to another key");
}

#[test]
fn an_id_stays_bound_to_its_key_for_a_day_after_its_last_connection() {
    let (mut table, id) = (Table::new(), named("alice"));
    table.enter(1, &id, OWN);
    table.pass(48 * HOUR);
    table.close(1);
    table.pass(23 * HOUR);
    table.open(2, &id, Protocol::Baseline);
    table.is_refused(2, "this id is bound to a key");
    table.enter(3, &id, OTHER);
    table.is_refused(3, "this id is bound to another key");
    table.enter(4, &id, OWN);
    assert_eq!(table.registered(), ["alice"]);
    table.close(4);
    table.pass(24 * HOUR - Duration::from_secs(1));
    table.open(5, &id, Protocol::V1);
    assert!(table.registered().is_empty(), "the last connection counts");
    table.pass(Duration::from_secs(1));
    table.prove(5, OTHER);
    assert_eq!(table.registered(), ["alice"], "the day has ended meanwhile");
    table.close(5);
    table.pass(24 * HOUR);
    table.open(6, &id, Protocol::Baseline);
    assert_eq!(table.registered(), ["alice"], "free again");
}

#[test]
fn pending_connections_count_as_workers() {
    let mut table = Table::for_workers(100);
    let own = OWN.worker_id();
    table.enter(1, &own, OWN);
    for number in 2..=1000 {
        let key = PublicKey::from_bytes([u8::try_from(number % 200 + 3).unwrap(); 32]);
        table.open(number, &key.worker_id(), Protocol::V1);
    }
    let closed = |table: &Table, code| table.closes.values().filter(|it| it.0 == code).count();
    assert_eq!(closed(&table, 1013), 900);
    assert!(!table.admits(&named("somebody")));
    assert!(table.admits(&own), "its owner gets back in");
    for number in 1001..=2000 {
        table.open(number, &own, Protocol::V1);
    }
    assert_eq!(closed(&table, 1013), 900 + 936, "64 beyond the limit");
    assert!(!table.admits(&own));
    table.pass(Duration::from_secs(10));
    assert_eq!(closed(&table, 1008), 99 + 64);
    assert!(table.admits(&named("somebody")));
    assert_eq!(table.registered(), [own.as_str()]);
}

#[test]
fn the_baseline_knows_no_keys() {
    let mut table = Table::new();
    table.connect(1, Protocol::Baseline, "");
    table.prove(1, OWN);
    table.say(1, &hello(OWN, ""));
    assert!(table.closes.is_empty());
    let ignored = |it: &&Event| matches!(it, Event::MessageIgnored(..));
    assert_eq!(table.events.iter().filter(ignored).count(), 2);
    table.connect_as(2, 1, Protocol::Baseline, "");
    assert_eq!(table.closes[&1].0, 1000);
}

/// A newcomer is offered a peer before its first pong. Taken for nearer than its peer, it would hold its
/// packets back.
#[test]
fn the_proof_tells_how_far_away_a_newcomer_is() {
    let mut table = Table::new();
    let one_round_trip = Duration::from_millis(160);
    for (number, key) in [(1, OWN), (2, OTHER)] {
        table.open(number, &key.worker_id(), Protocol::V1);
        table.now += one_round_trip;
        table.prove(number, key);
        table.report(number);
        if number == 1 {
            table.now += one_round_trip;
            table.input(Input::Pong { connection: ConnectionId(1) });
        }
    }
    for number in [1, 2] {
        assert_eq!(table.offers(number)[0].details.plan.delay_ms, 0, "{number}");
    }
}
