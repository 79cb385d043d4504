//! Discovery: the worker asks scripted STUN servers, and reports what they say.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use holepunch_worker::{Config, Event, Notice};
use serde_json::json;

use crate::common::stun::{self, BindingRequest, NOWHERE};
use crate::common::subject::{MAPPED, config};
use crate::common::{Peer, Rendezvous, Scene, StunServer, Subject};

/// What a server that is wrong or late would say.
const ELSEWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 1);

/// Settings for a worker that asks `servers`, and its rendezvous.
fn asking(servers: &[&StunServer]) -> (Rendezvous, Config) {
    let rendezvous = Rendezvous::bind();
    let mut config = config(&format!("http://{}", rendezvous.address), servers[0].address);
    config.stun_servers =
        servers.iter().map(|server| server.address.to_string().parse().unwrap()).collect();
    (rendezvous, config)
}

#[tokio::test]
async fn the_report_carries_the_address_that_the_stun_server_saw() {
    let stun = StunServer::bind().await;
    let (rendezvous, config) = asking(&[&stun]);
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    stun.answer_next("203.0.113.99:61234".parse().unwrap()).await;
    let expected =
        json!({ "type": "update_udp_endpoint", "udp_ip": "203.0.113.99", "udp_port": 61234 });
    assert_eq!(session.receive().await, expected, "the port is a number");
}

#[tokio::test]
async fn the_stun_request_leaves_from_the_very_port_that_later_carries_pings() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&peer.id, peer.address).await;
    let (_, from) = peer.ping(&scene.id).await;
    assert_eq!(from, scene.udp);
}

#[tokio::test]
async fn a_request_that_is_lost_is_sent_again() {
    let stun = StunServer::bind().await;
    let (rendezvous, config) = asking(&[&stun]);
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    let lost = stun.request().await;
    session.is_told_nothing_yet().await;
    let again = stun.request().await;
    assert_eq!(lost, again, "a retransmission is the same request (RFC 8489 §6.2.1)");
    stun.answer(again, MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn all_servers_are_asked_at_once_and_the_first_answer_is_reported() {
    let silent = StunServer::bind().await;
    let first = StunServer::bind_on(Ipv4Addr::new(127, 0, 0, 2)).await;
    let second = StunServer::bind_on(Ipv4Addr::new(127, 0, 0, 3)).await;
    let (rendezvous, config) = asking(&[&silent, &first, &second]);
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    let requests = [silent.request().await, first.request().await, second.request().await];
    assert!(requests.iter().all(|request| request.from == requests[0].from), "from one port");
    assert!(requests[0].id != requests[1].id && requests[1].id != requests[2].id);
    first.answer(requests[1], MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
    second.answer(requests[2], ELSEWHERE).await;
    let nat = worker.until("the second answer", |notice| {
        let Notice::Udp(Event::Mapped { mapped: ELSEWHERE, is_endpoint, nat, .. }) = notice else {
            return None;
        };
        (!is_endpoint).then(|| nat.to_string())
    });
    assert!(nat.await.contains("symmetric"));
    worker.catches_up_with(&mut session).await;
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn an_answer_counts_only_with_the_right_transaction_from_the_right_server() {
    let stun = StunServer::bind().await;
    let other = StunServer::bind().await;
    let (rendezvous, config) = asking(&[&stun]);
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    let request = stun.request().await;
    other.answer(request, ELSEWHERE).await;
    let mut forged = BindingRequest { ..request };
    forged.id[15] ^= 1;
    stun.answer(forged, ELSEWHERE).await;
    stun.answer(request, MAPPED).await;
    stun.answer(request, ELSEWHERE).await;
    assert_eq!(session.report().await, MAPPED);
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn a_server_of_rfc_3489_is_understood() {
    let stun = StunServer::bind().await;
    let (rendezvous, config) = asking(&[&stun]);
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    let request = stun.request().await;
    stun.send(&stun::plain_success(request.id, MAPPED), request.from).await;
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn a_server_that_refuses_or_lies_grossly_is_asked_again_later() {
    let stun = StunServer::bind().await;
    let (rendezvous, mut config) = asking(&[&stun]);
    config.stun_retry_delay = Some(Duration::from_millis(100));
    let _worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    let mut request = stun.request().await;
    for answer in [
        stun::error(request.id),
        stun::success(request.id, "224.0.0.1:5".parse().unwrap()),
        stun::success(request.id, "203.0.113.7:0".parse().unwrap()),
    ] {
        let mut answer = answer;
        answer[4..20].copy_from_slice(&request.id);
        stun.send(&answer, request.from).await;
        request = stun.request_after(request).await;
    }
    session.is_told_nothing_yet().await;
    stun.answer(request, MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn retries_of_a_name_that_does_not_resolve_are_bounded_and_the_worker_stays_registered() {
    let stun = StunServer::bind().await;
    let (rendezvous, mut config) = asking(&[&stun]);
    config.stun_servers = vec![format!("{NOWHERE}:3478").parse().unwrap()];
    config.stun_retries_max = Some(2);
    config.stun_retry_delay = Some(Duration::from_millis(150));
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    let mut failures = Vec::new();
    for _ in 0..3 {
        let failure = worker.until("a failed attempt", |notice| {
            let Notice::Udp(Event::DiscoveryFailed { attempt, reason, retry_in, .. }) = notice
            else {
                return None;
            };
            assert!(reason.contains(NOWHERE), "{reason}");
            Some((*attempt, *retry_in))
        });
        failures.push(failure.await);
    }
    let pause = Some(Duration::from_millis(150));
    assert_eq!(failures, [(1, pause), (2, pause), (3, None)]);
    worker.catches_up_with(&mut session).await;
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn a_mapping_that_changes_is_seen_by_the_refresh_and_reported_again() {
    let mut scene = Scene::ready().await;
    let refresh = scene.stun.request_after(scene.asked).await;
    assert_eq!(refresh.from, scene.udp, "the refresh keeps the mapping of the same port");
    scene.session.is_told_nothing_yet().await;
    scene.stun.answer(refresh, ELSEWHERE).await;
    assert_eq!(scene.session.report().await, ELSEWHERE);
}
