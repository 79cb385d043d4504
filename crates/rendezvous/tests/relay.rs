//! The relay over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::relay::{Linked, Socket, closed, open, receive, refusal, refused, send};
use common::{Rendezvous, config, within};
use futures_util::{FutureExt, SinkExt, StreamExt};
use holepunch_rendezvous::{AdminConfig, RelayConfig, RelayLimits, RelayServer};
use holepunch_wire::relay::{RelayAccess, RelayKey};
use holepunch_wire::session::SessionId;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

const FRAME_BYTES_MAX: usize = 64 * 1024;

#[tokio::test]
async fn frames_go_both_ways_unchanged_and_in_order() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    let payload: Vec<u8> = (0..=255).cycle().take(FRAME_BYTES_MAX).collect();
    for length in [0, 1, 125, 126, 1452, 65_535, FRAME_BYTES_MAX] {
        for (from, to) in [(&mut first, &mut second)] {
            send(from, &payload[..length]).await;
            assert_eq!(receive(to).await, payload[..length]);
            send(to, &payload[..length]).await;
            assert_eq!(receive(from).await, payload[..length]);
        }
    }
    for number in 0..1000_u32 {
        first.feed(Message::binary(number.to_be_bytes().to_vec())).await.unwrap();
    }
    first.flush().await.unwrap();
    for number in 0..1000_u32 {
        assert_eq!(receive(&mut second).await, number.to_be_bytes());
    }
}

#[tokio::test]
async fn texts_are_ignored_and_pings_answered() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    first.send(Message::text("hello")).await.unwrap();
    first.send(Message::Ping("1".into())).await.unwrap();
    let pong = within("a pong", first.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("1".into()));
    send(&mut first, "x").await;
    assert_eq!(receive(&mut second).await, b"x");
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let rendezvous = Rendezvous::start();
    let server = rendezvous.address();
    let linked = Linked::new(server, "a").await;
    let other = Linked::new(server, "b").await;
    let wrong = "0".repeat(32);
    for token in [wrong.as_str(), other.tokens[0].as_str(), "", "x"] {
        let (status, text) = refused(server, &linked.session, token).await;
        assert_eq!((status, text.as_str()), (403, "the token is not one of this session"));
    }
    let (status, _) = refused(server, "0000000000000000", &linked.tokens[0]).await;
    assert_eq!(status, 403);
    for session in ["x", "00"] {
        let (status, text) = refused(server, session, &linked.tokens[0]).await;
        assert_eq!((status, text.as_str()), (404, "no such session has a relay"));
    }
    let plain = common::http::get(server, &format!("/ws/relay/{}", linked.session)).await;
    assert_eq!(plain.status, 403);
}

#[tokio::test]
async fn a_token_goes_in_a_header_of_its_own_where_a_password_has_the_other_one() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let open = async |token: &str| {
        let headers = [("authorization", "Basic YTpi"), ("holepunch-relay-token", token)];
        common::relay::open_with(linked.server, &linked.session, &headers, None).await
    };
    assert!(open(&linked.tokens[0]).await.is_ok());
    let (status, _) = refusal(open(&"0".repeat(32)).await);
    assert_eq!(status, 403);
}

#[tokio::test]
async fn without_a_relay_there_are_no_tokens_and_no_path() {
    let rendezvous = Rendezvous::with(|config| config.relay = None);
    let server = rendezvous.address();
    let mut first = common::relay::register(server, "a").await;
    let mut second = common::relay::register(server, "b").await;
    for worker in [&mut first, &mut second] {
        worker.send(serde_json::json!({ "type": "ready" })).await;
    }
    let offer = first.receive("p2p_connection_offer").await;
    assert!(offer.get("relay_token").is_none(), "{offer}");
    let session = offer["session"].as_str().unwrap();
    let (status, text) = refused(server, session, &"0".repeat(32)).await;
    assert_eq!((status, text.as_str()), (404, "this rendezvous has no relay"));
}

#[tokio::test]
async fn the_relay_ends_with_the_session() {
    let rendezvous = Rendezvous::start();
    let mut linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    linked.leave().await;
    let expected = (1000, "the peer has left".to_owned());
    assert_eq!(closed(&mut first).await, expected);
    assert_eq!(closed(&mut second).await, expected);
    let late = refused(linked.server, &linked.session, &linked.tokens[0]).await;
    assert_eq!(late, (404, "this session has ended".to_owned()));
}

