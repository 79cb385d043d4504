//! The end of the service.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::raw::{RawClient, TEXT, frame};
use common::{Rendezvous, http, loopback, within};
use holepunch_rendezvous::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest time that a shutdown may take.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Shuts a server down. Time passes when all that has come is dealt with: what a busy machine takes is not counted.
async fn shut_down(server: Server) {
    tokio::time::pause();
    tokio::time::timeout(SHUTDOWN_MAX, server.shutdown()).await.expect("a shutdown in time");
    tokio::time::resume();
}

#[tokio::test]
async fn every_worker_is_told_1001() {
    let rendezvous = Rendezvous::start();
    let mut workers = JoinSet::new();
    for number in 0..20 {
        let mut worker = rendezvous.worker(&format!("w{number}")).await;
        if number % 3 == 0 {
            worker.report(&format!("203.0.113.1:{}", 4000 + number)).await;
        }
        workers.spawn(async move {
            if number % 3 == 0 && number != 18 {
                worker.offer().await;
            }
            worker.closed().await.0
        });
    }
    shut_down(rendezvous.server).await;
    let codes = within("every close", workers.join_all()).await;
    assert_eq!(codes, [1001; 20]);
}

#[tokio::test]
async fn clients_that_do_not_react_do_not_delay_the_end() {
    let rendezvous = Rendezvous::start();
    let mut mute = RawClient::register(rendezvous.address(), "mute").await;
    let mut stuffed = RawClient::register(rendezvous.address(), "stuffed").await;
    let payload = "x".repeat(50_000);
    let request = format!(r#"{{"type":"echo_request","payload":"{payload}"}}"#);
    stuffed.stuff(&frame(TEXT, request.as_bytes())).await;
    let mut headless = TcpStream::connect(rendezvous.address()).await.unwrap();
    headless.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    rendezvous.listing_with(2).await;
    shut_down(rendezvous.server).await;
    assert_eq!(mute.read_close().await.0, 1001);
}

#[tokio::test]
async fn without_workers_the_end_comes_at_once() {
    let rendezvous = Rendezvous::start();
    rendezvous.listing().await;
    shut_down(rendezvous.server).await;
}

#[tokio::test]
async fn when_the_end_has_come_the_addresses_are_free_again() {
    let mut config = common::config();
    config.listen = common::own_address(1, 18_080);
    config.stun_listen = vec![common::own_address(1, 13_478), common::own_address(1, 13_479)];
    for _ in 0..10 {
        // Right after the shutdown: nothing else gets a turn in between.
        let server = Server::bind(config.clone()).unwrap();
        assert_eq!(server.http_address(), config.listen);
        assert_eq!(server.stun_addresses(), config.stun_listen);
        assert_eq!(http::get(config.listen, "/health").await.status, 200);
        shut_down(server).await;
    }
    let refused = TcpStream::connect(config.listen).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_connection_without_a_request_ends_with_the_service() {
    let rendezvous = Rendezvous::start();
    let mut idle = RawClient::connect(rendezvous.address()).await;
    idle.write(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n").await;
    idle.read_head().await;
    shut_down(rendezvous.server).await;
    let mut rest = Vec::new();
    within("the end of the connection", idle.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"OK");
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_no_more_connections() {
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    rendezvous.listing().await;
    drop(rendezvous);
    within("a refusal", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let rendezvous = Rendezvous::with(|config| config.stun_listen = vec![loopback()]);
    let mut http_in_use = common::config();
    http_in_use.listen = rendezvous.address();
    let error = Server::bind(http_in_use).unwrap_err().to_string();
    assert!(error.contains(&rendezvous.address().to_string()), "{error}");
    let mut stun_in_use = common::config();
    stun_in_use.stun_listen = rendezvous.server.stun_addresses();
    let error = Server::bind(stun_in_use.clone()).unwrap_err().to_string();
    assert!(error.contains(&stun_in_use.stun_listen[0].to_string()), "{error}");
    stun_in_use.stun_is_optional = true;
    let without = Server::bind(stun_in_use).unwrap();
    assert!(without.stun_addresses().is_empty());
    assert_eq!(http::get(without.http_address(), "/health").await.status, 200);
}
