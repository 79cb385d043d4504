//! A session from its offer to its link.

use std::net::Ipv4Addr;

use holepunch_link::SessionEvent;
use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::check::{CheckRequest, IceRole};
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::stun::TransactionId;
use serde_json::{Value, json};

use crate::agent::{
    Agent, candidate, offer_without_endpoint, peer_credentials, session_text, worker_credentials,
};
use crate::common::Subject;
use crate::scene::{Scene, TOKEN, V1, prepared, welcome, without_proof};

#[tokio::test]
async fn an_offer_is_followed_by_checks_that_prove_themselves_in_the_role_that_it_gives() {
    for (number, role, claimed) in
        [(1, "controlling", IceRole::Controlling), (2, "controlled", IceRole::Controlled)]
    {
        let agent = Agent::bind(number);
        let mut scene = Scene::ready().await;
        scene.session.send(agent.offer(role)).await;
        let plan = scene.worker.until_session("the plan", |event| {
            let SessionEvent::Started(offer) = event else { return None };
            Some(offer.details.plan.reason.clone())
        });
        assert_eq!(plan.await, "the test says so");
        let mut transactions = Vec::new();
        let first = agent.request().await;
        for request in [first.clone(), agent.request().await, agent.request().await] {
            // `request` verifies that the worker knows the peer's password.
            assert_eq!(request.from, scene.udp, "the port that the STUN server has seen");
            assert_eq!(request.username, format!("peer{number}:worker{number}"));
            assert_eq!((request.role, request.nominates), (claimed, false));
            assert_eq!(request.tie_breaker, first.tie_breaker, "one for the session");
            assert!(!transactions.contains(&request.transaction), "a check is not sent again");
            transactions.push(request.transaction);
        }
        assert_eq!(scene.said().await, [] as [Value; 0]);
    }
}

#[tokio::test]
async fn an_answered_check_makes_the_link_which_is_reported_and_nominated_by_the_one_who_controls()
{
    let agent = Agent::bind(3);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlling")).await;
    agent.answer_next().await;
    let path = scene.until_linked().await;
    assert_eq!((path.remote, path.kind), (agent.address, CandidateKind::ServerReflexive));
    let report = scene.session.expect("link_state").await;
    assert_eq!(report["session"], session_text(3));
    assert_eq!((&report["state"], &report["strategy"]), (&json!("direct"), &json!("plain")));
    assert_eq!((&report["number"], &report["reason"]), (&json!(1), &json!("")));
    assert!(report["rtt_ms"].is_u64() && report["elapsed_ms"].is_u64(), "{report}");
    assert!(report["probes"].as_u64().unwrap() >= 1, "{report}");
    while !agent.request().await.nominates {}
    assert_eq!(scene.said().await, [] as [Value; 0], "a worker with a peer reports nothing else");
}

#[tokio::test]
async fn a_worker_that_is_controlled_answers_checks_and_never_nominates() {
    let agent = Agent::bind(4);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlled")).await;
    let mut requests = vec![agent.answer_next().await];
    let transaction = agent.check(scene.udp, IceRole::Controlling, true).await;
    assert_eq!(agent.answer_to(transaction).await, agent.address, "what the worker has seen");
    scene.until_linked().await;
    scene.said().await;
    requests.extend(agent.arrived());
    assert!(requests.iter().all(|request| !request.nominates));
}

#[tokio::test]
async fn a_check_of_the_peer_from_an_address_that_nobody_named_is_checked_back_and_linked() {
    let offered = Agent::bind(5);
    let behind = Agent::bind_on(Ipv4Addr::new(127, 0, 0, 2), 5);
    let mut scene = Scene::ready().await;
    scene.session.send(offered.offer("controlling")).await;
    offered.request().await;
    let transaction = behind.check(scene.udp, IceRole::Controlled, false).await;
    assert_eq!(behind.answer_to(transaction).await, behind.address);
    behind.answer_next().await;
    let path = scene.until_linked().await;
    assert_eq!((path.remote, path.kind), (behind.address, CandidateKind::PeerReflexive));
}

