//! A verdict of the rendezvous that no direct path is to be expected.

use holepunch_link::SessionEvent;
use serde_json::{Value, json};

use crate::agent::{Agent, session_text};
use crate::common::subject::MAPPED;
use crate::scene::Scene;

const REASON: &str = "two hard NATs, and neither reuses its ports";

/// A verdict may be wrong: so many checks are made all the same.
const FEW: usize = 5;

/// A plan to relay that names a search all the same.
fn relay(number: u32) -> Value {
    json!({
        "number": number,
        "strategy": "relay",
        "reason": REASON,
        "search": {
            "sockets": 64,
            "aim": { "to": "random" },
            "probes_max": 1000,
            "per_second": 100,
        },
    })
}

/// Waits for the verdict; the reason in it.
async fn verdict(scene: &mut Scene) -> String {
    let pick = |event: &SessionEvent| {
        let SessionEvent::Verdict(reason) = event else { return None };
        Some(reason.clone())
    };
    scene.worker.until_session("the verdict", pick).await
}

#[tokio::test]
async fn a_verdict_says_its_reason_and_no_search_is_made_and_the_worker_leaves() {
    let agent = Agent::bind(1);
    let other = Agent::bind(1);
    let mut scene = Scene::ready().await;
    let mut offer = agent.offer("controlling");
    offer["plan"] = relay(1);
    offer["candidates"] = json!([other.candidate("host")]);
    scene.session.send(offer).await;
    assert_eq!(verdict(&mut scene).await, REASON);
    let report = scene.session.expect("link_state").await;
    assert_eq!(report["session"], session_text(1));
    assert_eq!((&report["state"], &report["reason"]), (&json!("relayed"), &json!(REASON)));
    assert_eq!(report["strategy"], "relay");
    // The peer is ready for a search, whatever that means.
    let accepted = json!({ "type": "peer_accepted", "session": session_text(1), "number": 1 });
    scene.session.send(accepted).await;
    let leave = json!({ "type": "leave", "session": session_text(1) });
    assert_eq!(scene.session.receive().await, leave, "no acceptance, but after a while this");
    assert_eq!(scene.session.report().await, MAPPED, "it is free for another peer");
    let checks = agent.arrived();
    assert!((1..=FEW).contains(&checks.len()), "{}", checks.len());
    assert!(checks.iter().all(|check| check.from == scene.udp), "from no further socket");
    assert_eq!(other.arrived(), [], "the endpoint is enough");
}

#[tokio::test]
async fn a_verdict_in_a_later_plan_ends_the_checks_but_a_check_of_the_peer_still_makes_a_link() {
    let agent = Agent::bind(2);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlling")).await;
    agent.request().await;
    let plan = json!({ "type": "plan", "session": session_text(2), "plan": relay(2) });
    scene.session.send(plan).await;
    assert_eq!(verdict(&mut scene).await, REASON);
    let report = scene.session.expect("link_state").await;
    assert_eq!((&report["state"], &report["number"]), (&json!("relayed"), &json!(2)));
    agent.arrived();
    let transaction =
        agent.check(scene.udp, holepunch_wire::check::IceRole::Controlled, false).await;
    agent.answer_to(transaction).await;
    // The first check since the verdict is the one that the peer's has triggered.
    agent.answer_next().await;
    assert_eq!(scene.until_linked().await.remote, agent.address);
    assert_eq!(scene.session.expect("link_state").await["state"], "direct");
}
