//! Who is offered to whom, and when.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::raw::{RawClient, TEXT, frame};
use common::worker::{Worker, report};
use common::{Rendezvous, ready, within};
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

#[tokio::test]
async fn the_ack_goes_out_before_the_offer_and_both_have_their_exact_fields() {
    let rendezvous = Rendezvous::start();
    let mut first = rendezvous.worker("a").await;
    let mut second = rendezvous.worker("b").await;
    first.report("203.0.113.1:4001").await;
    second.send(report("203.0.113.2:4002")).await;
    let ack = json!({ "type": "udp_endpoint_ack", "status": "success" });
    assert_eq!(second.receive().await, ack);
    let offer = json!({
        "type": "p2p_connection_offer", "peer_worker_id": "a",
        "peer_udp_ip": "203.0.113.1", "peer_udp_port": 4001,
    });
    assert_eq!(second.receive().await, offer);
    let offer = json!({
        "type": "p2p_connection_offer", "peer_worker_id": "b",
        "peer_udp_ip": "203.0.113.2", "peer_udp_port": 4002,
    });
    assert_eq!(first.receive().await, offer);
    first.is_up().await;
    second.is_up().await;
}

#[tokio::test]
async fn workers_are_paired_in_the_order_of_their_reports() {
    let rendezvous = Rendezvous::start();
    let mut workers = Vec::new();
    for id in ["d", "c", "b", "a"] {
        workers.push(rendezvous.worker(id).await);
    }
    workers.reverse();
    for (worker, port) in workers.iter_mut().zip(4001..) {
        worker.report(&format!("203.0.113.1:{port}")).await;
    }
    let mut peers = Vec::new();
    for worker in &mut workers {
        peers.push(worker.offer().await.0);
    }
    assert_eq!(peers, ["b", "a", "d", "c"]);
}

#[tokio::test]
async fn two_workers_with_one_endpoint_wait_and_the_longest_waiter_is_served_first() {
    let rendezvous = Rendezvous::start();
    let [mut a, mut b] = [rendezvous.worker("a").await, rendezvous.worker("b").await];
    a.report("203.0.113.1:4000").await;
    b.report("203.0.113.1:4000").await;
    a.is_up().await;
    b.is_up().await;
    assert_eq!(ready(&rendezvous.listing().await), ["a", "b"]);
    let [mut c, mut d] = [rendezvous.worker("c").await, rendezvous.worker("d").await];
    c.report("203.0.113.3:4000").await;
    assert_eq!(c.offer().await, ("a".to_owned(), "203.0.113.1:4000".to_owned()));
    assert_eq!(a.offer().await.0, "c");
    assert_eq!(ready(&rendezvous.listing().await), ["b"]);
    d.report("203.0.113.4:4000").await;
    assert_eq!(d.offer().await.0, "b");
    assert_eq!(b.offer().await.0, "d");
}

#[tokio::test]
async fn reporting_again_keeps_the_place_and_the_newest_endpoint_is_offered() {
    let rendezvous = Rendezvous::start();
    let [mut a, mut b] = [rendezvous.worker("a").await, rendezvous.worker("b").await];
    a.report("203.0.113.1:4000").await;
    b.report("203.0.113.1:4000").await;
    a.report("203.0.113.1:4000").await;
    assert_eq!(ready(&rendezvous.listing().await), ["a", "b"]);
    b.report("203.0.113.1:4009").await;
    assert_eq!(a.offer().await, ("b".to_owned(), "203.0.113.1:4009".to_owned()));
    assert_eq!(b.offer().await, ("a".to_owned(), "203.0.113.1:4000".to_owned()));
}

#[tokio::test]
async fn a_worker_is_never_paired_with_itself() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    for port in 4000..4003 {
        worker.report(&format!("203.0.113.1:{port}")).await;
        worker.is_up().await;
    }
    assert_eq!(ready(&rendezvous.listing().await), ["a"]);
}

#[tokio::test]
async fn every_new_report_asks_for_another_peer() {
    let rendezvous = Rendezvous::start();
    let [mut a, mut b] = [rendezvous.worker("a").await, rendezvous.worker("b").await];
    for _ in 0..3 {
        a.report("203.0.113.1:4000").await;
        b.report("203.0.113.2:4000").await;
        assert_eq!(a.offer().await.0, "b");
        assert_eq!(b.offer().await.0, "a");
        assert!(ready(&rendezvous.listing().await).is_empty());
    }
}

#[tokio::test]
async fn a_worker_whose_peer_left_gets_another_one_by_a_new_report() {
    let rendezvous = Rendezvous::start();
    let [mut a, mut b] = [rendezvous.worker("a").await, rendezvous.worker("b").await];
    a.report("203.0.113.1:4000").await;
    b.report("203.0.113.2:4000").await;
    assert_eq!(a.offer().await.0, "b");
    b.close().await;
    rendezvous.listing_with(1).await;
    a.is_up().await;
    a.report("203.0.113.1:4000").await;
    let mut c = rendezvous.worker("c").await;
    c.report("203.0.113.3:4000").await;
    assert_eq!(c.offer().await.0, "a");
    assert_eq!(a.offer().await.0, "c");
}

