//! What a worker does with offers.

use std::net::SocketAddr;

use holepunch_worker::{Event, FromServer, Notice, Signal};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::common::rendezvous::offer;
use crate::common::subject::{MAPPED, config};
use crate::common::{Peer, Rendezvous, Scene, StunServer, Subject};

/// The offer of a peer that exists, with one field changed; without it where `value` is `None`.
fn offer_with(field: &str, value: Option<Value>, endpoint: SocketAddr) -> Value {
    let mut offer = offer("peer", endpoint);
    let fields = offer.as_object_mut().unwrap();
    fields.remove(field).unwrap();
    fields.extend(value.map(|value| (field.to_owned(), value)));
    offer
}

/// Sends an offer that must not be followed, and shows that it was refused and nothing else.
async fn is_ignored(scene: &mut Scene, offer: Value) {
    let text = offer.to_string();
    scene.session.send(offer).await;
    let refused = |notice: &Notice| matches!(notice, Notice::Udp(Event::OfferIgnored(_)));
    scene.worker.until_it(&text, refused).await;
    scene.session.is_up().await;
}

fn has_punched(worker: &Subject) -> bool {
    worker.udp_events().any(|event| matches!(event, Event::PunchStarted(..)))
}

#[tokio::test]
async fn pings_are_numbered_from_one_and_dense_at_first() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&peer.id, peer.address).await;
    let mut numbers = Vec::new();
    let (text, from) = peer.receive().await;
    let start = Instant::now();
    assert_eq!(text, format!("P2P_PING_FROM_{}_NUM_1", scene.id));
    assert_eq!(from, scene.udp);
    while numbers.len() < 4 {
        numbers.push(peer.ping(&scene.id).await.0);
    }
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_incomplete_or_malformed_offer_is_ignored_and_the_connection_stays_up() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    let own_id = json!(scene.id);
    for (field, value) in [
        ("peer_worker_id", None),
        ("peer_worker_id", Some(json!(null))),
        ("peer_worker_id", Some(json!(""))),
        ("peer_worker_id", Some(json!(7))),
        ("peer_worker_id", Some(own_id)),
        ("peer_udp_ip", None),
        ("peer_udp_ip", Some(json!(null))),
        ("peer_udp_ip", Some(json!(""))),
        ("peer_udp_ip", Some(json!("peer.example"))),
        ("peer_udp_ip", Some(json!("0.0.0.0"))),
        ("peer_udp_ip", Some(json!("224.0.0.1"))),
        ("peer_udp_ip", Some(json!("255.255.255.255"))),
        ("peer_udp_ip", Some(json!("2001:db8::1"))),
        ("peer_udp_port", None),
        ("peer_udp_port", Some(json!(null))),
        ("peer_udp_port", Some(json!(0))),
        ("peer_udp_port", Some(json!(65536))),
        ("peer_udp_port", Some(json!(-1))),
        ("peer_udp_port", Some(json!(1.5))),
        ("peer_udp_port", Some(json!("port"))),
    ] {
        is_ignored(&mut scene, offer_with(field, value, peer.address)).await;
    }
    is_ignored(&mut scene, json!({ "type": "p2p_connection_offer" })).await;
    assert!(!has_punched(&scene.worker));
    assert!(peer.arrived().is_empty());
    let digits = json!(peer.address.port().to_string());
    scene.session.send(offer_with("peer_udp_port", Some(digits), peer.address)).await;
    peer.link_with(&scene.id).await;
}

#[tokio::test]
async fn an_offer_before_the_own_endpoint_is_known_is_ignored() {
    let peer = Peer::bind("peer").await;
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    let mut session = rendezvous.accept().await;
    // The port is open, but the server has not answered.
    let request = stun.request().await;
    session.offer(&peer.id, peer.address).await;
    let reason = worker.until("a refusal", |notice| {
        let Notice::Udp(Event::OfferIgnored(why)) = notice else { return None };
        Some(why.to_string())
    });
    assert!(reason.await.contains("not known yet"));
    session.is_told_nothing_yet().await;
    stun.answer(request, MAPPED).await;
    assert_eq!(session.report().await, MAPPED, "it is registered and reports all the same");
    assert!(!has_punched(&worker));
    session.offer(&peer.id, peer.address).await;
    peer.link_with(worker.id()).await;
}

#[tokio::test]
async fn a_bad_offer_does_not_disturb_a_punch() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&peer.id, peer.address).await;
    let (number, _) = peer.ping(&scene.id).await;
    is_ignored(&mut scene, offer_with("peer_udp_ip", None, peer.address)).await;
    peer.send_pong(&scene.id, number, scene.udp).await;
    peer.send_ping(1, scene.udp).await;
    assert_eq!(scene.worker.until_linked().await.peer, peer.id);
}

#[tokio::test]
async fn another_offer_replaces_the_peer() {
    let first = Peer::bind("first").await;
    let second = Peer::bind("second").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&first.id, first.address).await;
    let (number, _) = first.ping(&scene.id).await;
    scene.session.offer(&second.id, second.address).await;
    assert_eq!(second.ping(&scene.id).await.0, 1, "another peer, another count");
    first.arrived();
    // What the first peer says now makes no link.
    first.send_pong(&scene.id, number, scene.udp).await;
    first.send_ping(1, scene.udp).await;
    first.answer_of(&scene.id, 1).await;
    second.link_with(&scene.id).await;
    assert_eq!(scene.worker.until_linked().await.peer, "second");
    assert!(first.arrived().is_empty(), "no PING for the first peer any more");
}

#[tokio::test]
async fn an_offer_while_linked_replaces_the_linked_peer_and_says_so() {
    let first = Peer::bind("first").await;
    let second = Peer::bind("second").await;
    let mut scene = Scene::linked(&first).await;
    scene.session.offer(&second.id, second.address).await;
    let lost = |notice: &Notice| matches!(notice, Notice::Udp(Event::PeerLost(peer, _)) if peer.as_str() == "first");
    scene.worker.until_it("the loss of the first peer", lost).await;
    second.link_with(&scene.id).await;
    assert_eq!(scene.worker.until_linked().await.peer, "second");
    scene.session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn an_offer_is_told_to_the_embedding_program_as_it_came() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&peer.id, peer.address).await;
    let told = scene.worker.until("the offer", |notice| {
        let Notice::Signal(Signal::Message(FromServer::Offer(Ok(offer)))) = notice else {
            return None;
        };
        Some((offer.peer.to_string(), offer.endpoint))
    });
    assert_eq!(told.await, (peer.id.clone(), peer.address));
}