#[tokio::test]
async fn a_peer_without_an_endpoint_is_linked_at_a_candidate_that_comes_later() {
    let agent = Agent::bind(6);
    let mut scene = Scene::ready().await;
    scene.session.send(offer_without_endpoint(6, "controlling")).await;
    assert_eq!(scene.said().await, [] as [Value; 0]);
    scene
        .session
        .send(json!({
            "type": "peer_candidates",
            "session": session_text(6),
            "generation": 1,
            "candidates": [agent.candidate("host")],
            "address_proof": "none",
        }))
        .await;
    agent.answer_next().await;
    let path = scene.until_linked().await;
    assert_eq!((path.remote, path.kind), (agent.address, CandidateKind::Host));
}

#[tokio::test]
async fn what_does_not_prove_itself_is_neither_answered_nor_a_link() {
    let agent = Agent::bind(7);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlling")).await;
    let asked = agent.request().await;
    let wrong = IceCredentials::new("peer7", "w".repeat(32)).unwrap();
    // Answers with another password, and without any.
    let forged =
        holepunch_wire::check::encode_success(asked.transaction, asked.from, &wrong.check_key());
    agent.send(&forged, scene.udp).await;
    let bare = crate::common::stun::success(cookie_and(asked.transaction), asked.from);
    agent.send(&bare, scene.udp).await;
    // Requests with another password, and for another session.
    let (own, worker) = (peer_credentials(7), worker_credentials(7));
    let elsewhere = worker_credentials(8);
    for (receiver, key) in [(worker.ufrag(), &wrong), (elsewhere.ufrag(), &worker)] {
        let request = CheckRequest {
            transaction: TransactionId::from(1_u128 << 80),
            remote_ufrag: receiver,
            local_ufrag: own.ufrag(),
            priority: 1,
            role: IceRole::Controlled,
            tie_breaker: 1,
            use_candidate: false,
        };
        agent.send(&request.encode(&key.check_key()), scene.udp).await;
    }
    // What comes after is answered, so the rest was not.
    let good = agent.check(scene.udp, IceRole::Controlled, false).await;
    let mut answers = 0;
    loop {
        let (datagram, _) = agent.receive().await;
        let parsed = holepunch_wire::check::ParsedCheck::parse(&datagram).unwrap();
        answers += u32::from(!matches!(parsed.check, holepunch_wire::check::Check::Request { .. }));
        if parsed.transaction == good {
            break;
        }
    }
    assert_eq!(answers, 1);
    assert_eq!(scene.said().await, [] as [Value; 0], "no link");
    agent.answer_next().await;
    scene.until_linked().await;
}

/// A transaction id as a STUN header has it.
fn cookie_and(transaction: TransactionId) -> [u8; 16] {
    (u128::from(transaction) | (0x2112_a442 << 96)).to_be_bytes()
}

#[tokio::test]
async fn two_workers_are_linked_with_each_other_by_a_session() {
    let (rendezvous, stun, config) = prepared().await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = Subject::start(config.clone()).await;
        let mut session = rendezvous.accept_selecting(V1).await;
        session.send(welcome(TOKEN)).await;
        let asked = stun.request().await;
        // No NAT: each is seen where it is.
        stun.answer(asked, asked.from).await;
        let said = session.until("update_udp_endpoint").await;
        assert_eq!(without_proof(said[0].clone()), json!({ "type": "hello" }));
        workers.push((worker, session, asked.from));
    }
    let (mut first, mut one, a) = workers.pop().unwrap();
    let (mut second, mut two, b) = workers.pop().unwrap();
    let mut offer = offer_without_endpoint(9, "controlling");
    offer["peer_worker_id"] = json!(second.id());
    offer["candidates"] = json!([candidate("host", b)]);
    one.send(offer.clone()).await;
    offer["peer_worker_id"] = json!(first.id());
    offer["role"] = json!("controlled");
    offer["candidates"] = json!([candidate("host", a)]);
    let own = offer["credentials"].take();
    offer["credentials"] = std::mem::replace(&mut offer["peer_credentials"], own);
    two.send(offer).await;
    for (worker, session, peer) in [(&mut first, &mut one, b), (&mut second, &mut two, a)] {
        let linked = worker.until_session("a link", |event| {
            let SessionEvent::Linked(path) = event else { return None };
            Some(path.remote)
        });
        assert_eq!(linked.await, peer);
        let said = session.until("link_state").await;
        assert_eq!(said.last().unwrap()["state"], "direct", "{said:?}");
    }
}
