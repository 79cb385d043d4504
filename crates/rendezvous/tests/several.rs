//! Several rendezvous as one, with a store and a fabric in memory.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::worker::Worker;
use common::{config, within};
use holepunch_rendezvous::{
    Config, Fabric, InstanceId, Later, MatchmakerConfig, MemoryFabric, MemoryStore, Peers, Reply,
    Request, Server, Store,
};

/// Several servers, by their numbers.
struct Several {
    store: Arc<dyn Store>,
    fabric: MemoryFabric,
}

impl Several {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new(MatchmakerConfig::default()));
        Self { store, fabric: MemoryFabric::default() }
    }

    fn start(&self, number: u64) -> Server {
        let own = InstanceId(number);
        let peers = Peers::new(own, Arc::clone(&self.store), self.fabric.end(own));
        Server::bind_among(peers, config()).unwrap()
    }
}

/// Reports until there is an offer, as workers do: a room that has lost its owner takes a moment.
async fn offered(worker: &mut Worker, endpoint: &str) -> String {
    worker.report(endpoint).await;
    within("an offer", worker.offer()).await.0
}

#[tokio::test]
async fn workers_of_two_rendezvous_are_offered_each_other() {
    let several = Several::new();
    let servers = [1, 2, 3].map(|number| several.start(number));
    let mut workers = Vec::new();
    for (number, id) in ["a", "b", "c", "d"].iter().enumerate() {
        let address = servers[(number + 1) % servers.len()].http_address();
        workers.push(Worker::connect(address, id).await);
    }
    let mut peers = Vec::new();
    for (worker, port) in workers.iter_mut().zip(4001..) {
        worker.report(&format!("203.0.113.1:{port}")).await;
    }
    for worker in &mut workers {
        peers.push(worker.offer().await.0);
    }
    peers.sort_unstable();
    assert_eq!(peers, ["a", "b", "c", "d"], "each is somebody's peer, once");
}

#[tokio::test]
async fn an_id_is_one_worker_s_whichever_rendezvous_it_comes_to() {
    let several = Several::new();
    let [one, other] = [1, 2].map(|number| several.start(number));
    let mut old = Worker::connect(one.http_address(), "a").await;
    old.is_up().await;
    let mut new = Worker::connect(other.http_address(), "a").await;
    assert_eq!(old.closed().await.0, 1000);
    new.is_up().await;
}

#[tokio::test]
async fn a_room_whose_owner_is_gone_has_another_one() {
    let several = Several::new();
    let [owner, other] = [1, 2].map(|number| several.start(number));
    let mut waits = Worker::connect(owner.http_address(), "owner's").await;
    waits.report("203.0.113.1:4000").await;
    let mut stays = Worker::connect(other.http_address(), "stays").await;
    assert_eq!(offered(&mut stays, "203.0.113.1:4001").await, "owner's");
    // Its lease is not given back: the others learn it by the time alone.
    drop(owner);
    drop(waits);
    let mut next = Worker::connect(other.http_address(), "next").await;
    next.report("203.0.113.1:4002").await;
    assert_eq!(offered(&mut stays, "203.0.113.1:4001").await, "next");
}

/// A store that answers nothing.
#[derive(Debug)]
struct Silent;

impl Store for Silent {
    fn ask(&self, _: InstanceId, _: Vec<Request>) -> Later<'_, Vec<Option<Reply>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn who_asks_while_the_store_is_away_is_told_to_come_again() {
    let fabric: Arc<dyn Fabric> = MemoryFabric::default().end(InstanceId(1));
    let peers = Peers::new(InstanceId(1), Arc::new(Silent), fabric);
    let server = Server::bind_among(peers, Config { listing: true, ..config() }).unwrap();
    for path in ["/debug/list_workers"] {
        let answer = common::http::get(server.http_address(), path).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
    }
    assert_eq!(common::http::get(server.http_address(), "/healthz").await.status, 200);
}
