//! The relay by UDP, beneath a link that has no direct path.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::flow::{flows, flows_both_ways};
use crate::within;
use crate::world::{World, is_relay, serve_with};

/// What the workers know as the relay's address of UDP: it passes datagrams on, until it does not.
struct Gate {
    address: SocketAddr,
    is_open: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Gate {
    async fn new(to: watch::Receiver<Option<SocketAddr>>) -> Self {
        let outside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = outside.local_addr().unwrap();
        let is_open = Arc::new(watch::Sender::new(true));
        let task = tokio::spawn(pass(outside, to, Arc::clone(&is_open)));
        Self { address, is_open, task }
    }

    fn set(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    outside: Arc<UdpSocket>,
    mut to: watch::Receiver<Option<SocketAddr>>,
    is_open: Arc<watch::Sender<bool>>,
) {
    let relay = to.wait_for(Option::is_some).await.unwrap().unwrap();
    let mut inside: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut bytes = [0; 2048];
    while let Ok((length, from)) = outside.recv_from(&mut bytes).await {
        if !*is_open.borrow() {
            continue;
        }
        let socket = match inside.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                socket.connect(relay).await.unwrap();
                let both = (Arc::clone(&socket), Arc::clone(&outside));
                tokio::spawn(pass_back(both, from, Arc::clone(&is_open)));
                new.insert(socket)
            }
        };
        let _best_effort = socket.send(&bytes[..length]).await;
    }
}

/// What the relay sends to one of them.
async fn pass_back(
    (inside, outside): (Arc<UdpSocket>, Arc<UdpSocket>),
    to: SocketAddr,
    is_open: Arc<watch::Sender<bool>>,
) {
    let mut bytes = [0; 2048];
    while let Ok(length) = inside.recv(&mut bytes).await {
        if *is_open.borrow() {
            let _best_effort = outside.send_to(&bytes[..length], to).await;
        }
    }
}

/// Two workers whose rendezvous takes datagrams, behind a gate.
async fn world() -> (World, Gate) {
    let (found, to) = watch::channel(None);
    let gate = Gate::new(to).await;
    let outside = gate.address;
    let server = serve_with(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), |config| {
        config.stun_listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        config.stun_advertise = vec![outside];
    });
    found.send_replace(server.stun_addresses().first().copied());
    (World::served_by(server, |_, _| {}).await, gate)
}

/// Bytes go both ways, until so many more datagrams have gone by UDP.
async fn flows_by_udp(world: &World, links: &[holepunch_worker::Link; 2]) {
    let server = world.rendezvous.as_ref().unwrap();
    let before = server.relay_datagrams();
    let until = async {
        while server.relay_datagrams() < before + 1_000 {
            flows_both_ways(links, 1).await;
        }
    };
    within("datagrams by UDP", until).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_link_goes_by_udp_and_by_websocket_when_that_falls_silent_and_back() {
    let (mut world, gate) = world().await;
    let links = world.linked_by_the_relay().await;
    flows_by_udp(&world, &links).await;
    let shut = async { gate.set(false) };
    tokio::join!(flows(&links, 8), shut);
    flows_both_ways(&links, 1).await;
    gate.set(true);
    flows_by_udp(&world, &links).await;
    assert!(links.iter().all(|link| is_relay(&link.path().kind)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_link_lives_by_udp_while_its_websockets_are_away() {
    let (mut world, _gate) = world().await;
    let links = world.linked_by_the_relay().await;
    flows_by_udp(&world, &links).await;
    // Both at once, then one: nobody is left who could wait for the other one.
    for peers in [0..2, 0..1] {
        let cut = async { world.peers[peers].iter_mut().for_each(|peer| peer.cables.cut()) };
        tokio::join!(flows(&links, 4), cut);
        flows_both_ways(&links, 1).await;
    }
    flows_by_udp(&world, &links).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_udp_gets_to_the_relay_its_websocket_carries() {
    let (mut world, gate) = world().await;
    gate.set(false);
    let links = world.linked_by_the_relay().await;
    flows_both_ways(&links, 2).await;
    assert_eq!(world.rendezvous.as_ref().unwrap().relay_datagrams(), 0);
}
