//! Plans with a search for ports: both sides accept, and the worker's own bounds hold.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_link::{SearchRefusal, SessionEvent};
use holepunch_wire::nat::SearchWish;
use serde_json::{Value, json};

use crate::agent::{Agent, session_text};
use crate::scene::Scene;

/// A plan whose search goes from two fresh sockets to the ports that the peer announces.
fn announced(number: u32) -> Value {
    json!({
        "number": number,
        "strategy": "preserved",
        "reason": "ports are kept",
        "search": {
            "sockets": 2,
            "fresh": true,
            "aim": { "to": "announced" },
            "announce": "local_ports",
            "probes_max": 8,
            "per_second": 50,
        },
    })
}

fn accepted(session: u64, number: u32, ports: &[u16]) -> Value {
    json!({
        "type": "peer_accepted",
        "session": session_text(session),
        "number": number,
        "ports": ports,
    })
}

/// The next acceptance of the worker: the number of the plan, and the ports.
async fn acceptance(scene: &mut Scene, session: u64) -> (u64, Vec<u16>) {
    let message = scene.session.expect("plan_accepted").await;
    assert_eq!(message["session"], session_text(session));
    let ports = message["ports"].as_array().unwrap().iter();
    let ports = ports.map(|port| u16::try_from(port.as_u64().unwrap()).unwrap()).collect();
    (message["number"].as_u64().unwrap(), ports)
}

#[tokio::test]
async fn a_search_begins_when_both_have_accepted_and_goes_where_the_peer_announces() {
    let agent = Agent::bind(1);
    let targets = [Agent::bind(1), Agent::bind(1)];
    let mut scene = Scene::ready().await;
    let mut offer = agent.offer("controlling");
    offer["plan"] = announced(1);
    scene.session.send(offer).await;
    let (number, ports) = acceptance(&mut scene, 1).await;
    assert_eq!((number, ports.len()), (1, 2), "two fresh sockets");
    // The acceptance of another plan counts nothing.
    let [first, second] = targets.each_ref().map(|target| target.address.port());
    scene.session.send(accepted(1, 7, &[first, second])).await;
    assert_eq!(scene.said().await, [] as [Value; 0]);
    assert!(targets.iter().all(|target| target.arrived().is_empty()));
    scene.session.send(accepted(1, 1, &[first, second])).await;
    let started =
        |event: &SessionEvent| matches!(event, SessionEvent::SearchStarted(_)).then_some(());
    scene.worker.until_session("the search", started).await;
    for (target, port) in targets.iter().zip(&ports) {
        let request = target.request().await;
        assert_eq!(request.from, SocketAddr::new(scene.udp.ip(), *port), "the n-th to the n-th");
    }
    let found = targets[1].answer_next().await;
    let path = scene.until_linked().await;
    assert_eq!(path.remote, targets[1].address);
    let report = scene.session.expect("link_state").await;
    assert_eq!((&report["state"], &report["strategy"]), (&json!("direct"), &json!("preserved")));
    // The path stays on the socket that has found it.
    let nominated = targets[1].request().await;
    assert_eq!(nominated.from, found.from);
}

