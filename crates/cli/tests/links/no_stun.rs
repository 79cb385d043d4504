//! Two workers on one network that no STUN server answers.

use std::net::Ipv4Addr;

use holepunch_wire::session::RoomName;
use holepunch_worker::{Config, Left, Links, Notice, Worker};
use tokio::net::UdpSocket;

use crate::flow::flows_both_ways;
use crate::within;
use crate::world::{config, is_direct, log, serve, until_both};

/// A worker with the addresses of this machine, and what it says of its missing endpoint.
struct Unseen {
    worker: Worker,
    links: Links,
}

impl Unseen {
    async fn start(config: Config) -> Self {
        let mut worker = Worker::start(config).await.unwrap();
        let links = worker.take_links().unwrap();
        Self { worker, links }
    }

    async fn says(&mut self) -> holepunch_worker::Unseen {
        within("the missing endpoint", async {
            loop {
                let notice = self.worker.next_notice().await.expect("the worker has ended");
                if let Notice::NoEndpoint(unseen) = notice {
                    return unseen;
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn two_workers_are_linked_directly_without_any_relay_and_say_what_did_not_answer() {
    log();
    let rendezvous = serve((Ipv4Addr::LOCALHOST, 0).into());
    // It takes what comes, and says nothing.
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stun = silent.local_addr().unwrap();
    let settings = Config {
        host_candidates: true,
        relay: false,
        room: RoomName::new("no stun").unwrap(),
        ..config(rendezvous.http_address(), stun)
    };
    let [mut first, mut second] =
        [Unseen::start(settings.clone()).await, Unseen::start(settings).await];
    for side in [&mut first, &mut second] {
        let said = side.says().await;
        assert_eq!((said.asked.as_slice(), said.left), (&[stun.to_string()][..], Left::Addresses));
        assert!(!said.candidates.is_empty());
    }
    let both = async { tokio::join!(first.links.next(), second.links.next()) };
    let (one, two) = within("a link", both).await;
    let links = [one.unwrap(), two.unwrap()];
    until_both(&links, is_direct).await;
    flows_both_ways(&links, 4).await;
}

#[tokio::test]
async fn a_worker_with_nothing_to_be_linked_by_says_so_and_what_to_do() {
    log();
    let rendezvous = serve((Ipv4Addr::LOCALHOST, 0).into());
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stun = silent.local_addr().unwrap();
    let settings = Config { relay: false, ..config(rendezvous.http_address(), stun) };
    let mut worker = Unseen::start(settings).await;
    let said = worker.says().await;
    assert_eq!((said.left, said.is_stuck(), said.hides_interfaces), (Left::ItsPeers, true, true));
    let text = said.to_string();
    for part in [&stun.to_string(), "`stun_servers`", "`relay`", "`host_candidates`"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
