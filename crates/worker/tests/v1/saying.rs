//! What may be said when: to whom it concerns, in order, and to nobody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use holepunch_link::SessionEvent;
use holepunch_wire::check::IceRole;
use holepunch_worker::{Event, Notice, Signal, WorkerId};
use serde_json::json;

use crate::agent::{Agent, Answering, session_text};
use crate::common::rendezvous::offer;
use crate::common::stun::success_with_proof;
use crate::common::subject::MAPPED;
use crate::common::{Peer, StunServer, Subject};
use crate::resume::linked;
use crate::scene::{Scene, TOKEN, V1, prepared, welcome};

#[tokio::test]
async fn a_welcome_from_a_rendezvous_that_selected_nothing_is_ignored() {
    for only in [false, true] {
        let (rendezvous, stun, mut config) = prepared().await;
        config.baseline_only = only;
        let mut worker = Subject::start(config).await;
        let mut session = rendezvous.accept().await;
        stun.answer_next(MAPPED).await;
        session.report().await;
        session.send(welcome(TOKEN)).await;
        worker.catches_up_with(&mut session).await;
        session.is_told_nothing_for(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_baseline_offer_may_have_a_field_session() {
    let (rendezvous, stun, config) = prepared().await;
    let worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    stun.answer_next(MAPPED).await;
    session.report().await;
    let peer = Peer::bind("peer").await;
    let mut offered = offer("peer", peer.address);
    offered["session"] = json!("abc");
    session.send(offered).await;
    peer.link_with(worker.id()).await;
}

/// The peer falls silent, so that the worker has something to say of the session.
async fn trouble(scene: &mut Scene, answering: Answering) {
    drop(answering);
    let other = Agent::bind_on(Ipv4Addr::new(127, 0, 0, 2), 1);
    other.check(scene.udp, IceRole::Controlling, false).await;
    let is_suspect = |event: &SessionEvent| matches!(event, SessionEvent::Suspect(_)).then_some(());
    scene.worker.until_session("suspect", is_suspect).await;
    scene.worker.catches_up_with(&mut scene.session).await;
}

#[tokio::test]
async fn nothing_is_said_before_the_hello_of_another_connection() {
    let (mut scene, _agent, answering) = linked(1).await;
    drop(scene.session);
    scene.session = scene.rendezvous.accept_selecting(V1).await;
    scene.worker.until_it("v1", |n| *n == Notice::Signal(Signal::ConnectedV1)).await;
    trouble(&mut scene, answering).await;
    scene.session.send(welcome("t2")).await;
    scene.session.expect("hello").await;
}

#[tokio::test]
async fn a_rendezvous_that_has_become_a_baseline_one_hears_nothing_of_sessions() {
    let (mut scene, _agent, answering) = linked(1).await;
    drop(scene.session);
    scene.session = scene.rendezvous.accept().await;
    scene.worker.until_it("v1", |n| *n == Notice::Signal(Signal::Connected)).await;
    trouble(&mut scene, answering).await;
    scene.session.is_told_nothing_for(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn an_offer_that_cannot_be_read_is_left() {
    let mut scene = Scene::ready().await;
    let agent = Agent::bind(1);
    let mut offer = agent.offer("controlled");
    offer["role"] = json!("boss");
    scene.session.send(offer).await;
    let leave = json!({ "type": "leave", "session": session_text(1) });
    assert_eq!(scene.session.receive().await, leave);
}

#[tokio::test]
async fn candidates_come_before_the_report_again() {
    let scene = Scene::ready().await;
    let (mut scene, _) = scene.reconnected("t2").await;
    scene.session.expect("candidates").await;
    scene.session.expect("update_udp_endpoint").await;
}

/// The welcome comes when the names are resolved; the configured server has answered first.
#[tokio::test]
async fn the_named_server_is_asked_with_the_nonce_of_each_welcome() {
    let configured = StunServer::bind_on(Ipv4Addr::new(127, 0, 0, 2)).await;
    let named = StunServer::bind().await;
    let (rendezvous, _stun, mut config) = prepared().await;
    config.stun_servers = vec![configured.address.to_string().parse().unwrap()];
    let mut worker = Subject::start(config).await;
    let first = rendezvous.accept_selecting(V1).await;
    configured.answer_next(MAPPED).await;
    worker
        .until_it("the endpoint", |notice| matches!(notice, Notice::Udp(Event::Mapped { .. })))
        .await;
    let mut next = Some(first);
    for byte in [0x0f_u8, 0xf0] {
        let mut session = match next.take() {
            Some(session) => session,
            None => rendezvous.accept_selecting(V1).await,
        };
        let mut welcome = welcome(TOKEN);
        welcome["stun"] = json!([format!("0.0.0.0:{}", named.address.port())]);
        welcome["proof_nonce"] = json!(format!("{byte:02x}").repeat(16));
        session.send(welcome).await;
        let request = named.request().await;
        assert_eq!(request.nonce, Some([byte; 16]));
        let proof = success_with_proof(request.id, MAPPED, [0xab; 24]);
        named.send(&proof, request.from).await;
        session.until("address_proof").await;
    }
}

#[tokio::test]
async fn a_peer_that_is_not_there_yet_is_called_again() {
    let (rendezvous, stun, mut config) = prepared().await;
    config.peer = Some(WorkerId::new("other").unwrap());
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    stun.answer_next(MAPPED).await;
    session.send(welcome(TOKEN)).await;
    for _ in 0..2 {
        let said = session.until("call").await;
        assert_eq!(said.last().unwrap()["peer"], "other");
        session.send(json!({ "type": "error", "message": "there is no worker other" })).await;
    }
}