#[tokio::test]
async fn a_refused_report_pairs_nobody() {
    let rendezvous = Rendezvous::start();
    let [mut a, mut b] = [rendezvous.worker("a").await, rendezvous.worker("b").await];
    a.report("203.0.113.1:4000").await;
    for (ip, port) in [("203.0.113.2", json!(0)), ("224.0.0.1", json!(4000)), ("x", json!(4000))] {
        b.send(json!({ "type": "update_udp_endpoint", "udp_ip": ip, "udp_port": port })).await;
        assert_eq!(b.receive().await["status"], "error");
        b.is_up().await;
        a.is_up().await;
    }
    assert_eq!(ready(&rendezvous.listing().await), ["a"]);
}

#[tokio::test]
async fn workers_that_have_not_reported_are_not_offered() {
    let rendezvous = Rendezvous::start();
    let mut silent = rendezvous.worker("silent").await;
    silent.send(json!({ "type": "register_public_ip", "ip": "203.0.113.1" })).await;
    let mut worker = rendezvous.worker("a").await;
    worker.report("203.0.113.2:4000").await;
    worker.is_up().await;
    silent.is_up().await;
    assert_eq!(ready(&rendezvous.listing().await), ["a"]);
}

#[tokio::test]
async fn a_worker_whose_connection_was_reset_is_never_offered() {
    let rendezvous = Rendezvous::start();
    let mut gone = rendezvous.worker("gone").await;
    gone.report("203.0.113.1:4000").await;
    gone.reset();
    let listing = rendezvous.listing_with(0).await;
    assert!(ready(&listing).is_empty());
    let mut worker = rendezvous.worker("a").await;
    worker.report("203.0.113.2:4000").await;
    worker.is_up().await;
    let mut other = rendezvous.worker("b").await;
    other.report("203.0.113.3:4000").await;
    assert_eq!(worker.offer().await.0, "b");
    assert_eq!(other.offer().await.0, "a");
}

#[tokio::test]
async fn when_an_offer_cannot_be_sent_the_other_worker_is_paired_again() {
    let rendezvous = Rendezvous::start();
    let mut stuck = RawClient::register(rendezvous.address(), "stuck").await;
    stuck.send_frame(TEXT, report("203.0.113.1:4000").to_string().as_bytes()).await;
    rendezvous.listing_when("a place", |listing| ready(listing) == ["stuck"]).await;
    // The server has so much to say to it that the offer stays behind.
    let request = format!(r#"{{"type":"echo_request","payload":"{}"}}"#, "x".repeat(50_000));
    stuck.stuff(&frame(TEXT, request.as_bytes())).await;
    let [mut b, mut c] = [rendezvous.worker("b").await, rendezvous.worker("c").await];
    b.report("203.0.113.2:4000").await;
    assert_eq!(b.offer().await.0, "stuck");
    stuck.reset();
    rendezvous.listing_when("the old place", |listing| ready(listing) == ["b"]).await;
    c.report("203.0.113.3:4000").await;
    assert_eq!(c.offer().await.0, "b");
    assert_eq!(b.offer().await.0, "c");
}

/// Lets a waiting worker vanish in the very moment in which another one reports: whichever of the two
/// the server sees first, the other one is not lost to a third.
async fn vanish_while_another_reports(vanish: fn(Worker)) {
    let rendezvous = Rendezvous::start();
    for _ in 0..50 {
        let mut gone = rendezvous.worker("gone").await;
        let [mut b, mut c] = [rendezvous.worker("b").await, rendezvous.worker("c").await];
        gone.report("203.0.113.1:4000").await;
        vanish(gone);
        b.report("203.0.113.2:4000").await;
        c.report("203.0.113.3:4000").await;
        assert_eq!(c.offer().await.0, "b");
        let (mut peer, _) = b.offer().await;
        if peer == "gone" {
            (peer, _) = b.offer().await;
        }
        assert_eq!(peer, "c");
        b.close().await;
        c.close().await;
        rendezvous.listing_with(0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_not_lost_to_a_peer_whose_connection_is_reset_just_then() {
    vanish_while_another_reports(Worker::reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_not_lost_to_a_peer_that_hangs_up_just_then() {
    vanish_while_another_reports(drop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_workers_at_once_are_all_paired_once_and_symmetrically() {
    const WORKERS: u16 = 200;
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    let all_registered = Arc::new(Barrier::new(WORKERS.into()));
    let mut tasks = JoinSet::new();
    for number in 0..WORKERS {
        let all_registered = Arc::clone(&all_registered);
        tasks.spawn(async move {
            let mut worker = Worker::connect(address, &format!("w{number}")).await;
            within("all registrations", all_registered.wait()).await;
            worker.report(&format!("203.0.113.7:{}", 4000 + number)).await;
            let offer = worker.offer().await;
            (worker, offer)
        });
    }
    let mut workers = Vec::new();
    let mut offers = BTreeMap::new();
    while let Some(joined) = tasks.join_next().await {
        let (worker, offer) = joined.unwrap();
        offers.insert(worker.id.clone(), offer);
        workers.push(worker);
    }
    for (id, (peer, endpoint)) in &offers {
        assert_ne!(id, peer);
        assert_eq!(&offers[peer].0, id);
        let number: u16 = peer[1..].parse().unwrap();
        assert_eq!(endpoint, &format!("203.0.113.7:{}", 4000 + number));
    }
    let listing = rendezvous.listing().await;
    assert_eq!(listing["connected_workers_count"], WORKERS);
    assert!(ready(&listing).is_empty());
    for worker in &mut workers {
        worker.is_up().await;
    }
}
