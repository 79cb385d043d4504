//! Plain HTTP: the paths, and requests that are not what they should be.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::http::{exchange, get, upgrade_request};
use common::raw::{CLOSE, RawClient, TEXT};
use common::{Rendezvous, within};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_index_says_that_the_service_runs_and_where_workers_register() {
    let rendezvous = Rendezvous::start();
    let answer = get(rendezvous.address(), "/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("running"), "{message}");
    assert!(message.contains("/ws/register/{worker_id}"), "{message}");
    assert!(body["server"].as_str().unwrap().starts_with("holepunch/"), "{body}");
}

#[tokio::test]
async fn every_health_path_says_ok() {
    let rendezvous = Rendezvous::start();
    for path in ["/health", "/healthz", "/ready"] {
        let answer = get(rendezvous.address(), path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK"), "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_and_other_methods_405() {
    let rendezvous = Rendezvous::start();
    for path in ["/x", "/debug", "/debug/list_workers/x", "/ws", "/ws/register", "/ws/register/a/b"]
    {
        assert_eq!(get(rendezvous.address(), path).await.status, 404, "{path}");
    }
    let post = "POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(exchange(rendezvous.address(), post).await.status, 405);
}

#[tokio::test]
async fn what_is_not_http_is_answered_400_and_hurts_nobody() {
    let rendezvous = Rendezvous::start();
    for text in
        ["nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"]
    {
        assert_eq!(exchange(rendezvous.address(), text).await.status, 400, "{text:?}");
    }
    assert_eq!(get(rendezvous.address(), "/health").await.status, 200);
}

#[tokio::test]
async fn a_request_that_does_not_name_one_host_is_refused() {
    let rendezvous = Rendezvous::start();
    for (hosts, version, status) in [
        ("Host: t\r\n", "1.1", 200),
        ("Host: [2001:db8::1]:8080\r\n", "1.1", 200),
        ("Host:\r\n", "1.1", 200),
        ("", "1.1", 400),
        ("Host: a\r\nHost: a\r\n", "1.1", 400),
        ("Host: a\r\nHost: b\r\n", "1.0", 400),
        ("Host: a b\r\n", "1.1", 400),
        ("Host: a, b\r\n", "1.1", 400),
        ("Host: user@a\r\n", "1.1", 400),
        ("", "1.0", 200),
    ] {
        for path in ["/health", "http://t/health"] {
            let request = format!("GET {path} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let answer = exchange(rendezvous.address(), &request).await;
            assert_eq!(answer.status, status, "{request:?} {answer:?}");
        }
    }
}

#[tokio::test]
async fn another_version_of_websocket_is_told_which_one_is_spoken() {
    let rendezvous = Rendezvous::start();
    for path in ["/ws/register/a", "/ws/relay/0123456789abcdef"] {
        for version in ["Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 13, 8\r\n", ""] {
            let request = upgrade_request(path, "Connection: close\r\n")
                .replace("Sec-WebSocket-Version: 13\r\n", version);
            let answer = exchange(rendezvous.address(), &request).await;
            assert_eq!(answer.status, 426, "{path} {version:?}");
            assert!(answer.head.contains("\r\nsec-websocket-version: 13"), "{}", answer.head);
            assert!(answer.head.contains("\r\nupgrade: websocket"), "{}", answer.head);
        }
    }
}

#[tokio::test]
async fn a_websocket_key_that_is_not_16_bytes_is_refused() {
    let rendezvous = Rendezvous::start();
    let good = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for keys in ["", "Sec-WebSocket-Key: x\r\n", &good.repeat(2), &good.replace("ZQ==", "ZQAA")] {
        let request =
            upgrade_request("/ws/register/a", "Connection: close\r\n").replace(good, keys);
        assert_eq!(exchange(rendezvous.address(), &request).await.status, 400, "{keys:?}");
    }
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 0);
}

/// RFC 6455 §7.4.2, and the registry of IANA. (1014 is a gateway's, and the library does not know it.)
#[tokio::test]
async fn a_client_may_close_with_any_code_that_is_registered_or_of_its_own() {
    let rendezvous = Rendezvous::start();
    for (code, answered) in [
        (1000, 1000),
        (1012, 1012),
        (1013, 1013),
        (3000, 3000),
        (3999, 3999),
        (4000, 4000),
        (4999, 4999),
        (1005, 1002),
        (2000, 1002),
        (5000, 1002),
    ] {
        let mut client = RawClient::register(rendezvous.address(), "a").await;
        client.send_frame(CLOSE, &u16::to_be_bytes(code)).await;
        assert_eq!(client.read_close().await.0, answered, "{code}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let rendezvous = Rendezvous::start();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX-Long: {}\r\n\r\n",
        "x".repeat(16 * 1024)
    );
    assert_eq!(exchange(rendezvous.address(), &request).await.status, 431);
}

#[tokio::test]
async fn a_percent_encoded_id_is_decoded() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("Werkzeug%207%2F%C3%BC").await;
    assert_eq!(worker.details().await["worker_id"], "Werkzeug 7/ü");
    let listing = rendezvous.listing().await;
    assert!(listing["workers"]["Werkzeug 7/ü"].is_object(), "{listing}");
}

#[tokio::test]
async fn an_empty_id_is_404() {
    let rendezvous = Rendezvous::start();
    assert_eq!(RawClient::open(rendezvous.address(), "/ws/register/").await.0, 404);
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 0);
}

#[tokio::test]
async fn ids_that_cannot_be_are_400() {
    let rendezvous = Rendezvous::start();
    let too_long = "x".repeat(257);
    for id in ["a%00", "a%0Ab", "%7F", "%C2%85", "%FF", too_long.as_str()] {
        let path = format!("/ws/register/{id}");
        assert_eq!(RawClient::open(rendezvous.address(), &path).await.0, 400, "{id}");
    }
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 0);
}

#[tokio::test]
async fn the_longest_id_registers() {
    let rendezvous = Rendezvous::start();
    let id = "x".repeat(256);
    let _worker = rendezvous.worker(&id).await;
    assert!(rendezvous.listing().await["workers"][&id].is_object());
}

#[tokio::test]
async fn a_plain_get_on_the_register_path_is_refused_and_registers_nobody() {
    let rendezvous = Rendezvous::start();
    let answer = get(rendezvous.address(), "/ws/register/a").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    let wrong_version = upgrade_request("/ws/register/a", "Connection: close\r\n")
        .replace("Version: 13", "Version: 12");
    let answer = exchange(rendezvous.address(), &wrong_version).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 0);
}

#[tokio::test]
async fn offered_extensions_and_subprotocols_are_not_taken() {
    let rendezvous = Rendezvous::start();
    let further = "Sec-WebSocket-Extensions: permessage-deflate\r\n\
                   Sec-WebSocket-Protocol: chat\r\nOrigin: https://test\r\n";
    let mut client = RawClient::connect(rendezvous.address()).await;
    client.write(upgrade_request("/ws/register/a", further).as_bytes()).await;
    let head = client.read_head().await.to_lowercase();
    assert_eq!(common::http::status(&head), 101);
    // The answer to the key that RFC 6455 §1.3 uses as its example.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
    client.send_frame(TEXT, br#"{"type":"echo_request"}"#).await;
    assert_eq!(client.read_frame().await.unwrap().0, TEXT);
}

/// The answer to a WebSocket handshake with this origin: its status, and the rest.
async fn with_origin(
    rendezvous: &Rendezvous,
    path: &str,
    host: &str,
    origin: &str,
) -> (u16, String) {
    let further = format!("Connection: close\r\nOrigin: {origin}\r\n");
    let request = upgrade_request(path, &further).replace("Host: test", &format!("Host: {host}"));
    let mut client = RawClient::connect(rendezvous.address()).await;
    client.write(request.as_bytes()).await;
    let head = client.read_head().await;
    let mut body = String::new();
    if common::http::status(&head) != 101 {
        let reading = tokio::io::AsyncReadExt::read_to_string(&mut client.stream, &mut body);
        within("a body", reading).await.unwrap();
    }
    (common::http::status(&head), body)
}

#[tokio::test]
async fn a_web_page_of_another_site_opens_no_websocket() {
    let rendezvous = Rendezvous::start();
    for path in ["/ws/register/a", "/ws/relay/0123456789abcdef"] {
        for origin in ["https://evil.example", "null", "http://10.0.0.7:9090"] {
            let (status, body) = with_origin(&rendezvous, path, "10.0.0.7:8080", origin).await;
            assert_eq!(status, 403, "{path} {origin}");
            assert!(body.contains("Origin") && body.contains("--public-host"), "{body}");
        }
    }
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 0);
}

#[tokio::test]
async fn a_program_whose_origin_is_what_it_asks_for_registers_through_a_proxy_too() {
    let rendezvous =
        Rendezvous::with(|config| config.public_hosts = vec!["Own.example".to_owned()]);
    for (host, origin) in [
        ("10.0.0.7:8080", "http://10.0.0.7:8080"),
        ("own.example:443", "https://own.example"),
        ("backend:8080", "https://own.example"),
    ] {
        let (status, body) = with_origin(&rendezvous, "/ws/register/a", host, origin).await;
        assert_eq!(status, 101, "{host} {origin}: {body}");
    }
}

#[tokio::test]
async fn a_server_that_knows_its_names_lets_no_page_in_whose_site_has_come_to_mean_its_address() {
    let named = Rendezvous::with(|config| config.public_hosts = vec!["Own.example".to_owned()]);
    let nameless = Rendezvous::start();
    for (rendezvous, expected) in [(named, 403), (nameless, 101)] {
        for (host, origin) in [
            ("rebound.example", "http://rebound.example"),
            ("rebound.example:443", "https://rebound.example"),
        ] {
            let (status, body) = with_origin(&rendezvous, "/ws/register/a", host, origin).await;
            assert_eq!(status, expected, "{host} {origin}: {body}");
        }
    }
}

#[tokio::test]
async fn clients_that_never_send_their_head_do_not_stop_the_others() {
    let rendezvous = Rendezvous::start();
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(rendezvous.address()).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /ws/register/slow HTTP/1.1\r\nHos").await.unwrap();
        }
        slow.push(stream);
    }
    assert_eq!(get(rendezvous.address(), "/health").await.status, 200);
    let mut worker = rendezvous.worker("a").await;
    worker.is_up().await;
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 1);
    drop(slow);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::connect(rendezvous.address()).await;
    for _ in 0..3 {
        client.write(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n").await;
        let head = client.read_head().await;
        assert_eq!(common::http::status(&head), 200);
        let mut body = [0; 2];
        within("a body", tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut body))
            .await
            .unwrap();
        assert_eq!(&body, b"OK");
    }
}
