//! What a worker logs, and what its environment makes of it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;

use common::peer::{Peer, ping_number};
use common::stun::NOWHERE;
use common::web::IpEcho;
use common::{MAPPED, Rendezvous, Scene, StunServer, web};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio_tungstenite::tungstenite::Message;

/// Lets a worker go all the way to a link with `peer`; its id and its UDP address.
async fn link(scene: &Scene, echo: &IpEcho, peer: &Peer) -> (String, String) {
    let mut session = scene.rendezvous.accept().await;
    let udp = scene.stun.answer_next(MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
    echo.question().await.answer("200 OK", "198.51.100.23").await;
    assert_eq!(session.receive().await["type"], "register_public_ip");
    session.offer(&peer.id, peer.address).await;
    peer.link_with(session.worker_id()).await;
    (session.worker_id().to_owned(), udp.to_string())
}

/// The entry with this message among those of a whole log.
fn entry<'a>(log: &'a [Value], message: &str) -> &'a Value {
    let found = log.iter().find(|entry| entry["message"] == message);
    found.unwrap_or_else(|| panic!("no {message:?} in {log:#?}"))
}

#[tokio::test]
async fn the_log_in_json_has_one_entry_for_each_step() {
    let peer = Peer::bind("peer").await;
    let echo = IpEcho::bind().await;
    let mut scene = Scene::start(&[("IP_ECHO_URL", &echo.url()), ("LOG_FORMAT", "json")]).await;
    let (id, _udp) = link(&scene, &echo, &peer).await;
    scene.worker.log.entry("link established").await;
    scene.worker.signal("TERM").await;
    let ended = scene.worker.end().await;
    let log: Vec<Value> =
        ended.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stun = scene.stun.address.to_string();
    let peer_address = peer.address.to_string();
    for (message, fields) in [
        ("worker starts", json!({ "worker": id })),
        ("registered with the rendezvous", json!({ "worker": id })),
        ("public IP by HTTP", json!({ "ip": "198.51.100.23" })),
        ("STUN request", json!({ "server": stun, "address": stun })),
        ("STUN result", json!({ "server": stun, "mapped": MAPPED })),
        ("UDP endpoint sent to the rendezvous", json!({ "endpoint": MAPPED })),
        ("udp_endpoint_ack", json!({ "status": "success" })),
        ("p2p_connection_offer", json!({ "peer": "peer", "address": peer_address })),
        ("probes start", json!({ "peer": "peer", "address": peer_address })),
        ("datagram received: PING received, PONG sent", json!({ "from": peer_address })),
        ("datagram received: PONG received", json!({ "from": peer_address })),
        ("link established", json!({ "peer": "peer", "address": peer_address })),
        ("shutting down", json!({ "signal": "SIGTERM" })),
        ("worker has ended", json!({ "worker": id })),
    ] {
        let entry = entry(&log, message);
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(entry[name], *value, "{name} in {entry}");
        }
        assert!(entry["time"].is_string(), "{entry}");
        assert_eq!(entry["severity"], "INFO", "{entry}");
        let times = log.iter().filter(|other| other["message"] == message).count();
        assert_eq!(times, 1, "{message} in {log:#?}");
    }
    assert!(entry(&log, "STUN result")["nat_type"].is_string(), "{log:#?}");
    let ms = entry(&log, "link established")["ms_since_offer"].as_f64().unwrap();
    assert!(ms > 0.0 && ms < 40_000.0, "{ms}");
}