/// What opens a relay with this key, for a session that nobody has been asked of.
fn token(key: &RelayKey, end: usize, from_now_s: i64) -> String {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    key.token(SESSION, end, unix.checked_add_signed(from_now_s).unwrap()).reveal()
}

const SESSION: SessionId = SessionId(7);

fn relay_alone(key: &RelayKey, limits: RelayLimits) -> RelayServer {
    RelayServer::bind(RelayConfig {
        udp_listen: vec![common::loopback()],
        udp_is_optional: false,
        listen: common::loopback(),
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        admin: AdminConfig::default(),
        tls: None,
        open_files_max: None,
        limits,
        key: key.clone(),
    })
    .unwrap()
}

#[tokio::test]
async fn a_relay_alone_asks_nobody_and_has_the_bounds_of_any_other() {
    let key = RelayKey::new([1; 32]);
    let limits = RelayLimits { quota: Some(100_000), ..RelayLimits::default() };
    let relay = relay_alone(&key, limits);
    let (server, session) = (relay.http_address(), SESSION.to_string());
    let mut sockets = Vec::new();
    for end in [0, 1] {
        sockets.push(open(server, &session, &token(&key, end, 60), None).await.unwrap());
    }
    let [mut first, mut second] = <[Socket; 2]>::try_from(sockets).unwrap();
    send(&mut first, "1").await;
    assert_eq!(receive(&mut second).await, b"1");
    let (status, _) = refused(server, &session, &token(&RelayKey::new([2; 32]), 0, 60)).await;
    assert_eq!(status, 403);
    send(&mut first, vec![1; 60_000]).await;
    send(&mut first, vec![1; 60_000]).await;
    assert_eq!(closed(&mut first).await.0, 1008);
    for path in ["/healthz", "/ready"] {
        assert_eq!(common::http::get(server, path).await.status, 200);
    }
    for path in ["/debug/list_workers", "/ws/register/a"] {
        assert_eq!(common::http::get(server, path).await.status, 404);
    }
    let told = async { assert_eq!(closed(&mut second).await.0, 1001) };
    tokio::join!(told, relay.shutdown());
}

#[tokio::test]
async fn a_token_that_has_expired_opens_nothing_and_says_that_another_one_might() {
    let key = RelayKey::new([1; 32]);
    let relay = relay_alone(&key, RelayLimits::default());
    let (server, session) = (relay.http_address(), SESSION.to_string());
    let refusal = open(server, &session, &token(&key, 0, -5), None).await.unwrap_err();
    let Error::Http(response) = refusal else { panic!("{refusal}") };
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer error=\"invalid_token\"");
    open(server, &session, &token(&key, 0, 5), None).await.unwrap();
}

#[tokio::test]
async fn workers_are_sent_to_a_relay_elsewhere_with_what_opens_it() {
    let key = RelayKey::new([1; 32]);
    let relay = relay_alone(&key, RelayLimits::default());
    let url = format!("http://{}", relay.http_address());
    let rendezvous = Rendezvous::with(|config| {
        config.relay = None;
        config.matchmaker.relay =
            Some(RelayAccess { key, url: Some(url.clone()), udp: Vec::new() });
    });
    let linked = Linked::new(rendezvous.address(), "a").await;
    assert_eq!(linked.relay_url.as_ref(), Some(&url));
    let open = async |end: usize| {
        open(relay.http_address(), &linked.session, &linked.tokens[end], None).await.unwrap()
    };
    let [mut first, mut second] = [open(0).await, open(1).await];
    send(&mut first, "1").await;
    assert_eq!(receive(&mut second).await, b"1");
    let (status, _) = refused(linked.server, &linked.session, &linked.tokens[0]).await;
    assert_eq!(status, 404, "the rendezvous has none");
}

