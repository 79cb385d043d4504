//! Offers of sessions that hold garbage: they harm nothing.

use std::net::SocketAddr;

use holepunch_link::{OfferRefusal, SessionEvent};
use holepunch_wire::WorkerId;
use holepunch_wire::signal::FromServer;
use holepunch_worker::{Event, Notice, Signal};
use serde_json::{Value, json};

use crate::agent::{Agent, PEER, candidate, offer_without_endpoint, session_text};
use crate::scene::Scene;

/// Most candidates of one peer that are taken up.
const CANDIDATES_MAX: usize = 16;

/// Links with an agent, to show that the worker is well.
async fn links(scene: &mut Scene, session: u64) {
    let agent = Agent::bind(session);
    scene.session.send(agent.offer("controlling")).await;
    agent.answer_next().await;
    assert_eq!(scene.until_linked().await.remote, agent.address);
}

/// Addresses that no single host has.
fn nowhere() -> Vec<Value> {
    let texts = [
        "224.0.0.1:5000",
        "239.255.255.250:1900",
        "255.255.255.255:5000",
        "0.0.0.0:5000",
        "240.0.0.1:5000",
        "127.0.0.1:0",
        "[ff02::1]:5000",
        "[::]:5000",
        "[::ffff:224.0.0.1]:5000",
    ];
    texts.iter().map(|text| candidate("host", text.parse().unwrap())).collect()
}

#[tokio::test]
async fn candidates_that_are_no_host_s_or_too_many_are_left_out() {
    let agents: Vec<Agent> = (0..CANDIDATES_MAX + 4).map(|_| Agent::bind(1)).collect();
    let mut scene = Scene::ready().await;
    let mut offer = offer_without_endpoint(1, "controlling");
    let mut candidates = nowhere();
    // The same again and again counts once.
    candidates.extend((0..40).map(|_| agents[0].candidate("server_reflexive")));
    candidates.extend(agents.iter().map(|agent| agent.candidate("server_reflexive")));
    offer["candidates"] = json!(candidates);
    scene.session.send(offer).await;
    for agent in &agents[..CANDIDATES_MAX] {
        agent.request().await;
    }
    assert_eq!(scene.said().await, [] as [Value; 0]);
    for agent in &agents[CANDIDATES_MAX..] {
        assert_eq!(agent.arrived(), []);
    }
    let last = &agents[CANDIDATES_MAX - 1];
    last.answer_next().await;
    assert_eq!(scene.until_linked().await.remote, last.address);
}

#[tokio::test]
async fn further_sets_of_candidates_cannot_be_used_to_send_packets_everywhere() {
    // As many as come from one peer, and the sources of its checks.
    const REMOTES_MAX: usize = CANDIDATES_MAX + 8;
    let agents: Vec<Agent> = (0..3 * CANDIDATES_MAX).map(|_| Agent::bind(1)).collect();
    let mut scene = Scene::ready().await;
    scene.session.send(offer_without_endpoint(1, "controlling")).await;
    for (generation, some) in (1..).zip(agents.chunks(CANDIDATES_MAX)) {
        let candidates: Vec<Value> = some.iter().map(|agent| agent.candidate("host")).collect();
        let message = json!({
            "type": "peer_candidates",
            "session": session_text(1),
            "generation": generation,
            "candidates": candidates,
        });
        scene.session.send(message).await;
    }
    for agent in &agents[..REMOTES_MAX] {
        agent.request().await;
    }
    scene.said().await;
    assert!(agents[REMOTES_MAX..].iter().all(|agent| agent.arrived().is_empty()));
}

#[tokio::test]
async fn an_endpoint_that_is_no_host_s_is_not_checked_but_candidates_are() {
    for (ip, port) in [("224.0.0.1", 5000), ("255.255.255.255", 5000), ("127.0.0.1", 0)] {
        let agent = Agent::bind(2);
        let mut scene = Scene::ready().await;
        let mut offer = agent.offer("controlling");
        (offer["peer_udp_ip"], offer["peer_udp_port"]) = (json!(ip), json!(port));
        offer["candidates"] = json!([agent.candidate("host")]);
        scene.session.send(offer).await;
        agent.answer_next().await;
        assert_eq!(scene.until_linked().await.remote, agent.address, "{ip}:{port}");
    }
}