#[tokio::test]
async fn the_log_in_text_has_one_line_for_each_step() {
    let peer = Peer::bind("peer").await;
    let echo = IpEcho::bind().await;
    let arguments = ["worker", "--log-format", "text"];
    // The flag wins over the variable.
    let variables = [("IP_ECHO_URL", echo.url()), ("LOG_FORMAT", "json".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut scene = Scene::with(&arguments, &variables).await;
    let (id, udp) = link(&scene, &echo, &peer).await;
    scene.worker.log.line("link established").await;
    scene.worker.signal("TERM").await;
    let log = scene.worker.end().await.err;
    let port = udp.rsplit(':').next().unwrap();
    for (message, values) in [
        ("worker starts", vec![id.as_str(), "ws://127.0.0.1"]),
        ("UDP port bound", vec![port]),
        ("registered with the rendezvous", vec![&id]),
        ("public IP by HTTP", vec!["198.51.100.23"]),
        ("STUN result", vec!["203.0.113.7:4242", "nat_type="]),
        ("UDP endpoint sent", vec!["203.0.113.7:4242"]),
        ("udp_endpoint_ack", vec!["success"]),
        ("p2p_connection_offer", vec!["peer=peer"]),
        ("probes start", vec!["peer=peer"]),
        ("PING received, PONG sent", vec!["peer=peer"]),
        ("PONG received", vec!["peer=peer"]),
        ("link established", vec!["peer=peer", "ms_since_offer="]),
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(message)).collect();
        let [line] = lines[..] else { panic!("{message}: {lines:?} in {log}") };
        assert!(line.contains(" INFO "), "{line}");
        for value in values {
            assert!(line.contains(value), "{value} in {line}");
        }
    }
    assert!(!log.contains('\u{1b}'), "no colours where there is no terminal: {log}");
}

#[tokio::test]
async fn a_url_without_a_scheme_is_taken_as_ws_with_a_warning() {
    let rendezvous = Rendezvous::bind();
    let address = rendezvous.address.to_string();
    let mut scene = Scene::start(&[("RENDEZVOUS_SERVICE_URL", &address)]).await;
    let warning = scene.worker.log.entry("no scheme").await;
    assert_eq!(warning["severity"], "WARNING");
    assert!(rendezvous.accept().await.path.starts_with("/ws/register/"));
    // With a scheme there is no such line before the registration.
    let mut scene = Scene::start(&[]).await;
    let _session = scene.rendezvous.accept().await;
    scene.worker.log.entry("registered with the rendezvous").await;
    assert!(!scene.worker.log.seen.iter().any(|line| line.contains("no scheme")));
}

#[tokio::test]
async fn what_the_rendezvous_says_is_logged_and_a_password_is_not() {
    let mut scene = Scene::start(&[]).await;
    let (mut session, _) = scene.report().await;
    let log = &mut scene.worker.log;
    log.entry("udp_endpoint_ack").await;
    for (text, message, severity) in [
        (
            r#"{"type":"udp_endpoint_ack","status":"error","detail":"Missing UDP IP/Port"}"#,
            "udp_endpoint_ack",
            "ERROR",
        ),
        (r#"{"type":"echo_response","original_payload":"x"}"#, "echo_response", "INFO"),
        (r#"{"type":"chat"}"#, "unknown type", "WARNING"),
        ("{broken", "ignored", "WARNING"),
        (r#"{"type":"p2p_connection_offer"}"#, "offer ignored", "WARNING"),
    ] {
        session.send_text(text).await;
        let entry = log.entry(message).await;
        assert_eq!(entry["severity"], severity, "{entry}");
    }
    session.send_frame(Message::Binary("x".into())).await;
    assert!(log.entry("ignored").await["why"].as_str().unwrap().contains("binary"));
    session.is_up().await;

    let rendezvous = Rendezvous::bind();
    let url = format!("http://somebody:secret@{}", rendezvous.address);
    let scene = Scene::start(&[("RENDEZVOUS_SERVICE_URL", &url)]).await;
    let _session = rendezvous.accept().await;
    scene.worker.signal("TERM").await;
    let ended = scene.worker.end().await;
    assert!(!ended.err.contains("secret"), "{}", ended.err);
}

#[tokio::test]
async fn a_udp_port_that_is_taken_is_named_and_taken_once_it_is_free() {
    let peer = Peer::bind("peer").await;
    let taken = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut scene = Scene::start(&[("INTERNAL_UDP_PORT_ENV", &port.to_string())]).await;
    let mut session = scene.rendezvous.accept().await;
    let error = scene.worker.log.entry("INTERNAL_UDP_PORT_ENV").await;
    assert_eq!(error["severity"], "ERROR");
    assert!(error["message"].as_str().unwrap().contains(&format!("0.0.0.0:{port}")), "{error}");
    session.offer(&peer.id, peer.address).await;
    scene.worker.log.entry("offer ignored").await;
    session.is_told_nothing_yet().await;
    drop(taken);
    let udp = scene.stun.answer_next(MAPPED).await;
    assert_eq!(udp.port(), port);
    assert_eq!(session.report().await, MAPPED, "in the same session");
    session.offer(&peer.id, peer.address).await;
    peer.link_with(session.worker_id()).await;
    scene.worker.log.entry("link established").await;
}

#[tokio::test]
async fn a_punch_that_nobody_answers_fails_with_a_reason_and_only_then_is_another_peer_asked_for() {
    let silent = Peer::bind("silent").await;
    let mut scene = Scene::start(&[]).await;
    let (mut session, _) = scene.report().await;
    let log = &mut scene.worker.log;
    log.entry("UDP endpoint sent").await;
    session.offer(&silent.id, silent.address).await;
    log.entry("probes start").await;
    let before = log.seen.len();
    let failed = log.entry("link failed").await;
    assert_eq!((&failed["severity"], &failed["peer"]), (&json!("WARNING"), &json!("silent")));
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("no datagram of the peer arrived"), "{failed}");
    let in_between = &log.seen[before..];
    assert!(!in_between.iter().any(|line| line.contains("UDP endpoint sent")), "{in_between:?}");
    let numbers: BTreeSet<u64> = (silent.arrived().iter())
        .map(|text| u64::from(ping_number(text, session.worker_id()).unwrap()))
        .collect();
    let probes = failed["probes"].as_u64().unwrap();
    assert!(probes >= 20, "{failed}");
    assert_eq!(numbers, (1..=probes).collect(), "as many as it says, from 1");
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn stun_that_is_given_up_is_logged_and_the_worker_stays_registered() {
    let mut scene = Scene::start(&[
        ("STUN_SERVERS", &format!("{NOWHERE}:3478")),
        ("STUN_MAX_RETRIES", "1"),
        ("STUN_RETRY_DELAY_SEC", "0.2"),
    ])
    .await;
    let mut session = scene.rendezvous.accept().await;
    let first = scene.worker.log.entry("STUN failed").await;
    assert_eq!((&first["severity"], &first["attempt"]), (&json!("WARNING"), &json!(1)));
    assert_eq!(first["retry_in_ms"].as_f64(), Some(200.0), "{first}");
    let last = scene.worker.log.entry("STUN failed").await;
    assert_eq!((&last["severity"], &last["attempt"]), (&json!("ERROR"), &json!(2)));
    let message = last["message"].as_str().unwrap();
    assert!(message.contains("given up (STUN_MAX_RETRIES)"), "{last}");
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn a_worker_that_no_stun_server_answers_says_what_is_in_the_way_and_what_to_do() {
    let server = format!("{NOWHERE}:3478");
    let mut scene =
        Scene::start(&[("STUN_SERVERS", &server), ("STUN_RETRY_DELAY_SEC", "0.1")]).await;
    let mut session = scene.rendezvous.accept().await;
    let entry = scene.worker.log.entry("no public UDP endpoint").await;
    assert_eq!(
        entry["severity"], "ERROR",
        "a rendezvous of the baseline offers it nobody: {entry}"
    );
    let message = entry["message"].as_str().unwrap();
    for part in [NOWHERE, "offers no peer", "STUN_SERVERS", "holepunch.v1"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // Further attempts fail as well, and it is not said again.
    let log = &mut scene.worker.log;
    let before = log.seen.len();
    for _ in 0..5 {
        log.entry("STUN failed").await;
    }
    let said = log.seen[before..].iter().filter(|line| line.contains("no public UDP endpoint"));
    assert_eq!(said.count(), 0);
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn the_older_names_of_the_stun_variables_count_where_the_newer_are_not_set() {
    let older = StunServer::bind().await;
    let newer = StunServer::bind().await;
    let [older_port, newer_port] =
        [older.address, newer.address].map(|address| address.port().to_string());
    let mut variables =
        vec![("STUN_SERVERS", ""), ("STUN_HOST", "127.0.0.1"), ("STUN_PORT", &older_port)];
    let scene = Scene::start(&variables).await;
    let mut session = scene.rendezvous.accept().await;
    older.answer_next(MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
    variables[1].1 = NOWHERE;
    variables.extend([("STUN_HOST_ENV", "127.0.0.1"), ("STUN_PORT_ENV", &newer_port)]);
    let scene = Scene::start(&variables).await;
    let mut session = scene.rendezvous.accept().await;
    newer.answer_next(MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn the_health_server_listens_where_port_says_on_all_addresses() {
    let mut scene = Scene::start(&[]).await;
    let entry = scene.worker.log.entry("health server listens").await;
    let address = entry["address"].as_str().unwrap();
    let port = address.strip_prefix("0.0.0.0:").unwrap().parse().unwrap();
    for host in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let answer = web::get((host, port).into(), "/health").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    }
}