#[tokio::test]
async fn a_rendezvous_that_is_started_again_with_its_key_takes_the_tokens_of_before() {
    let access = RelayAccess { key: RelayKey::new([1; 32]), url: None, udp: Vec::new() };
    let start = || Rendezvous::with(|config| config.matchmaker.relay = Some(access.clone()));
    let linked = Linked::new(start().address(), "a").await;
    let (again, other) = (start(), Rendezvous::start());
    let [session, token] = [&linked.session, &linked.tokens[0]];
    assert!(open(again.address(), session, token, None).await.is_ok());
    assert_eq!(refused(other.address(), session, token).await.0, 403, "its key is a new one");
}

#[tokio::test]
async fn frames_before_the_peer_are_kept() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let mut first = linked.open(0).await;
    for number in 0..3 {
        send(&mut first, [number]).await;
    }
    has_taken_all(&mut first).await;
    let mut second = linked.open(1).await;
    for number in 0..3 {
        assert_eq!(receive(&mut second).await, [number]);
    }
}

#[tokio::test]
async fn of_too_many_early_frames_the_latest_are_kept() {
    const SENT: u32 = 1000;
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let mut first = linked.open(0).await;
    for number in 0..SENT {
        send(&mut first, [number.to_be_bytes(); 350].concat()).await;
    }
    has_taken_all(&mut first).await;
    let mut second = linked.open(1).await;
    let oldest = receive(&mut second).await;
    let oldest = u32::from_be_bytes(oldest[..4].try_into().unwrap());
    assert!((SENT - 47..SENT - 40).contains(&oldest), "64 KiB of 1,400 bytes: {oldest}");
    for number in oldest + 1..SENT {
        assert_eq!(receive(&mut second).await[..4], number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_second_connection_of_a_worker_replaces_its_first() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    send(&mut first, "1").await;
    assert_eq!(receive(&mut second).await, b"1");
    let mut again = linked.open(1).await;
    let expected = (1000, "replaced by another connection of this worker".to_owned());
    assert_eq!(closed(&mut second).await, expected);
    send(&mut first, "2").await;
    assert_eq!(receive(&mut again).await, b"2");
    send(&mut again, "3").await;
    assert_eq!(receive(&mut first).await, b"3");
}

#[tokio::test]
async fn a_worker_that_closes_its_relay_is_answered_with_its_own_code() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    for code in [1001_u16, 1014, 4001] {
        let mut socket = linked.open(0).await;
        let frame = CloseFrame { code: code.into(), reason: "bye".into() };
        socket.close(Some(frame)).await.unwrap();
        assert_eq!(closed(&mut socket).await.0, code);
    }
}

#[tokio::test]
async fn a_worker_that_comes_back_finds_what_was_sent_meanwhile() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    second.close(None).await.unwrap();
    assert_eq!(closed(&mut second).await.0, 1000);
    within("the end of the connection", async { while second.next().await.is_some() {} }).await;
    send(&mut first, "x").await;
    let mut again = linked.open(1).await;
    assert_eq!(receive(&mut again).await, b"x");
}

#[tokio::test]
async fn a_frame_that_is_too_long_closes() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let mut first = linked.open(0).await;
    send(&mut first, vec![0; FRAME_BYTES_MAX + 1]).await;
    let (code, reason) = closed(&mut first).await;
    assert_eq!((code, reason.as_str()), (1009, "a frame of the relay has at most 64 KiB"));
}

#[tokio::test]
async fn a_quota_closes_and_says_so() {
    let limits = RelayLimits { quota: Some(100_000), ..RelayLimits::default() };
    let rendezvous = Rendezvous::with(|config| config.relay = Some(limits));
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    send(&mut first, vec![1; 50_000]).await;
    assert_eq!(receive(&mut second).await.len(), 50_000);
    send(&mut second, vec![1; 60_000]).await;
    let expected = (1008, "this session has used up what is relayed for it".to_owned());
    assert_eq!(closed(&mut second).await, expected);
    let (status, _) = refused(linked.server, &linked.session, &linked.tokens[1]).await;
    assert_eq!(status, 429);
    let other = Linked::new(rendezvous.address(), "b").await;
    other.open_both().await;
}

