//! Two workers of the plainest kind, a WebSocket and a UDP socket each, meet through this rendezvous
//! and link.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::stun::{BINDING_REQUEST, MAPPED_ADDRESS, StunClient, classic, message, modern};
use common::{Rendezvous, loopback, within};
use serde_json::json;

/// Between two PINGs of a burst; real workers take 0.75 s.
const PING_PAUSE: Duration = Duration::from_millis(20);

/// What one side of a link has received from the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Link {
    ping: bool,
    pong: bool,
}

const BIDIRECTIONAL: Link = Link { ping: true, pong: true };

/// Asks for the public endpoint in both forms, which must agree.
async fn discover(udp: &StunClient, server: SocketAddr) -> SocketAddr {
    let old = udp.ask(server, &message(BINDING_REQUEST, classic(3), &[])).await;
    let new = udp.ask(server, &message(BINDING_REQUEST, modern(4), &[])).await;
    assert_eq!(old.address(MAPPED_ADDRESS), new.xor_mapped());
    new.xor_mapped()
}

/// Sends the burst, longer where that is needed, and answers PINGs until the link is confirmed in both
/// directions.
async fn punch(udp: &StunClient, own: &str, peer: &str, to: SocketAddr) -> Link {
    let mut link = Link::default();
    let mut number = 0;
    let mut pause = tokio::time::interval(PING_PAUSE);
    let mut buffer = [0; 2048];
    while number < 5 || link != BIDIRECTIONAL {
        tokio::select! {
            _ = pause.tick() => {
                number += 1;
                let ping = format!("P2P_PING_FROM_{own}_NUM_{number}");
                udp.send(to, ping.as_bytes()).await;
            }
            datagram = udp.udp.recv_from(&mut buffer) => {
                let (length, from) = datagram.unwrap();
                assert_eq!(from, to);
                let text = std::str::from_utf8(&buffer[..length]).unwrap();
                if let Some(question) = text.strip_prefix(&format!("P2P_PING_FROM_{peer}_NUM_")) {
                    link.ping = true;
                    let pong = format!("P2P_PONG_FROM_{own}_TO_{peer}_ACK_YOUR_PING_NUM_{question}");
                    udp.send(from, pong.as_bytes()).await;
                } else {
                    let pong = format!("P2P_PONG_FROM_{peer}_TO_{own}_ACK_YOUR_PING_NUM_");
                    assert!(text.starts_with(&pong), "{text}");
                    link.pong = true;
                }
            }
        }
    }
    link
}

/// The whole life of a worker up to its link.
async fn live(rendezvous: &Rendezvous, own: &str, peer: &str) -> Link {
    let mut worker = rendezvous.worker(own).await;
    worker.send(json!({ "type": "register_public_ip", "ip": "203.0.113.77" })).await;
    let udp = StunClient::bind().await;
    let endpoint = discover(&udp, rendezvous.server.stun_addresses()[0]).await;
    worker.report(&endpoint.to_string()).await;
    let (offered, to) = worker.offer().await;
    assert_eq!(offered, peer);
    let link = punch(&udp, own, peer, to.parse().unwrap()).await;
    worker.is_up().await;
    link
}

#[tokio::test]
async fn two_plain_workers_find_each_other_and_link_in_both_directions() {
    let rendezvous = Rendezvous::with(|config| config.stun_listen = vec![loopback()]);
    let [a, b] = ["0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"];
    let both = async { tokio::join!(live(&rendezvous, a, b), live(&rendezvous, b, a)) };
    let links = within("both links", both).await;
    assert_eq!(links, (BIDIRECTIONAL, BIDIRECTIONAL));
}
