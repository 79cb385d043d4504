//! A server that speaks TLS by itself.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
#[path = "../common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::time::Duration;

use client::{connect, tls, tunnel};
use common::raw::RawClient;
use common::relay::{Linked, closed, receive, send};
use common::worker::Worker;
use common::{Rendezvous, http, within};
use futures_util::SinkExt;
use holepunch_rendezvous::{Config, Tls, TlsCounts};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// The first bytes of a record with a handshake that does not come (RFC 8446 §5.1).
const BEGUN: [u8; 5] = [22, 3, 1, 2, 0];

/// A server, and where clients without TLS reach it.
async fn start(change: impl FnOnce(&mut Config)) -> (Rendezvous, Tls, SocketAddr) {
    let tls = tls();
    let rendezvous = Rendezvous::with(|config| {
        config.tls = Some(tls.clone());
        change(config);
    });
    let tunnel = tunnel(rendezvous.address()).await;
    (rendezvous, tls, tunnel)
}

async fn ends(stream: &mut TcpStream) -> bool {
    let end = within("an end", stream.read(&mut [0; 64])).await;
    !end.is_ok_and(|bytes| bytes > 0)
}

#[tokio::test]
async fn workers_register_and_say_much_over_it() {
    let (_rendezvous, tls, tunnel) = start(|_| {}).await;
    assert_eq!(http::get(tunnel, "/healthz").await.status, 200);
    let mut worker = Worker::connect(tunnel, "a").await;
    for length in [0, 1, 1_000, 20_000, 60_000] {
        let payload = "x".repeat(length);
        for _ in 0..5 {
            worker.send(json!({ "type": "echo_request", "payload": payload })).await;
        }
        for _ in 0..5 {
            assert_eq!(worker.receive().await["original_payload"], payload);
        }
    }
    worker.close().await;
    assert_eq!(tls.counts(), TlsCounts { handshakes: 2, ..TlsCounts::default() });
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_by_tls_as_well() {
    let (rendezvous, ..) = start(|_| {}).await;
    let mut client = connect(rendezvous.address()).await;
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    within("an answer", client.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"OK"));
}

#[tokio::test]
async fn what_is_relayed_over_it_comes_whole_and_waits_for_who_does_not_read() {
    let (_rendezvous, _tls, tunnel) = start(|_| {}).await;
    let linked = Linked::new(tunnel, "a").await;
    let [mut first, mut second] = linked.open_both().await;
    let payload: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    for length in [0, 1, 125, 1452, 16_384, 64 * 1024] {
        send(&mut first, &payload[..length]).await;
        assert_eq!(receive(&mut second).await, payload[..length]);
    }
    // More than all buffers on the way hold.
    let writing = async {
        for number in 0..1_000_u32 {
            let message = [&number.to_be_bytes()[..], &payload[..60_000]].concat();
            first.feed(Message::binary(message)).await.unwrap();
        }
        first.flush().await.unwrap();
    };
    let reading = async {
        for number in 0..1_000_u32 {
            let message = receive(&mut second).await;
            assert_eq!(message[..4], number.to_be_bytes());
            assert_eq!(message[4..], payload[..60_000]);
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn a_relay_says_why_it_ends() {
    let (_rendezvous, _tls, tunnel) = start(|_| {}).await;
    let mut linked = Linked::new(tunnel, "a").await;
    let [mut first, _second] = linked.open_both().await;
    linked.leave().await;
    assert_eq!(closed(&mut first).await.0, 1000);
}

#[tokio::test]
async fn http_without_tls_is_answered_with_what_to_do() {
    let (rendezvous, tls, _tunnel) = start(|_| {}).await;
    let answer = http::get(rendezvous.address(), "/healthz").await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("https://"), "{}", answer.body);
    assert_eq!(tls.counts().plain_requests, 1);
}

#[tokio::test]
async fn who_does_not_shake_hands_is_ended_at_once_or_in_time() {
    let (rendezvous, tls, _tunnel) = start(|_| {}).await;
    let mut garbage = RawClient::connect(rendezvous.address()).await;
    garbage.write(&[0; 2_000]).await;
    within("an end", async { while !ends(&mut garbage.stream).await {} }).await;
    assert_eq!(tls.counts().handshake_failures, 1);
    for begun in [&[][..], &BEGUN] {
        let mut slow = RawClient::connect(rendezvous.address()).await;
        slow.write(begun).await;
        // What it has written is with the server before time passes there.
        let other = connect(rendezvous.address()).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
        assert!(ends(&mut slow.stream).await);
        drop(other);
    }
    assert_eq!(tls.counts().handshake_failures, 2, "who has said nothing has failed at nothing");
}

#[tokio::test]
async fn handshakes_that_hang_keep_nobody_else_out() {
    let (rendezvous, _tls, tunnel) = start(|config| config.open_files_max = Some(464)).await;
    let mut hanging = Vec::new();
    for _ in 0..300 {
        let mut client = RawClient::connect(rendezvous.address()).await;
        client.write(&BEGUN).await;
        hanging.push(client);
    }
    let mut worker = Worker::connect(tunnel, "a").await;
    worker.is_up().await;
    for client in &mut hanging[..150] {
        assert!(ends(&mut client.stream).await);
    }
}