#[tokio::test]
async fn an_address_has_its_share_of_the_places() {
    let limits = RelayLimits { connections_max: 8, ..RelayLimits::default() };
    let rendezvous = Rendezvous::with(|config| {
        config.relay = Some(limits);
        config.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
    });
    let linked = Linked::new(rendezvous.address(), "a").await;
    let other = Linked::new(rendezvous.address(), "b").await;
    let [session, token] = [&other.session, &other.tokens[0]];
    let first = linked.open_from(0, "198.51.100.1").await.unwrap();
    let _second = linked.open_from(1, "198.51.100.1").await.unwrap();
    let refused = refusal(other.open_from(0, "198.51.100.1").await);
    assert_eq!(refused, (429, "too many relay connections from this address".to_owned()));
    other.open_from(1, "198.51.100.2").await.unwrap();
    drop(first);
    within("a place", async {
        while open(other.server, session, token, Some("198.51.100.1")).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_quota_of_an_address_holds_over_all_its_sessions() {
    let limits = RelayLimits { quota_per_ip: Some(100_000), ..RelayLimits::default() };
    let rendezvous = Rendezvous::with(|config| {
        config.relay = Some(limits);
        config.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
    });
    let linked = Linked::new(rendezvous.address(), "a").await;
    let mut first = linked.open_from(0, "198.51.100.1").await.unwrap();
    send(&mut first, vec![1; 60_000]).await;
    send(&mut first, vec![1; 60_000]).await;
    let expected = (1008, "this address has used up what is relayed for it in a day".to_owned());
    assert_eq!(closed(&mut first).await, expected);
    let other = Linked::new(rendezvous.address(), "b").await;
    assert_eq!(refusal(other.open_from(0, "198.51.100.1").await).0, 429);
    other.open_from(0, "198.51.100.2").await.unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_slows_its_sender_and_nobody_else() {
    let rendezvous = Rendezvous::start();
    let (slow, fast) = (
        Linked::new(rendezvous.address(), "slow").await,
        Linked::new(rendezvous.address(), "fast").await,
    );
    let [mut sender, mut stopped] = slow.open_both().await;
    let [mut from, mut to] = fast.open_both().await;
    // What is under way is bounded, so that sending comes to a stand.
    let sent = fill(&mut sender).await;
    for number in 0..500_u32 {
        send(&mut from, number.to_be_bytes()).await;
        assert_eq!(receive(&mut to).await, number.to_be_bytes());
    }
    // The other way of the same session goes on, too.
    send(&mut stopped, "ack").await;
    assert_eq!(receive(&mut sender).await, b"ack");
    let drained = async {
        for number in 0..sent {
            assert_eq!(receive(&mut stopped).await[..4], number.to_be_bytes());
        }
    };
    let flushed = async { sender.flush().await.unwrap() };
    within("everything to arrive", async { tokio::join!(drained, flushed) }).await;
}

#[tokio::test]
async fn everybody_is_told_when_the_server_stops() {
    let rendezvous = Rendezvous::start();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut first, mut second] = linked.open_both().await;
    let told = async {
        let expected = (1001, "server is shutting down".to_owned());
        assert_eq!(closed(&mut first).await, expected);
        assert_eq!(closed(&mut second).await, expected);
    };
    tokio::join!(told, rendezvous.server.shutdown());
}

/// Sends messages until the relay takes no more, which must be soon; how many.
async fn fill(sender: &mut Socket) -> u32 {
    const MESSAGES_MAX: u32 = 4096;
    /// Turns of everybody else in which nothing moves.
    const STANDS_MAX: u32 = 2000;
    let (mut sent, mut stands) = (0_u32, 0);
    while stands < STANDS_MAX {
        let message = Message::binary([sent.to_be_bytes(); 8192].concat());
        match sender.feed(message).now_or_never() {
            Some(fed) => {
                fed.unwrap();
                (sent, stands) = (sent + 1, 0);
                assert!(sent < MESSAGES_MAX, "the relay still takes more");
            }
            None => stands += 1,
        }
        tokio::task::yield_now().await;
    }
    sent
}

/// The relay has read everything that was sent: its answer to a ping comes after that.
async fn has_taken_all(socket: &mut Socket) {
    socket.send(Message::Ping("all".into())).await.unwrap();
    let pong = within("a pong", socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("all".into()));
}

#[test]
fn the_relay_is_on_unless_it_is_turned_off() {
    assert_eq!(config().relay, Some(RelayLimits::default()));
}