#[tokio::test]
async fn an_offer_that_cannot_be_read_says_why_and_disturbs_no_other_session() {
    let agent = Agent::bind(3);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlling")).await;
    let request = agent.request().await;
    let other = Agent::bind(4);
    let short = json!({ "ufrag": "peer", "password": "short" });
    for (field, value, why) in [
        ("session", json!("12"), "16 hexadecimal digits"),
        ("session", json!(12), "expected a string"),
        ("role", json!("boss"), "controlling"),
        ("credentials", json!(null), "IceCredentials"),
        ("peer_credentials", short, "password has 22 to 256 characters"),
        ("plan", json!(null), "Plan"),
        ("plan", json!({ "number": -1, "strategy": "plain" }), "-1"),
        ("candidates", json!([{ "kind": "host", "ip": "peer.example", "port": 1 }]), "IP"),
        ("candidates", json!([candidate_with_port(65_536)]), "65536"),
        ("peer_worker_id", json!(""), "empty"),
        ("peer_udp_port", json!("port"), "port"),
    ] {
        let mut offer = other.offer("controlling");
        offer[field] = value.clone();
        scene.session.send(offer).await;
        let refused = scene.worker.until("a refusal", |notice| {
            let Notice::Signal(Signal::Message(FromServer::SessionOffer(read))) = notice else {
                return None;
            };
            read.as_ref().err().map(ToString::to_string)
        });
        let refused = refused.await;
        assert!(refused.contains(why), "{field} {value}: {refused}");
    }
    assert!(other.arrived().is_empty());
    agent.answer(&request).await;
    assert_eq!(scene.until_linked().await.remote, agent.address);
}

fn candidate_with_port(port: u32) -> Value {
    json!({ "kind": "host", "ip": "127.0.0.1", "port": port, "priority": 1 })
}

#[tokio::test]
async fn an_offer_of_the_worker_itself_is_left_at_once() {
    let mut scene = Scene::ready().await;
    let mut offer = offer_without_endpoint(5, "controlling");
    offer["peer_worker_id"] = json!(scene.worker.id());
    scene.session.send(offer).await;
    let leave = json!({ "type": "leave", "session": session_text(5) });
    assert_eq!(scene.session.receive().await, leave);
    let refused = Notice::Udp(Event::OfferIgnored(OfferRefusal::OwnId));
    scene.worker.until_it("the refusal", |notice| *notice == refused).await;
    links(&mut scene, 6).await;
}

#[tokio::test]
async fn whoever_calls_one_worker_is_linked_with_no_other() {
    let wanted = WorkerId::new("wanted").unwrap();
    let mut scene = Scene::with(|config| config.peer = Some(wanted.clone())).await;
    let agent = Agent::bind(5);
    scene.session.send(agent.offer("controlling")).await;
    let leave = json!({ "type": "leave", "session": session_text(5) });
    assert!(scene.session.until("leave").await.contains(&leave));
    let named = WorkerId::new(PEER).unwrap();
    let refusal = OfferRefusal::NotWanted { named, wanted: wanted.clone() };
    let refused = Notice::Udp(Event::OfferIgnored(refusal));
    scene.worker.until_it("the refusal", |notice| *notice == refused).await;
    assert_eq!(agent.arrived(), []);
    let mut offer = agent.offer("controlling");
    offer["peer_worker_id"] = json!(wanted.as_str());
    scene.session.send(offer).await;
    agent.answer_next().await;
    assert_eq!(scene.until_linked().await.remote, agent.address);
}

#[tokio::test]
async fn a_flood_of_offers_is_followed_no_faster_than_the_bound_and_the_others_are_left() {
    let start = std::time::Instant::now();
    let mut scene = Scene::ready().await;
    // Nobody is there.
    let silent: SocketAddr = "127.0.0.3:9".parse().unwrap();
    for session in 100..160 {
        let mut offer = offer_without_endpoint(session, "controlling");
        offer["candidates"] = json!([candidate("host", silent)]);
        scene.session.send(offer).await;
    }
    let said = scene.said().await;
    let left = said.iter().filter(|message| message["type"] == "leave").count();
    let followed = 60 - left;
    let bound = 10 + usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    assert!((10..=bound).contains(&followed), "{followed} of 60");
    let started = |event: &Event| matches!(event, Event::Session(_, _, SessionEvent::Started(_)));
    scene.worker.catches_up_with(&mut scene.session).await;
    assert_eq!(scene.worker.udp_events().filter(|event| started(event)).count(), followed);
}
