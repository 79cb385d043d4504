//! Connections of proxies that say who their client is before its first byte.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Rendezvous;
use common::http::{status, upgrade_request};
use common::raw::RawClient;

const TEXT_HEADER: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n";
const BINARY_HEADER: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\x01\xbb";
const LOCAL_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn with_proxy_protocol() -> Rendezvous {
    Rendezvous::with(|config| {
        config.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        config.proxy_protocol = true;
    })
}

/// Opens a WebSocket for worker `a` by a connection that begins with this; the address in the listing.
async fn seen(rendezvous: &Rendezvous, start: &[u8], further: &str) -> String {
    let mut client = RawClient::connect(rendezvous.address()).await;
    let request = upgrade_request("/ws/register/a", further);
    client.write(&[start, request.as_bytes()].concat()).await;
    assert_eq!(status(&client.read_head().await), 101);
    let mut reader = RawClient::connect(rendezvous.address()).await;
    let listing = "GET /debug/list_workers HTTP/1.0\r\n\r\n";
    reader.write(&[LOCAL_HEADER, listing.as_bytes()].concat()).await;
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut reader.stream, &mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let listing: serde_json::Value = serde_json::from_str(body).unwrap();
    listing["workers"]["a"].to_string()
}

#[tokio::test]
async fn a_worker_s_address_is_that_in_the_header_of_either_version() {
    for header in [TEXT_HEADER, BINARY_HEADER] {
        let seen = seen(&with_proxy_protocol(), header, "").await;
        assert!(seen.contains("198.51.100.7") && seen.contains("4711"), "{seen}");
    }
}

#[tokio::test]
async fn what_the_client_itself_forwards_is_not_believed() {
    let further = "X-Forwarded-For: 8.8.8.8\r\n";
    let seen = seen(&with_proxy_protocol(), TEXT_HEADER, further).await;
    assert!(seen.contains("198.51.100.7") && !seen.contains("8.8.8.8"), "{seen}");
}

#[tokio::test]
async fn nor_what_somebody_forwards_whom_the_proxy_does_not_name() {
    let further = "X-Forwarded-For: 8.8.8.8\r\nForwarded: for=8.8.4.4\r\n";
    for header in [&b"PROXY UNKNOWN\r\n"[..], LOCAL_HEADER] {
        let seen = seen(&with_proxy_protocol(), header, further).await;
        assert!(seen.contains("127.0.0.1") && !seen.contains("8.8."), "{seen}");
    }
}

#[tokio::test]
async fn a_proxy_that_says_nothing_of_its_client_gets_no_answer() {
    let rendezvous = with_proxy_protocol();
    for start in ["", "PROXY TCP4 nonsense\r\n"] {
        let mut client = RawClient::connect(rendezvous.address()).await;
        let request = format!("{start}GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
        client.write(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ended_or_reset =
            tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut answer).await;
        assert!(answer.is_empty(), "{start:?} {answer:?}");
    }
}

#[tokio::test]
async fn of_others_no_header_is_taken() {
    let rendezvous = Rendezvous::with(|config| {
        config.trusted_proxies.push("10.0.0.0/8".parse().unwrap());
        config.proxy_protocol = true;
    });
    for (start, expected) in [(&b""[..], 200), (TEXT_HEADER, 400), (BINARY_HEADER, 400)] {
        let mut client = RawClient::connect(rendezvous.address()).await;
        let request = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n";
        client.write(&[start, request].concat()).await;
        assert_eq!(status(&client.read_head().await), expected, "{start:?}");
    }
}
