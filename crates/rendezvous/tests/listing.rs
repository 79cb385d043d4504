//! `GET /debug/list_workers`, in both shapes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Rendezvous, http};
use serde_json::{Value, json};

/// The listing of one worker `a`, seen at 127.0.0.1 and this port.
fn listing_of_a(ready: &[&str], port: u16, http_ip: Option<&str>, udp: Option<u16>) -> Value {
    let udp_ip = udp.map(|_| "203.0.113.6");
    json!({
        "connected_workers_count": 1,
        "workers_ready_for_pairing_count": ready.len(),
        "workers_ready_list": ready,
        "workers": { "a": {
            "websocket_observed_ip": "127.0.0.1",
            "websocket_observed_port": port,
            "http_reported_public_ip": http_ip,
            "stun_reported_udp_ip": udp_ip,
            "stun_reported_udp_port": udp,
            "websocket_connected": true,
            "public_ip": http_ip.unwrap_or("127.0.0.1"),
            "public_port": port,
            "connected": true,
            "raw_state": 1,
            "websocket_raw_state": 1,
        } },
        "workers_details": { "a": {
            "ws_ip": "127.0.0.1",
            "ws_port": port,
            "http_ip": http_ip,
            "stun_udp_ip": udp_ip,
            "stun_udp_port": udp,
            "ws_connected": true,
        } },
    })
}

fn empty() -> Value {
    json!({
        "connected_workers_count": 0, "workers_ready_for_pairing_count": 0,
        "workers_ready_list": [], "workers": {}, "workers_details": {},
    })
}

#[tokio::test]
async fn without_workers_the_listing_is_empty_json() {
    let rendezvous = Rendezvous::start();
    let answer = http::get(rendezvous.address(), "/debug/list_workers").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert_eq!(rendezvous.listing().await, empty());
}

#[tokio::test]
async fn the_listing_follows_a_worker_from_registration_to_its_end() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    let port = worker.local.port();
    assert_eq!(rendezvous.listing().await, listing_of_a(&[], port, None, None));
    worker.send(json!({ "type": "register_public_ip", "ip": "203.0.113.5" })).await;
    worker.is_up().await;
    let expected = listing_of_a(&[], port, Some("203.0.113.5"), None);
    assert_eq!(rendezvous.listing().await, expected);
    worker.report("203.0.113.6:4001").await;
    let expected = listing_of_a(&["a"], port, Some("203.0.113.5"), Some(4001));
    assert_eq!(rendezvous.listing().await, expected);
    worker.close().await;
    rendezvous.listing_with(0).await;
    assert_eq!(rendezvous.listing().await, empty());
}

#[tokio::test]
async fn a_pair_leaves_the_ready_list_and_stays_in_the_listing() {
    let rendezvous = Rendezvous::start();
    let mut first = rendezvous.worker("a").await;
    let mut second = rendezvous.worker("b").await;
    first.report("203.0.113.1:4000").await;
    second.report("203.0.113.2:4000").await;
    let listing = rendezvous.listing().await;
    assert!(common::ready(&listing).is_empty());
    assert_eq!(listing["connected_workers_count"], 2);
    assert_eq!(listing["workers"]["a"]["stun_reported_udp_ip"], "203.0.113.1");
    assert_eq!(listing["workers_details"]["b"]["stun_udp_ip"], "203.0.113.2");
}

#[tokio::test]
async fn addresses_are_written_unmapped() {
    let rendezvous = Rendezvous::with(|config| config.listen = "[::]:0".parse().unwrap());
    let port = rendezvous.address().port();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut worker = common::worker::Worker::connect(address, "a").await;
    worker.send(json!({ "type": "register_public_ip", "ip": "::ffff:203.0.113.5" })).await;
    worker.report("[::ffff:203.0.113.6]:4001").await;
    let answer = http::get(address, "/debug/list_workers").await;
    let listing: Value = serde_json::from_str(&answer.body).unwrap();
    let expected = listing_of_a(&["a"], worker.local.port(), Some("203.0.113.5"), Some(4001));
    assert_eq!(listing, expected);
}

#[tokio::test]
async fn the_port_of_a_client_behind_a_proxy_is_unknown() {
    let rendezvous = Rendezvous::behind_a_proxy();
    let _worker = rendezvous.worker_from("198.51.100.7", "a").await;
    let listing = rendezvous.listing().await;
    let entry = &listing["workers"]["a"];
    assert_eq!(entry["websocket_observed_ip"], "198.51.100.7");
    assert_eq!(entry["public_ip"], "198.51.100.7");
    assert_eq!(entry["websocket_observed_port"], Value::Null);
    assert_eq!(entry["public_port"], Value::Null);
    assert_eq!(listing["workers_details"]["a"]["ws_port"], Value::Null);
}

#[tokio::test]
async fn a_client_cannot_forge_its_address_without_a_trusted_proxy() {
    let rendezvous = Rendezvous::start();
    let worker = rendezvous.worker_from("198.51.100.7", "a").await;
    let port = worker.local.port();
    assert_eq!(rendezvous.listing().await, listing_of_a(&[], port, None, None));
}

#[tokio::test]
async fn every_worker_stands_in_both_shapes() {
    let rendezvous = Rendezvous::start();
    let mut workers = Vec::new();
    for number in 0..5 {
        workers.push(rendezvous.worker(&format!("w{number}")).await);
    }
    let listing = rendezvous.listing().await;
    assert_eq!(listing["connected_workers_count"], 5);
    for worker in &workers {
        let port = worker.local.port();
        assert_eq!(listing["workers"][&worker.id]["public_port"], port);
        assert_eq!(listing["workers_details"][&worker.id]["ws_port"], port);
    }
}

#[tokio::test]
async fn a_fleet_is_listed_page_by_page_and_every_page_tells_how_many_there_are() {
    let rendezvous = Rendezvous::start();
    let mut workers = Vec::new();
    for id in ["b", "e", "a b", "d", "c"] {
        let mut worker = rendezvous.worker(&id.replace(' ', "%20")).await;
        worker.send(json!({ "type": "register_public_ip", "ip": "203.0.113.5" })).await;
        worker.is_up().await;
        workers.push(worker);
    }
    workers[3].report("203.0.113.6:4001").await;
    let mut query = "?limit=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let answer = http::get(rendezvous.address(), &format!("/debug/list_workers{query}")).await;
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(page["connected_workers_count"], 5);
        assert_eq!(common::ready(&page), ["d"]);
        let ids = |shape: &str| -> Vec<String> {
            page[shape].as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(ids("workers"), ids("workers_details"));
        pages.push(ids("workers"));
        let Some(next) = page["next_after"].as_str() else { break };
        query = format!("?limit=2&after={}", next.replace(' ', "+"));
    }
    assert_eq!(pages, [vec!["a b", "b"], vec!["c", "d"], vec!["e"]]);
    assert!(rendezvous.listing().await.get("next_after").is_none(), "all of it is no page");
    let wrong = http::get(rendezvous.address(), "/debug/list_workers?limit=0").await;
    assert_eq!((wrong.status, wrong.body.as_str()), (400, "expected a limit from 1 to 1000"));
}

#[tokio::test]
async fn a_listing_that_is_turned_off_is_404() {
    let rendezvous = Rendezvous::with(|config| config.listing = false);
    let _worker = rendezvous.worker("a").await;
    let answer = http::get(rendezvous.address(), "/debug/list_workers").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, ""));
}
