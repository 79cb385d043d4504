//! The NAT profile: it is told when there is something to tell, and nothing waits for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use holepunch_worker::Config;
use serde_json::{Value, json};

use crate::common::stun::success_with_other;
use crate::common::subject::MAPPED;
use crate::common::{Session, StunServer, Subject};
use crate::scene::{TOKEN, V1, prepared, said, welcome};

const SECOND_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Makes a worker ask these servers.
fn ask(config: &mut Config, servers: &[&StunServer]) {
    config.stun_servers =
        servers.iter().map(|server| server.address.to_string().parse().unwrap()).collect();
}

/// A worker that has been welcomed and has said hello and its own address.
async fn welcomed(servers: &[&StunServer]) -> (Subject, Session) {
    let (rendezvous, _, mut config) = prepared().await;
    ask(&mut config, servers);
    let worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(welcome(TOKEN)).await;
    session.expect("hello").await;
    assert_eq!(session.expect("candidates").await["generation"], 1);
    (worker, session)
}

#[tokio::test]
async fn the_endpoint_is_told_at_once_and_the_profile_when_a_second_server_has_answered() {
    for (second_sees, mapping) in [
        (MAPPED, "endpoint_independent"),
        ("203.0.113.7:9999".parse().unwrap(), "endpoint_dependent"),
    ] {
        let first = StunServer::bind().await;
        let second = StunServer::bind_on(SECOND_IP).await;
        let (worker, mut session) = welcomed(&[&first, &second]).await;
        first.answer_next(MAPPED).await;
        let candidates = session.expect("candidates").await;
        assert_eq!(candidates["candidates"][1]["kind"], "server_reflexive");
        assert_eq!(session.report().await, MAPPED);
        assert_eq!(
            said(&mut session, worker.id(), 1 << 32).await,
            [] as [Value; 0],
            "no profile yet"
        );
        second.answer_next(second_sees).await;
        let profile = session.expect("nat_profile").await["profile"].take();
        assert_eq!((&profile["udp"], &profile["mapping"]), (&json!("open"), &json!(mapping)));
        assert_eq!(
            (&profile["filtering"], &profile["search"]),
            (&json!("unknown"), &json!("usual"))
        );
    }
}

/// A STUN server with two addresses and two ports (RFC 5780), for a worker behind a NAT that keeps
/// one external endpoint for each socket and lets everybody in.
struct FourCorners {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    primary: SocketAddr,
}

impl Drop for FourCorners {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl FourCorners {
    async fn start() -> Self {
        let corners = loop {
            let near = StunServer::bind().await;
            let far = StunServer::bind_on(SECOND_IP).await;
            let near_far_port = SocketAddr::new(near.address.ip(), far.address.port());
            let far_near_port = SocketAddr::new(far.address.ip(), near.address.port());
            let more = (
                StunServer::bind_at(near_far_port).await,
                StunServer::bind_at(far_near_port).await,
            );
            if let (Ok(near_far_port), Ok(far_near_port)) = more {
                break Arc::new([near, near_far_port, far_near_port, far]);
            }
        };
        let primary = corners[0].address;
        let serve = |at: usize| {
            let corners = Arc::clone(&corners);
            tokio::spawn(async move {
                loop {
                    corners_answer(&corners, at).await;
                }
            })
        };
        Self { tasks: (0..4).map(serve).collect(), primary }
    }
}

/// Answers one request that comes at a corner, from the corner that it asks for.
async fn corners_answer(corners: &[StunServer; 4], at: usize) {
    let request = corners[at].request().await;
    // CHANGE-REQUEST: 2 is another port, 4 another address, in this order of the corners.
    let from = at ^ usize::from(request.change >> 1);
    // The own socket is seen at `MAPPED`, whichever it is, and each other one next to it.
    let mapped = SocketAddr::new(MAPPED.ip(), request.from.port() ^ 1);
    let answer = success_with_other(request.id, mapped, corners[3].address);
    corners[from].send(&answer, request.from).await;
}

#[tokio::test]
async fn a_server_with_two_addresses_is_enough_for_a_whole_profile_and_candidates_come_first() {
    let corners = FourCorners::start().await;
    let (rendezvous, _, mut config) = prepared().await;
    config.stun_servers = vec![corners.primary.to_string().parse().unwrap()];
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(welcome(TOKEN)).await;
    let first = session.until("nat_profile").await;
    let reflexive = |message: &Value| {
        let candidates = message["candidates"].as_array();
        candidates.is_some_and(|it| it.iter().any(|it| it["kind"] == "server_reflexive"))
    };
    assert!(first.iter().any(reflexive), "the first candidate waits for no profile: {first:?}");
    let mut profile = first.last().unwrap()["profile"].clone();
    let mut waited = Vec::new();
    while profile["filtering"] == "unknown" {
        waited = session.until("nat_profile").await;
        profile = waited.last().unwrap()["profile"].clone();
    }
    assert_eq!(
        (&profile["mapping"], &profile["filtering"]),
        (&json!("endpoint_independent"), &json!("endpoint_independent")),
        "{waited:?}"
    );
}

#[tokio::test]
async fn the_stun_server_of_the_welcome_is_asked_too_at_the_host_of_the_rendezvous() {
    let configured = StunServer::bind_on(SECOND_IP).await;
    let named = StunServer::bind().await;
    let (rendezvous, _, mut config) = prepared().await;
    ask(&mut config, &[&configured]);
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    let mut welcome = welcome(TOKEN);
    welcome["stun"] = json!([format!("0.0.0.0:{}", named.address.port())]);
    session.send(welcome).await;
    named.answer_next(MAPPED).await;
    let said = session.until("update_udp_endpoint").await;
    assert!(said.iter().all(|message| message["type"] != "nat_profile"), "{said:?}");
    configured.answer_next(MAPPED).await;
    let profile = session.until("nat_profile").await.pop().unwrap();
    assert_eq!(profile["profile"]["mapping"], "endpoint_independent");
}

#[tokio::test]
async fn a_new_connection_is_told_the_profile_again() {
    let first = StunServer::bind().await;
    let second = StunServer::bind_on(SECOND_IP).await;
    let (rendezvous, _, mut config) = prepared().await;
    ask(&mut config, &[&first, &second]);
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(welcome(TOKEN)).await;
    first.answer_next(MAPPED).await;
    second.answer_next(MAPPED).await;
    let before = session.until("nat_profile").await.pop().unwrap();
    drop(session);
    let mut session = rendezvous.accept_selecting(V1).await;
    session.send(welcome("token-2")).await;
    assert_eq!(session.until("nat_profile").await.pop().unwrap(), before);
}
