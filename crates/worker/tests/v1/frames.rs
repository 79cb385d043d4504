//! Frames that are no messages, messages of a later version, and messages at the wrong time.

use holepunch_link::SessionEvent;
use holepunch_wire::plan::Strategy;
use holepunch_wire::signal::FromServer;
use holepunch_worker::{FailureCode, Notice, Signal};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::agent::{Agent, session_text};
use crate::common::Subject;
use crate::common::subject::MAPPED;
use crate::scene::{Scene, TOKEN, V1, prepared, said, welcome};

/// What the worker complains of next: a frame that is no message, or a message with wrong fields.
async fn complaint(worker: &mut Subject) -> String {
    let pick = |notice: &Notice| {
        let Notice::Signal(Signal::Malformed(why) | Signal::Message(FromServer::V1(Err(why)))) =
            notice
        else {
            return None;
        };
        Some(why.clone())
    };
    worker.until("a complaint", pick).await
}

#[tokio::test]
async fn what_is_no_message_is_named_and_what_stands_around_it_is_not_lost() {
    let agent = Agent::bind(1);
    let mut scene = Scene::ready().await;
    let session = session_text(1);
    let wrong = [
        ("{".to_owned(), "not valid JSON"),
        ("[]".to_owned(), "expected a JSON object"),
        (r#"{"session":"0000000000000001"}"#.to_owned(), "`type`"),
        (r#"{"type":"plan"}"#.to_owned(), "missing field `session`"),
        (format!(r#"{{"type":"plan","session":"{session}"}}"#), "missing field `plan`"),
        (r#"{"type":"session_ended","session":"1"}"#.to_owned(), "16 hexadecimal digits"),
        (
            format!(
                r#"{{"type":"peer_accepted","session":"{session}","number":1,"ports":[65536]}}"#
            ),
            "65536",
        ),
        (
            format!(r#"{{"type":"peer_candidates","session":"{session}","candidates":[]}}"#),
            "missing field `generation`",
        ),
        (r#"{"type":"welcome","server":"x"}"#.to_owned(), "missing field `observed_ip`"),
        (r#"{"type":"welcome","type":"plan"}"#.to_owned(), "duplicate field `type`"),
        (format!(r#"{{"type":"plan","plan":{}"#, "[".repeat(20_000)), "not valid JSON"),
    ];
    scene.session.send(agent.offer("controlling")).await;
    for (text, why) in &wrong {
        scene.session.send_text(text).await;
        let complaint = complaint(&mut scene.worker).await;
        assert!(complaint.contains(why), "{text:.60}: {complaint}");
    }
    scene.session.send_frame(Message::Binary(vec![0xff; 3].into())).await;
    assert!(complaint(&mut scene.worker).await.contains("3 bytes of binary"));
    assert_eq!(
        scene.said().await,
        [] as [Value; 0],
        "the connection is up, and nothing is asked again"
    );
    agent.answer_next().await;
    assert_eq!(scene.until_linked().await.remote, agent.address);
    assert_eq!(scene.session.expect("link_state").await["state"], "direct");
}

#[tokio::test]
async fn types_fields_and_words_of_a_later_version_are_no_obstacle() {
    let agent = Agent::bind(2);
    let other = Agent::bind(2);
    let (rendezvous, stun, config) = prepared().await;
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(json!({ "type": "before_the_welcome" })).await;
    let mut later = welcome(TOKEN);
    later["regions"] = json!({ "near": ["a", null] });
    session.send(later).await;
    session.expect("hello").await;
    stun.answer_next(MAPPED).await;
    session.until("update_udp_endpoint").await;
    let plain = json!({ "number": 9, "strategy": "plain" });
    for message in [
        json!({ "type": "weather", "session": session_text(2), "sun": true }),
        json!({ "type": "plan", "session": session_text(77), "plan": plain }),
        json!({ "type": "session_ended", "session": session_text(77) }),
        json!({ "type": "peer_accepted", "session": session_text(77), "number": 1 }),
        json!({ "type": "error", "message": "something cannot be" }),
    ] {
        session.send(message).await;
    }
    let mut offer = agent.offer("controlled");
    offer["plan"]["strategy"] = json!("telepathy");
    offer["plan"]["mood"] = json!([1, 2]);
    offer["address_proof"] = json!("oath");
    offer["peer_key"] = json!("07".repeat(32));
    offer["candidates"] = json!([other.candidate("carrier_pigeon")]);
    offer["later"] = json!({});
    session.send(offer).await;
    let strategy = worker.until_session("the plan", |event| {
        let SessionEvent::Started(offer) = event else { return None };
        Some(offer.details.plan.strategy)
    });
    assert_eq!(strategy.await, Strategy::Plain);
    other.request().await;
    agent.answer_next().await;
    let unknown = |kind: &str| {
        let notice = Notice::Signal(Signal::Message(FromServer::Unknown(kind.to_owned())));
        worker.seen.contains(&notice)
    };
    assert!(unknown("before_the_welcome") && unknown("weather"));
    let kinds: Vec<Value> = said(&mut session, worker.id(), 1 << 32).await;
    assert!(kinds.iter().all(|message| message["type"] == "link_state"), "{kinds:?}");
}

#[tokio::test]
async fn a_welcome_that_cannot_be_read_is_named_and_a_good_one_is_still_taken() {
    let (rendezvous, stun, config) = prepared().await;
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    stun.answer_next(MAPPED).await;
    let mut bad = welcome(TOKEN);
    bad["observed_ip"] = json!("somewhere");
    session.send(bad).await;
    assert!(complaint(&mut worker).await.contains("IP address"));
    worker.catches_up_with(&mut session).await;
    session.is_told_nothing_yet().await;
    let mut odd = welcome(TOKEN);
    // Of these none can be used, and none does harm.
    odd["stun"] = json!(["0.0.0.0:0", "224.0.0.1:3478", "[::1]:3478"]);
    odd["proof_nonce"] = json!("not hexadecimal");
    odd["resume"] = json!("x".repeat(10_000));
    session.send(odd).await;
    session.expect("hello").await;
    session.until("update_udp_endpoint").await;
}

#[tokio::test]
async fn a_baseline_offer_in_the_subprotocol_is_followed_by_pings() {
    let peer = crate::common::Peer::bind("old").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&peer.id, peer.address).await;
    let id = scene.worker.id().to_owned();
    peer.link_with(&id).await;
    assert_eq!(scene.worker.until_linked().await.peer, "old");
}

#[tokio::test]
async fn the_code_before_a_close_says_why_whatever_the_text_says() {
    let mut scene = Scene::ready().await;
    scene.session.send(json!({ "type": "closing", "code": "replaced" })).await;
    scene.session.close(1000, "in other words").await;
    let pick = |notice: &Notice| {
        let Notice::Signal(Signal::Disconnected { code, .. }) = notice else { return None };
        Some(*code)
    };
    assert_eq!(scene.worker.until("the end of the connection", pick).await, FailureCode::Replaced);
}
