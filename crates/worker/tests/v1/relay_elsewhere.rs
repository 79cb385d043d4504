//! A relay that is not the rendezvous' own.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::agent::{offer_without_endpoint, session_text};
use crate::common::{loopback, within};
use crate::scene::{Scene, said};

/// What opens the relay of a session, as the test makes it.
fn token(number: u8) -> String {
    format!("{number:02x}").repeat(16)
}

/// An offer with a relay at this URL.
fn offer(session: u64, url: &str) -> Value {
    let mut offer = offer_without_endpoint(session, "controlling");
    // Without a key there is no link, and nothing to relay.
    offer["peer_key"] = json!("07".repeat(32));
    offer["relay_token"] = json!(token(1));
    offer["relay_url"] = json!(url);
    offer
}

/// The head of the next request, and what it came on.
async fn asked(relay: &TcpListener) -> (String, TcpStream) {
    within("a request for the relay", async {
        let (mut stream, _) = relay.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), stream)
    })
    .await
}

#[tokio::test]
async fn the_relay_of_the_offer_is_asked_with_the_token_and_nothing_else() {
    let relay = TcpListener::bind(loopback()).await.unwrap();
    let address = relay.local_addr().unwrap();
    let mut scene = Scene::with(|config| {
        let url = format!("http://name:secret@{}/base", config.rendezvous.authority());
        config.rendezvous = url.parse().unwrap();
    })
    .await;
    scene.session.send(offer(1, &format!("http://{address}/here"))).await;
    let (head, _stream) = asked(&relay).await;
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    lines.retain(|line| !line.starts_with("Sec-WebSocket-Key: "));
    let expected = [
        &format!("GET /here/ws/relay/{} HTTP/1.1", session_text(1)),
        &format!("Host: {address}"),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        &format!("Authorization: Bearer {}", token(1)),
    ];
    assert_eq!(lines, expected, "the password is the rendezvous' own");
}

#[tokio::test]
async fn a_token_that_has_expired_is_replaced_by_the_one_that_comes() {
    let relay = TcpListener::bind(loopback()).await.unwrap();
    let mut scene = Scene::ready().await;
    let url = format!("http://{}", relay.local_addr().unwrap());
    scene.session.send(offer(1, &url)).await;
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let (head, mut stream) = asked(&relay).await;
        assert!(head.contains(&token(1)), "{head}");
        let fresh = json!({ "type": "relay_token", "session": session_text(1), "token": token(2) });
        if status.starts_with("403") {
            scene.session.send(fresh).await;
            scene.said().await;
        }
        stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
    }
    let (head, _stream) = asked(&relay).await;
    assert!(head.contains(&token(2)), "{head}");
}

#[tokio::test]
async fn a_hostile_url_is_not_followed_and_nobody_else_is_asked_for_it() {
    let relay = TcpListener::bind(loopback()).await.unwrap();
    let address = relay.local_addr().unwrap();
    let mut scene = Scene::ready().await;
    for (number, url) in [
        format!("http://a:b@{address}"),
        format!("http://{address}/?do=it"),
        format!("http://{address}/#x"),
        format!("ws://{address}"),
        format!("ftp://{address}"),
        format!("http://{address}/{}", "x".repeat(512)),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ]
    .iter()
    .enumerate()
    {
        scene.session.send(offer(10 + number as u64, url)).await;
    }
    let id = scene.worker.id().to_owned();
    said(&mut scene.session, &id, 1 << 40).await;
    assert!(!scene.rendezvous.is_awaited().await, "the peer is not there");
    scene.session.send(offer(1, &format!("http://{address}"))).await;
    let (head, _stream) = asked(&relay).await;
    assert!(head.starts_with(&format!("GET /ws/relay/{} ", session_text(1))), "{head}");
}
