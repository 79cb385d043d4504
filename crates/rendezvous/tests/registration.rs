//! Registration: one session per worker id, and the newest counts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::raw::{CLOSE, RawClient, TEXT, frame};
use common::worker::report;
use common::{Rendezvous, ready, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[tokio::test]
async fn the_same_id_replaces_its_session_and_the_old_socket_is_closed_with_1000() {
    let rendezvous = Rendezvous::start();
    let mut old = rendezvous.worker("a").await;
    let mut new = rendezvous.worker("a").await;
    let (code, reason) = old.closed().await;
    assert_eq!(code, 1000);
    assert!(reason.starts_with("New connection from same"), "{reason}");
    new.is_up().await;
    let listing = rendezvous.listing().await;
    assert_eq!(listing["connected_workers_count"], 1);
    assert_eq!(listing["workers"]["a"]["websocket_observed_port"], new.local.port());
}

#[tokio::test]
async fn a_new_session_starts_with_every_reported_value_unknown() {
    let rendezvous = Rendezvous::start();
    let mut old = rendezvous.worker("a").await;
    old.send(json!({ "type": "register_public_ip", "ip": "203.0.113.9" })).await;
    old.report("203.0.113.9:4000").await;
    let mut new = rendezvous.worker("a").await;
    let details = new.details().await;
    assert_eq!(details["registered_ip"], "127.0.0.1");
    assert_eq!(details["udp_ip"], Value::Null);
    assert_eq!(details["udp_port"], Value::Null);
    let listing = rendezvous.listing().await;
    let entry = &listing["workers"]["a"];
    for field in ["http_reported_public_ip", "stun_reported_udp_ip", "stun_reported_udp_port"] {
        assert_eq!(entry[field], Value::Null, "{field}");
    }
}

#[tokio::test]
async fn a_new_session_does_not_inherit_the_place_in_the_queue() {
    let rendezvous = Rendezvous::start();
    let mut old = rendezvous.worker("a").await;
    old.report("203.0.113.1:4000").await;
    assert_eq!(ready(&rendezvous.listing().await), ["a"]);
    let mut new = rendezvous.worker("a").await;
    assert!(ready(&rendezvous.listing().await).is_empty());
    let mut other = rendezvous.worker("b").await;
    other.report("203.0.113.2:4000").await;
    other.is_up().await;
    new.is_up().await;
    assert_eq!(ready(&rendezvous.listing().await), ["b"]);
}

#[tokio::test]
async fn the_late_end_of_a_replaced_session_leaves_the_new_one_alone() {
    let rendezvous = Rendezvous::start();
    let mut old = RawClient::register(rendezvous.address(), "a").await;
    rendezvous.listing_with(1).await;
    let mut new = rendezvous.worker("a").await;
    new.report("203.0.113.1:4000").await;
    // Only now does the old client read that it was replaced, and go.
    assert_eq!(old.read_close().await.0, 1000);
    old.send_frame(CLOSE, &1000_u16.to_be_bytes()).await;
    old.read_to_end().await;
    let listing = rendezvous.listing().await;
    assert_eq!(listing["connected_workers_count"], 1);
    assert_eq!(ready(&listing), ["a"]);
    let mut other = rendezvous.worker("b").await;
    other.report("203.0.113.2:4000").await;
    assert_eq!(new.offer().await.0, "b");
    assert_eq!(other.offer().await.0, "a");
}

#[tokio::test]
async fn what_a_replaced_session_still_sends_counts_for_nobody() {
    let rendezvous = Rendezvous::start();
    let mut old = RawClient::register(rendezvous.address(), "a").await;
    rendezvous.listing_with(1).await;
    let mut new = rendezvous.worker("a").await;
    old.send_frame(TEXT, report("203.0.113.1:4000").to_string().as_bytes()).await;
    let public_ip = r#"{"type":"register_public_ip","ip":"203.0.113.1"}"#;
    old.send_frame(TEXT, public_ip.as_bytes()).await;
    assert_eq!(old.read_close().await.0, 1000);
    old.read_to_end().await;
    new.is_up().await;
    let listing = rendezvous.listing().await;
    assert!(ready(&listing).is_empty());
    assert_eq!(listing["workers"]["a"]["http_reported_public_ip"], Value::Null);
    assert_eq!(listing["workers"]["a"]["stun_reported_udp_ip"], Value::Null);
}

#[tokio::test]
async fn a_session_whose_client_reads_nothing_is_replaced_all_the_same() {
    let rendezvous = Rendezvous::start();
    let mut old = RawClient::register(rendezvous.address(), "a").await;
    old.send_frame(TEXT, report("203.0.113.1:4000").to_string().as_bytes()).await;
    rendezvous.listing_when("a place", |listing| ready(listing) == ["a"]).await;
    let request = format!(r#"{{"type":"echo_request","payload":"{}"}}"#, "x".repeat(50_000));
    old.stuff(&frame(TEXT, request.as_bytes())).await;
    let mut new = rendezvous.worker("a").await;
    // The old session cannot even be told; its place and all it reported are gone all the same.
    let listing = rendezvous.listing().await;
    assert_eq!(listing["connected_workers_count"], 1);
    assert!(ready(&listing).is_empty());
    new.report("203.0.113.2:4000").await;
    new.is_up().await;
    old.read_to_end().await;
    new.is_up().await;
    assert_eq!(ready(&rendezvous.listing().await), ["a"]);
}

#[tokio::test]
async fn an_id_that_left_may_come_back() {
    let rendezvous = Rendezvous::start();
    for _ in 0..3 {
        let mut worker = rendezvous.worker("a").await;
        worker.report("203.0.113.1:4000").await;
        assert_eq!(ready(&rendezvous.listing().await), ["a"]);
        worker.close().await;
        rendezvous.listing_with(0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_sessions_with_one_id_that_come_at_once_one_is_left() {
    const SESSIONS: usize = 30;
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    let mut sessions = JoinSet::new();
    for _ in 0..SESSIONS {
        sessions.spawn(async move {
            let mut client = RawClient::register(address, "a").await;
            client.read_close().await.0
        });
    }
    for _ in 1..SESSIONS {
        let code = within("a replaced session", sessions.join_next()).await;
        assert_eq!(code.unwrap().unwrap(), 1000);
    }
    let listing = rendezvous.listing().await;
    assert_eq!(listing["connected_workers_count"], 1);
    rendezvous.server.shutdown().await;
    let last = within("the session that was left", sessions.join_next()).await;
    assert_eq!(last.unwrap().unwrap(), 1001);
}

#[tokio::test]
async fn ids_that_differ_in_case_alone_are_two_workers() {
    let rendezvous = Rendezvous::start();
    let mut small = rendezvous.worker("worker").await;
    let mut large = rendezvous.worker("WORKER").await;
    small.is_up().await;
    large.is_up().await;
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 2);
}
