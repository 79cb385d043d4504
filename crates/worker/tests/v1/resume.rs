//! The connection is lost and comes back, and sessions end and begin anew.

use std::sync::Arc;

use holepunch_link::SessionEvent;
use holepunch_wire::check::IceRole;
use serde_json::{Value, json};

use crate::agent::{Agent, Answering, session_text};
use crate::common::subject::MAPPED;
use crate::scene::{Scene, TOKEN, V1, welcome, without_proof};

/// A scene whose worker is linked with an agent, which answers from then on.
pub(crate) async fn linked(session: u64) -> (Scene, Arc<Agent>, Answering) {
    let agent = Arc::new(Agent::bind(session));
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlled")).await;
    let answering = agent.answering();
    scene.until_linked().await;
    assert_eq!(scene.session.expect("link_state").await["state"], "direct");
    (scene, agent, answering)
}

/// Waits for the end of a session; the reason.
async fn ended(scene: &mut Scene) -> String {
    let pick = |event: &SessionEvent| {
        let SessionEvent::Ended(_, reason) = event else { return None };
        Some(reason.clone())
    };
    scene.worker.until_session("the end of the session", pick).await
}

/// Shows that the session is alive: the checks of its peer, which has this role, are answered.
async fn is_alive(agent: &Agent, role: IceRole, scene: &Scene) {
    let transaction = agent.check(scene.udp, role, false).await;
    assert_eq!(agent.answer_to(transaction).await, agent.address);
}

#[tokio::test]
async fn a_worker_that_comes_back_shows_its_token_and_its_session_goes_on() {
    let (scene, agent, answering) = linked(1).await;
    let before = scene.worker.id().to_owned();
    let (mut scene, hello) = scene.reconnected("token-2").await;
    let session = session_text(1);
    let held = json!({
        "session": session,
        "peer": "peer",
        "role": "controlled",
        "number": 1,
        "strategy": "plain",
        "direct": true,
    });
    let shown = json!({ "type": "hello", "resume": TOKEN, "sessions": [session], "held": [held] });
    assert_eq!(without_proof(hello), shown);
    assert_eq!(scene.session.path, format!("/ws/register/{before}"), "under its name");
    let said = scene.said().await;
    // The same set, in a later generation; and no report: it has a peer.
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((&said[0]["type"], &said[0]["generation"]), (&json!("candidates"), &json!(3)));
    drop(answering);
    is_alive(&agent, IceRole::Controlling, &scene).await;
    // The rendezvous has taken the session up again: what it says of it counts.
    let end = json!({ "type": "session_ended", "session": session_text(1), "reason": "enough" });
    scene.session.send(end).await;
    assert_eq!(ended(&mut scene).await, "enough");
    assert_eq!(scene.session.report().await, MAPPED);
}

#[tokio::test]
async fn a_connection_without_a_welcome_does_not_use_the_token_up_and_each_welcome_has_its_own() {
    let (mut scene, _agent, _answering) = linked(2).await;
    drop(scene.session);
    // This one ends before it has said anything, and in that one the handshake is refused.
    drop(scene.rendezvous.accept_selecting(V1).await);
    scene.rendezvous.refuse("503 Service Unavailable").await;
    scene.session = scene.rendezvous.accept_selecting(V1).await;
    scene.session.send(welcome("token-2")).await;
    assert_eq!(scene.session.expect("hello").await["resume"], TOKEN);
    // Nothing says that this hello was heard: the one before is good still.
    let (mut scene, hello) = scene.reconnected("token-3").await;
    assert_eq!(hello["resume"], TOKEN);
    scene.session.send(json!({ "type": "udp_endpoint_ack", "status": "success" })).await;
    let (_scene, hello) = scene.reconnected("token-4").await;
    assert_eq!(hello["resume"], "token-3");
}

#[tokio::test]
async fn a_punch_goes_on_without_the_rendezvous_and_its_link_is_kept() {
    let agent = Agent::bind(3);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlling")).await;
    agent.request().await;
    drop(scene.session);
    scene.worker.until_disconnected().await;
    agent.answer_next().await;
    let linked = |event: &SessionEvent| matches!(event, SessionEvent::Linked(_)).then_some(());
    scene.worker.until_session("a link", linked).await;
    scene.session = scene.rendezvous.accept_selecting(V1).await;
    scene.session.send(welcome("token-2")).await;
    assert_eq!(scene.session.expect("hello").await["resume"], TOKEN);
    is_alive(&agent, IceRole::Controlled, &scene).await;
    let said = scene.said().await;
    assert!(said.iter().all(|it| it["type"] != "update_udp_endpoint"), "it has a peer: {said:?}");
}

#[tokio::test]
async fn a_free_worker_reports_anew_to_a_rendezvous_that_has_restarted() {
    let scene = Scene::ready().await;
    let mut worker = scene.worker;
    assert_eq!(scene.session.close(1001, "").await, Some(1001));
    let (why, _) = worker.until_disconnected().await;
    assert!(why.contains("1001"), "{why}");
    let mut session = scene.rendezvous.accept_selecting(V1).await;
    session.send(welcome("token-2")).await;
    session.expect("hello").await;
    let mut said = [session.receive().await, session.receive().await];
    said.sort_by_key(|message| message["type"].to_string());
    assert_eq!((&said[0]["type"], &said[0]["generation"]), (&json!("candidates"), &json!(3)));
    assert_eq!(said[1]["type"], "update_udp_endpoint");
}

#[tokio::test]
async fn a_peer_that_has_left_ends_the_session_and_the_worker_asks_for_the_next() {
    let (mut scene, agent, answering) = linked(4).await;
    drop(answering);
    let end = |session: u64| {
        let reason = "the peer has left";
        json!({ "type": "session_ended", "session": session_text(session), "reason": reason })
    };
    // Of another session: nothing happens.
    scene.session.send(end(5)).await;
    assert_eq!(scene.said().await, [] as [Value; 0]);
    is_alive(&agent, IceRole::Controlling, &scene).await;
    scene.session.send(end(4)).await;
    assert_eq!(ended(&mut scene).await, "the peer has left");
    assert_eq!(scene.session.report().await, MAPPED);
    // The credentials are good for nothing any more.
    agent.arrived();
    agent.check(scene.udp, IceRole::Controlling, true).await;
    let next = Agent::bind(6);
    scene.session.send(next.offer("controlling")).await;
    next.answer_next().await;
    scene.until_linked().await;
    assert!(agent.is_told_nothing(), "neither an answer nor a check");
}

#[tokio::test]
async fn a_session_that_the_rendezvous_begins_anew_takes_the_new_credentials() {
    let (mut scene, agent, answering) = linked(7).await;
    drop(answering);
    // The credentials of session 8 under the number of session 7.
    let again = Agent::bind(8);
    let mut offer = again.offer("controlling");
    offer["session"] = json!(session_text(7));
    scene.session.send(offer).await;
    assert_eq!(ended(&mut scene).await, "the rendezvous has begun it anew");
    agent.arrived();
    agent.check(scene.udp, IceRole::Controlling, true).await;
    again.answer_next().await;
    assert_eq!(scene.until_linked().await.remote, again.address);
    assert_eq!(scene.session.expect("link_state").await["session"], session_text(7));
    assert!(agent.is_told_nothing());
}
