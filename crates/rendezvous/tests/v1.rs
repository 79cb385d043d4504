//! The sub-protocol `holepunch.v1` over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Rendezvous;
use common::v1::{Client, open};
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::StatusCode;

#[tokio::test]
async fn the_subprotocol_is_selected_among_others_and_the_welcome_comes_first() {
    let rendezvous = Rendezvous::start();
    let opened = open(rendezvous.address(), "a", "chat, holepunch.v1").await.unwrap();
    let (mut client, selected) = opened;
    assert_eq!(selected.unwrap(), "holepunch.v1");
    let welcome = client.receive("welcome").await;
    assert_eq!(welcome["observed_ip"], "127.0.0.1");
    assert!(welcome["observed_port"].is_u64() && welcome["resume"].is_string());
    assert_eq!(welcome["proof_nonce"].as_str().unwrap().len(), 32);
    let stun: Vec<String> =
        rendezvous.server.stun_addresses().iter().map(|it| it.to_string()).collect();
    assert_eq!(welcome["stun"], json!(stun));
}

#[tokio::test]
async fn a_client_that_asks_for_something_else_gets_the_baseline() {
    let rendezvous = Rendezvous::start();
    let refused = open(rendezvous.address(), "a", "chat").await;
    // The library insists; the server itself has selected nothing.
    assert!(matches!(refused, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn two_clients_have_a_session_from_offer_to_end() {
    let rendezvous = Rendezvous::start();
    let mut first = Client::connect(rendezvous.address(), "a?room=r%20%26").await;
    let mut second = Client::connect(rendezvous.address(), "b?room=r%20%26").await;
    let mut elsewhere = Client::connect(rendezvous.address(), "c").await;
    elsewhere.report(4003).await;
    first.report(4001).await;
    second.report(4002).await;
    let offers =
        [first.receive("p2p_connection_offer").await, second.receive("p2p_connection_offer").await];
    assert_eq!(
        (&offers[0]["peer_worker_id"], &offers[0]["peer_udp_port"]),
        (&json!("b"), &json!(4002))
    );
    assert_eq!(
        (&offers[0]["role"], &offers[1]["role"]),
        (&json!("controlled"), &json!("controlling"))
    );
    assert_eq!(offers[0]["credentials"], offers[1]["peer_credentials"]);
    assert_eq!(offers[0]["plan"]["strategy"], "plain");
    let session = offers[0]["session"].clone();
    let candidate = json!({ "kind": "host", "ip": "127.0.0.1", "port": 5000, "priority": 1 });
    first.send(json!({ "type": "candidates", "generation": 1, "candidates": [candidate] })).await;
    let told = second.receive("peer_candidates").await;
    assert_eq!((&told["session"], &told["candidates"]), (&session, &json!([candidate])));
    second.send(json!({ "type": "leave", "session": session })).await;
    let ended = first.receive("session_ended").await;
    assert_eq!((&ended["session"], &ended["reason"]), (&session, &json!("the peer has left")));
    assert_eq!(ended["code"], "peer_left");
    // What is over is left alone, and counted.
    second.send(json!({ "type": "leave", "session": session })).await;
    second.is_up().await;
    let metrics = common::http::metrics(rendezvous.address()).await;
    for line in [
        r#"sessions_started_total{nats="unknown/unknown",strategy="plain"} 1"#,
        r#"sessions_ended_total{reason="peer_left"} 1"#,
        r#"session_outcomes_total{nats="unknown/unknown",path="none"} 1"#,
        r#"dropped_total{reason="no_session"} 1"#,
    ] {
        assert!(metrics.contains(&format!("\nholepunch_{line}\n")), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_bad_room_is_refused_in_words() {
    let rendezvous = Rendezvous::start();
    let long = format!("a?room={}", "x".repeat(129));
    for path in [long.as_str(), "a?room=%00"] {
        let Err(Error::Http(response)) = open(rendezvous.address(), path, "holepunch.v1").await
        else {
            panic!("{path}: not refused")
        };
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }
}
