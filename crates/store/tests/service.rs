//! Several rendezvous as one, over a Redis server that ends, comes back, and refuses.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "../../rendezvous/tests/common/mod.rs"]
mod rendezvous;

use std::time::Duration;

use common::{Redis, free};
use holepunch_matchmaker::{ConnectionId, Envelope, Epoch, Letter, Room};
use holepunch_rendezvous::{MatchmakerConfig, Server};
use holepunch_store::StoreUrl;
use redis::streams::StreamRangeReply;
use rendezvous::worker::Worker;
use rendezvous::{config, http, within};

/// Between two looks at what announces itself nowhere.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn server(url: &StoreUrl, process: u32) -> Server {
    let peers = holepunch_store::open(url, "test", process, &MatchmakerConfig::default());
    Server::bind_among(peers, config()).unwrap()
}

/// Until the server says so at `/readyz`.
async fn answers(server: &Server, status: u16) {
    within("/readyz", async {
        while http::get(server.http_address(), "/readyz").await.status != status {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
}

/// Until `/readyz` says so.
async fn says(server: &Server, what: &str) {
    within(what, async {
        while !http::get(server.http_address(), "/readyz").await.body.contains(what) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
}

async fn worker(server: &Server, id: &str, port: u16) -> Worker {
    let mut worker = Worker::connect(server.http_address(), id).await;
    worker.report(&format!("203.0.113.1:{port}")).await;
    worker
}

#[tokio::test]
async fn workers_of_two_rendezvous_are_offered_each_other_and_listed_by_both() {
    let redis = Redis::start();
    let [one, other] = [1, 2].map(|process| server(&redis.url(), process));
    let (mut a, mut b) = (worker(&one, "a", 4001).await, worker(&other, "b", 4002).await);
    assert_eq!((a.offer().await.0, b.offer().await.0), ("b".to_owned(), "a".to_owned()));
    for server in [&one, &other] {
        let listing = http::get(server.http_address(), "/debug/list_workers").await;
        let listing: serde_json::Value = serde_json::from_str(&listing.body).unwrap();
        assert_eq!(listing["connected_workers_count"], 2);
        assert_eq!(listing["workers"]["a"]["stun_reported_udp_port"], 4001);
    }
}

#[tokio::test]
async fn a_store_that_is_away_ends_no_connection_and_pairs_wait_until_it_is_back() {
    let redis = Redis::start();
    let [one, other] = [1, 2].map(|process| server(&redis.url(), process));
    answers(&one, 200).await;
    let mut a = worker(&one, "a", 4001).await;
    let address = redis.address;
    drop(redis);
    answers(&one, 503).await;
    a.is_up().await;
    let refused = http::get(one.http_address(), "/debug/list_workers").await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    // It has forgotten everything, the scripts included.
    let _redis = Redis::start_at(address);
    answers(&one, 200).await;
    answers(&other, 200).await;
    let mut b = worker(&other, "b", 4002).await;
    assert_eq!((a.offer().await.0, b.offer().await.0), ("b".to_owned(), "a".to_owned()));
}

#[tokio::test]
async fn one_that_stops_sends_its_workers_to_the_others_and_leaves_its_rooms_at_once() {
    let redis = Redis::start();
    let [one, other] = [1, 2].map(|process| server(&redis.url(), process));
    let mut a = worker(&one, "a", 4001).await;
    a.is_up().await;
    let stops = tokio::spawn(one.shutdown());
    assert_eq!(a.closed().await.0, 1012);
    stops.await.unwrap();
    let (mut a, mut b) = (worker(&other, "a", 4001).await, worker(&other, "b", 4002).await);
    assert_eq!((a.offer().await.0, b.offer().await.0), ("b".to_owned(), "a".to_owned()));
}

#[tokio::test]
async fn two_clusters_share_a_server_under_two_prefixes() {
    let redis = Redis::start();
    let own = |prefix, process| {
        let peers =
            holepunch_store::open(&redis.url(), prefix, process, &MatchmakerConfig::default());
        Server::bind_among(peers, config()).unwrap()
    };
    let (one, other) = (own("one", 1), own("other", 1));
    let mut a = worker(&one, "a", 4001).await;
    let mut same = worker(&other, "a", 4002).await;
    let mut b = worker(&one, "b", 4003).await;
    assert_eq!((a.offer().await.0, b.offer().await.0), ("b".to_owned(), "a".to_owned()));
    same.is_up().await;
}

#[tokio::test]
async fn what_is_no_store_is_told_and_hangs_nobody() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap()).parse().unwrap();
    let garbage = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let server = server(&url, 1);
    let refused = http::get(server.http_address(), "/debug/list_workers").await;
    assert_eq!(refused.status, 503);
    assert_eq!(http::get(server.http_address(), "/readyz").await.status, 503);
    garbage.abort();
}

#[tokio::test]
async fn a_store_that_refuses_is_told_apart_from_one_that_is_away() {
    let (address, master) = (free(), free());
    let wants_password = "requirepass secret";
    let replica = format!("replicaof {} {}", master.ip(), master.port());
    let (url, wrong) = (format!("redis://{address}"), format!("redis://:wrong@{address}"));
    for (settings, url) in [(wants_password, &url), (wants_password, &wrong), (&replica, &url)] {
        let redis = Redis::with(address, settings);
        let server = server(&url.parse().unwrap(), 1);
        says(&server, "the store of this rendezvous refuses").await;
        drop(redis);
        says(&server, "does not reach its store").await;
    }
}

#[tokio::test]
async fn the_master_behind_a_sentinel_is_a_store() {
    let redis = Redis::start();
    let monitor = format!("sentinel monitor main 127.0.0.1 {} 1\n", redis.address.port());
    let sentinel = Redis::with(free(), &monitor);
    pairs_at(&format!("redis+sentinel://{}/main", sentinel.address).parse().unwrap()).await;
}

#[tokio::test]
async fn a_node_of_a_cluster_is_a_store() {
    let address = free();
    let further = format!("cluster-enabled yes\ncluster-port {}\n", free().port());
    let _node = Redis::with(address, &further);
    let port = address.port().to_string();
    let slots = ["-p", &port, "cluster", "addslotsrange", "0", "16383"];
    assert!(std::process::Command::new("redis-cli").args(slots).status().unwrap().success());
    pairs_at(&format!("redis+cluster://{address}").parse().unwrap()).await;
}

#[tokio::test]
async fn what_a_newer_version_says_is_counted_told_of_acknowledged_and_skipped() {
    let redis = Redis::start();
    let server = server(&redis.url(), 1);
    answers(&server, 200).await;
    let known = Envelope {
        room: Room::default(),
        epoch: Epoch::default(),
        letter: Letter::Replaced(ConnectionId(77)),
    };
    let known = serde_json::to_value(known).unwrap();
    let mut newer = known.clone();
    newer["letter"] = serde_json::json!({ "Teleport": { "to": "the moon" } });
    let packets = [newer.clone(), newer, known].into_iter().zip(1..);
    let packets =
        packets.map(|(it, number)| serde_json::json!({"sent": [number, it], "received": 0}));
    let packets: Vec<_> = packets.collect();
    let entry = serde_json::json!({ "from": 9, "to": 1, "packets": packets }).to_string();
    let client = redis::Client::open(format!("redis://{}", redis.address)).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    let mut add = redis::cmd("XADD");
    add.arg("{test}:inbox:1").arg("*").arg("p").arg(entry);
    add.exec_async(&mut client).await.unwrap();
    within("the acknowledgement of all three", async {
        loop {
            let mut read = redis::cmd("XRANGE");
            read.arg("{test}:inbox:9").arg("-").arg("+");
            let inbox: StreamRangeReply = read.query_async(&mut client).await.unwrap();
            let mut texts = inbox.ids.iter().filter_map(|id| id.get::<String>("p"));
            if texts.next_back().is_some_and(|text| text.contains(r#""received":3"#)) {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
    let metrics = http::metrics(server.http_address()).await;
    let dropped = "holepunch_dropped_total{reason=\"other_version\"} 2\n";
    assert!(metrics.contains(dropped), "{metrics}");
    let events = http::api(server.http_address(), "events").await.to_string();
    assert_eq!(events.matches("\"unreadable\"").count(), 1, "{events}");
}

/// Two workers of two rendezvous are offered each other.
async fn pairs_at(url: &StoreUrl) {
    let [one, other] = [1, 2].map(|process| server(url, process));
    answers(&one, 200).await;
    answers(&other, 200).await;
    let (mut a, mut b) = (worker(&one, "a", 4001).await, worker(&other, "b", 4002).await);
    assert_eq!((a.offer().await.0, b.offer().await.0), ("b".to_owned(), "a".to_owned()));
}