#[tokio::test]
async fn a_better_plan_replaces_the_first_and_an_older_one_is_ignored() {
    let agent = Agent::bind(2);
    let mut scene = Scene::ready().await;
    scene.session.send(agent.offer("controlling")).await;
    agent.request().await;
    for number in [3, 2] {
        let plan = json!({ "type": "plan", "session": session_text(2), "plan": announced(number) });
        scene.session.send(plan).await;
    }
    let said = scene.said().await;
    let mut numbers: Vec<&Value> = said.iter().map(|message| &message["number"]).collect();
    if numbers.is_empty() {
        // Its sockets were not open yet.
        let (number, _) = acceptance(&mut scene, 2).await;
        assert_eq!(number, 3);
    } else {
        assert_eq!(numbers.pop(), Some(&json!(3)), "{said:?}");
        assert!(numbers.is_empty(), "{said:?}");
    }
    assert_eq!(scene.said().await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_search_toward_an_address_that_nobody_vouches_for_is_refused_in_words() {
    let agent = Agent::bind(3);
    let mut scene = Scene::ready().await;
    let mut offer = agent.offer("controlling");
    offer["address_proof"] = json!("none");
    offer["plan"] = announced(1);
    scene.session.send(offer).await;
    is_refused(&mut scene, SearchRefusal::Unproven).await;
    agent.answer_next().await;
    scene.until_linked().await;
}

#[tokio::test]
async fn a_worker_that_wants_no_searches_makes_none() {
    let agent = Agent::bind(4);
    let mut scene = Scene::with(|config| config.search = SearchWish::Never).await;
    let mut offer = agent.offer("controlling");
    offer["plan"] = announced(1);
    scene.session.send(offer).await;
    is_refused(&mut scene, SearchRefusal::Unwanted).await;
}

async fn is_refused(scene: &mut Scene, expected: SearchRefusal) {
    let refusal = scene.worker.until_session("a refusal", |event| {
        let SessionEvent::SearchRefused(refusal) = event else { return None };
        Some(*refusal)
    });
    assert_eq!(refusal.await, expected);
    let report = scene.session.expect("link_state").await;
    assert_eq!(
        (&report["state"], &report["reason"]),
        (&json!("declined"), &json!(expected.to_string()))
    );
    assert_eq!(scene.said().await, [] as [Value; 0], "no acceptance");
}

#[tokio::test]
async fn absurd_budgets_are_cut_back_to_the_worker_s_own_pace_and_end_with_the_link() {
    const SEEN: usize = 60;
    /// Packets of a search are at least so far apart: 100 a second.
    const APART: Duration = Duration::from_millis(10);
    let agent = Agent::bind(5);
    let mut scene = Scene::ready().await;
    let mut offer = agent.offer("controlling");
    offer["plan"] = json!({
        "number": u32::MAX,
        "strategy": "birthday",
        "delay_ms": 0,
        "expected_percent": 255,
        "reason": "x".repeat(10_000),
        "search": {
            "sockets": u16::MAX,
            "fresh": true,
            "aim": { "to": "endpoint" },
            "probes_max": u16::MAX,
            "per_second": u16::MAX,
            "except": vec![1; 1000],
        },
    });
    scene.session.send(offer).await;
    assert_eq!(acceptance(&mut scene, 5).await, (u64::from(u32::MAX), vec![]));
    let start = Instant::now();
    scene.session.send(accepted(5, u32::MAX, &[])).await;
    let mut sources = BTreeSet::new();
    let last = loop {
        let request = agent.request().await;
        if request.from != scene.udp {
            assert!(sources.insert(request.from), "each packet from a socket of its own");
        }
        if sources.len() == SEEN {
            break request;
        }
    };
    let fastest = APART * u32::try_from(SEEN - 1).unwrap();
    assert!(start.elapsed() >= fastest, "{SEEN} packets in {:?}", start.elapsed());
    agent.answer(&last).await;
    assert_eq!(scene.until_linked().await.remote, agent.address);
    sources.extend(agent.arrived().into_iter().map(|request| request.from));
    assert_eq!(scene.session.expect("link_state").await["state"], "direct");
    // A nomination that is not answered is repeated, after the time of many packets of a search.
    for _ in 0..2 {
        loop {
            let request = agent.request().await;
            assert!(sources.contains(&request.from), "it goes on: {request:?}");
            if request.nominates {
                break;
            }
        }
    }
}

#[tokio::test]
async fn ports_that_the_peer_announces_in_masses_are_cut_to_a_dozen() {
    const ANNOUNCED_MAX: usize = 12;
    let agent = Agent::bind(6);
    let targets: Vec<Agent> = (0..ANNOUNCED_MAX + 3).map(|_| Agent::bind(6)).collect();
    let mut scene = Scene::ready().await;
    let mut offer = agent.offer("controlling");
    offer["plan"] = announced(1);
    offer["plan"]["search"]["fresh"] = json!(false);
    offer["plan"]["search"]["probes_max"] = json!(100);
    offer["plan"]["search"]["per_second"] = json!(100);
    scene.session.send(offer).await;
    acceptance(&mut scene, 6).await;
    let mut ports = vec![0, 0];
    ports.extend(targets.iter().map(|target| target.address.port()));
    scene.session.send(accepted(6, 1, &ports)).await;
    // Two rounds: what is left out of the first is not tried in the second.
    for _ in 0..2 {
        for target in &targets[..ANNOUNCED_MAX] {
            assert_eq!(target.request().await.from, scene.udp, "from the own socket");
        }
    }
    scene.said().await;
    assert!(targets[ANNOUNCED_MAX..].iter().all(|target| target.arrived().is_empty()));
}
