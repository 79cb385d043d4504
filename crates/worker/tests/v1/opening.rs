//! The handshake, and what the worker says first.

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_wire::session::{RoomMode, RoomName};
use holepunch_worker::{Notice, Signal, WorkerId};
use serde_json::{Value, json};

use crate::agent::{Agent, offer_without_endpoint};
use crate::common::stun::{self, NOWHERE};
use crate::common::subject::MAPPED;
use crate::common::{Session, Subject};
use crate::scene::{Scene, TOKEN, V1, prepared, said, welcome, without_proof};

/// The kinds and addresses of a set of candidates.
fn addresses(message: &Value) -> Vec<(String, SocketAddr)> {
    let one = |it: &Value| {
        let ip = it["ip"].as_str().unwrap().parse().unwrap();
        let port = u16::try_from(it["port"].as_u64().unwrap()).unwrap();
        (it["kind"].as_str().unwrap().to_owned(), SocketAddr::new(ip, port))
    };
    message["candidates"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn the_worker_asks_for_the_subprotocol_and_says_nothing_before_the_welcome() {
    let (rendezvous, stun, config) = prepared().await;
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    assert_eq!(session.asked.as_deref(), Some("holepunch.v1"));
    assert_eq!(session.path, format!("/ws/register/{}", worker.id()), "no room, no query");
    stun.answer_next(MAPPED).await;
    let mapped =
        |notice: &Notice| matches!(notice, Notice::Udp(holepunch_worker::Event::Mapped { .. }));
    worker.until_it("the endpoint", mapped).await;
    worker.catches_up_with(&mut session).await;
    session.is_told_nothing_yet().await;
    session.send(welcome(TOKEN)).await;
    let hello = without_proof(session.receive().await);
    assert_eq!(hello, json!({ "type": "hello" }), "the rest is optional");
    let connected = |notice: &&Notice| **notice == Notice::Signal(Signal::ConnectedV1);
    assert_eq!(worker.seen.iter().filter(connected).count(), 1);
}

#[tokio::test]
async fn candidates_trickle_as_they_become_known_and_the_endpoint_is_reported_as_ever() {
    let (rendezvous, stun, config) = prepared().await;
    let worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    let asked = stun.request().await;
    session.send(welcome(TOKEN)).await;
    session.expect("hello").await;
    // No STUN server has answered yet.
    let first = session.expect("candidates").await;
    assert_eq!(first["generation"], 1);
    assert_eq!(addresses(&first), [("host".to_owned(), asked.from)]);
    stun.answer(asked, MAPPED).await;
    let second = session.expect("candidates").await;
    assert_eq!(second["generation"], 2);
    let both = [("host".to_owned(), asked.from), ("server_reflexive".to_owned(), MAPPED)];
    assert_eq!(addresses(&second), both);
    // RFC 8445 §5.1.2.1: type preference, local preference, 256 less the component.
    let priority = |type_preference: u64| (type_preference << 24) | (65_534 << 8) | 255;
    let priorities = second["candidates"].as_array().unwrap().iter().map(|it| &it["priority"]);
    assert!(priorities.eq(&[json!(priority(126)), json!(priority(100))]));
    assert_eq!(session.report().await, MAPPED);
    // One server cannot tell what kind of NAT there is, so there is no profile.
    assert_eq!(said(&mut session, worker.id(), 1 << 32).await, [] as [Value; 0]);
}

#[tokio::test]
async fn without_host_candidates_the_own_addresses_stay_private() {
    let (rendezvous, stun, mut config) = prepared().await;
    config.host_candidates = false;
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(welcome(TOKEN)).await;
    session.expect("hello").await;
    stun.answer_next(MAPPED).await;
    let only = session.expect("candidates").await;
    assert_eq!(addresses(&only), [("server_reflexive".to_owned(), MAPPED)]);
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn the_room_is_in_the_path_and_mode_and_call_follow_the_welcome() {
    for (mode, word) in
        [(RoomMode::Pair, "pair"), (RoomMode::Mesh, "mesh"), (RoomMode::Call, "call")]
    {
        let (rendezvous, _stun, mut config) = prepared().await;
        config.room = RoomName::new("büro & co/7").unwrap();
        config.room_mode = Some(mode);
        config.peer = Some(WorkerId::new("the other one").unwrap());
        let worker = Subject::start(config).await;
        let mut session = rendezvous.accept_selecting(V1).await;
        let room = "room=b%C3%BCro+%26+co%2F7";
        assert_eq!(session.path, format!("/ws/register/{}?{room}", worker.id()));
        session.send(welcome(TOKEN)).await;
        let hello = without_proof(session.receive().await);
        assert_eq!(hello, json!({ "type": "hello", "mode": word }));
        let call = session.until("call").await.pop().unwrap();
        assert_eq!(call, json!({ "type": "call", "peer": "the other one" }));
    }
}

/// Lets the STUN server answer the next request that asks for a proof; what the worker makes of it.
async fn proven(scene: &mut Session, server: &crate::common::StunServer, nonce: [u8; 16]) -> Value {
    let request = loop {
        let request = server.request().await;
        if request.nonce.is_some() {
            break request;
        }
        server.answer(request, MAPPED).await;
    };
    assert_eq!(request.nonce, Some(nonce));
    let proof = stun::success_with_proof(request.id, MAPPED, [0xab; 24]);
    server.send(&proof, request.from).await;
    scene.until("address_proof").await.pop().unwrap()
}

#[tokio::test]
async fn the_nonce_of_the_welcome_goes_to_the_stun_server_and_its_proof_to_the_rendezvous() {
    let (rendezvous, stun, config) = prepared().await;
    let _worker = Subject::start(config).await;
    stun.answer_next(MAPPED).await;
    // Each session has a nonce of its own, and the endpoint is known in the second one already.
    for byte in [0x0f_u8, 0xf0] {
        let mut session = rendezvous.accept_selecting(V1).await;
        let mut welcome = welcome(TOKEN);
        welcome["proof_nonce"] = json!(format!("{byte:02x}").repeat(16));
        session.send(welcome).await;
        let expected = json!({
            "type": "address_proof",
            "udp_ip": MAPPED.ip(),
            "udp_port": MAPPED.port(),
            "proof": "ab".repeat(24),
        });
        assert_eq!(proven(&mut session, &stun, [byte; 16]).await, expected);
    }
}

#[tokio::test]
async fn a_worker_without_an_endpoint_says_that_it_is_ready_and_is_linked_all_the_same() {
    let (rendezvous, _stun, mut config) = prepared().await;
    config.stun_servers = vec![format!("{NOWHERE}:3478").parse().unwrap()];
    config.stun_retry_delay = Some(Duration::from_millis(100));
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(welcome(TOKEN)).await;
    let said = session.until("ready").await;
    let kinds: Vec<&str> = said.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["hello", "candidates", "nat_profile", "ready"]);
    assert_eq!(said[2]["profile"]["udp"], "blocked");
    let agent = Agent::bind(1);
    let mut offer = offer_without_endpoint(1, "controlling");
    offer["candidates"] = json!([agent.candidate("host")]);
    session.send(offer).await;
    agent.answer_next().await;
    let linked = |event: &holepunch_link::SessionEvent| {
        matches!(event, holepunch_link::SessionEvent::Linked(_)).then_some(())
    };
    worker.until_session("a link", linked).await;
}

#[tokio::test]
async fn a_report_that_is_acknowledged_is_made_once() {
    let mut scene = Scene::ready().await;
    assert_eq!(scene.said().await, [] as [Value; 0]);
}
