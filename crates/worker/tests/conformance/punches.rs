//! From the offer to a link, or to its failure.

use std::net::Ipv4Addr;

use holepunch_worker::{Event, Notice};
use tokio::time::{Duration, Instant, sleep};

use crate::common::peer::ping_number;
use crate::common::{Peer, Scene};

#[tokio::test]
async fn a_ping_and_a_pong_of_the_peer_make_a_link() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    let before = Instant::now();
    scene.session.offer(&peer.id, peer.address).await;
    peer.link_with(&scene.id).await;
    let link = scene.worker.until_linked().await;
    assert_eq!((link.peer.as_str(), link.address), ("peer", peer.address));
    assert!(!link.after.is_zero() && link.after <= before.elapsed(), "{:?}", link.after);
    scene.session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn a_pong_alone_or_a_ping_alone_makes_no_link() {
    for pong_first in [true, false] {
        let peer = Peer::bind("peer").await;
        let mut scene = Scene::ready().await;
        scene.session.offer(&peer.id, peer.address).await;
        let (number, _) = peer.ping(&scene.id).await;
        if pong_first {
            peer.send_pong(&scene.id, number, scene.udp).await;
            let one = |notice: &Notice| matches!(notice, Notice::Udp(Event::PongReceived(..)));
            scene.worker.until_it("the PONG", one).await;
        } else {
            peer.send_ping(1, scene.udp).await;
            peer.answer_of(&scene.id, 1).await;
        }
        scene.worker.catches_up_with(&mut scene.session).await;
        assert!(!scene.worker.has_linked(), "PONG first: {pong_first}");
        peer.send_pong(&scene.id, number, scene.udp).await;
        peer.send_ping(2, scene.udp).await;
        scene.worker.until_linked().await;
    }
}

#[tokio::test]
async fn a_link_ends_the_dense_pings_and_answers_the_peers() {
    let peer = Peer::bind("peer").await;
    let scene = Scene::linked(&peer).await;
    peer.arrived();
    // A punch sends about eight in this time.
    let start = Instant::now();
    let mut number = 2;
    while start.elapsed() < Duration::from_millis(800) {
        peer.send_ping(number, scene.udp).await;
        let (text, _) = peer.receive().await;
        assert_eq!(ping_number(&text, &scene.id), None, "a PING after the link: {text}");
        number += 1;
        sleep(Duration::from_millis(40)).await;
    }
}

#[tokio::test]
async fn a_peer_that_pinged_before_the_offer_is_linked_by_its_pong_alone() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    peer.send_ping(1, scene.udp).await;
    peer.answer_of(&scene.id, 1).await;
    scene.session.offer(&peer.id, peer.address).await;
    let (number, _) = peer.ping(&scene.id).await;
    peer.send_pong(&scene.id, number, scene.udp).await;
    scene.worker.until_linked().await;
}

#[tokio::test]
async fn a_peer_whose_pings_come_from_another_port_than_was_offered_is_linked_there() {
    // As behind a symmetric NAT: nothing answers where the STUN server saw the peer.
    let offered = Peer::bind("peer").await;
    let real = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    scene.session.offer("peer", offered.address).await;
    offered.ping(&scene.id).await;
    real.send_ping(1, scene.udp).await;
    real.answer_of(&scene.id, 1).await;
    let (number, from) = real.ping(&scene.id).await;
    assert_eq!(from, scene.udp);
    real.send_pong(&scene.id, number, scene.udp).await;
    assert_eq!(scene.worker.until_linked().await.address, real.address);
}

/// Three sources that claim to be the peer, none of them the offered address.
async fn impostors() -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(Peer::bind("peer").await);
    }
    peers
}

/// How many of them are pinged while the offered address gets ten more PINGs.
async fn pinged(impostors: &[Peer], offered: &Peer, id: &str) -> usize {
    for _ in 0..10 {
        offered.ping(id).await;
    }
    let is_pinged =
        |peer: &&Peer| peer.arrived().iter().any(|text| ping_number(text, id).is_some());
    impostors.iter().filter(is_pinged).count()
}

#[tokio::test]
async fn of_three_sources_that_claim_to_be_the_peer_at_most_two_are_pinged() {
    let offered = Peer::bind("peer").await;
    let impostors = impostors().await;
    let mut scene = Scene::ready().await;
    scene.session.offer("peer", offered.address).await;
    offered.ping(&scene.id).await;
    for impostor in &impostors {
        impostor.send_ping(1, scene.udp).await;
    }
    assert_eq!(pinged(&impostors, &offered, &scene.id).await, 2);
}

#[tokio::test]
async fn of_three_sources_that_claimed_so_before_the_offer_at_most_two_are_pinged() {
    let offered = Peer::bind("peer").await;
    let impostors = impostors().await;
    let mut scene = Scene::ready().await;
    for impostor in &impostors {
        impostor.send_ping(1, scene.udp).await;
        impostor.answer_of(&scene.id, 1).await;
    }
    scene.session.offer("peer", offered.address).await;
    assert_eq!(pinged(&impostors, &offered, &scene.id).await, 2);
}

#[tokio::test]
async fn a_pong_that_answers_no_ping_of_ours_makes_no_link() {
    let peer = Peer::bind("peer").await;
    let stranger = Peer::bind_on(Ipv4Addr::new(127, 0, 0, 2), "peer").await;
    let mut scene = Scene::ready().await;
    let id = scene.id.clone();
    scene.session.offer("peer", peer.address).await;
    let (number, worker) = peer.ping(&id).await;
    stranger.send_pong(&id, number, worker).await;
    let right = peer.pong(&id, number);
    for wrong in [
        right.replace("_FROM_peer_", "_FROM_pee_"),
        right.replace("_FROM_peer_", "_FROM__"),
        right.replace("_FROM_peer_", "_FROM_PEER_"),
        right.replace(&id, "somebody-else"),
        right.replace(&id, ""),
        right.replace(&id, "peer"),
        right.replace("_ACK_YOUR_PING", ""),
        peer.pong(&id, 0),
        peer.pong(&id, number + 1000),
        peer.pong(&id, u32::MAX),
        format!("{}_NUM_{number}", right),
        format!("{right}x"),
        format!("{right} "),
        right.replace("_NUM_", "_NUM_+"),
        right.replace("_NUM_", "_NUM_ "),
        "P2P_PONG_FROM_".to_owned(),
        "P2P_PONG_FROM_peer".to_owned(),
        right.to_lowercase(),
    ] {
        assert_ne!(wrong, right);
        peer.send(wrong, worker).await;
    }
    peer.send_ping(1, worker).await;
    peer.answer_of(&id, 1).await;
    scene.worker.catches_up_with(&mut scene.session).await;
    assert!(!scene.worker.has_linked());
    peer.send(right, worker).await;
    scene.worker.until_linked().await;
}

#[tokio::test]
async fn a_pong_before_any_offer_makes_no_link() {
    let peer = Peer::bind("peer").await;
    let elsewhere = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    for number in 0..3 {
        peer.send_pong(&scene.id, number, scene.udp).await;
    }
    peer.send_ping(1, scene.udp).await;
    peer.answer_of(&scene.id, 1).await;
    scene.session.offer("peer", elsewhere.address).await;
    elsewhere.ping(&scene.id).await;
    scene.worker.catches_up_with(&mut scene.session).await;
    assert!(!scene.worker.has_linked());
}
