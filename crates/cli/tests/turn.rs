//! Links by TURN, with Debian's coturn as the server. The workers on loopback know no address of each
//! other: no interface's, and none of STUN.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "turn/coturn.rs"]
mod coturn;
#[path = "turn/expiry.rs"]
mod expiry;
#[path = "turn/logs.rs"]
mod logs;
#[path = "../../worker/tests/common/patience.rs"]
mod patience;

use std::net::{Ipv4Addr, SocketAddr};

use coturn::Coturn;
use holepunch_rendezvous::{
    AdminConfig, Auth, Config as ServerConfig, MatchmakerConfig, RelayLimits, Server,
};
use holepunch_wire::session::{RoomMode, RoomName};
use holepunch_wire::turn::{TurnAccess, TurnSecret};
use holepunch_worker::{Config, Link, Links, PathKind, Worker};
use patience::within;
use tokio::io::AsyncReadExt;

const SECRET: &str = "north";
/// More than fits into any window on the way.
const BYTES: usize = 5_000_000;
/// What the relay of the rendezvous carries of it, where it is bounded.
const QUOTA: u64 = 1_000_000;

fn access(turn: SocketAddr, secret: &str) -> TurnAccess {
    TurnAccess::new(vec![format!("turn:{turn}").parse().unwrap()], TurnSecret::new(secret))
}

fn rendezvous(turn: SocketAddr, secret: &str, relay: Option<RelayLimits>) -> Server {
    rendezvous_with(access(turn, secret), relay)
}

fn rendezvous_with(turn: TurnAccess, relay: Option<RelayLimits>) -> Server {
    let turn = Some(turn);
    Server::bind(ServerConfig {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        stun_listen: Vec::new(),
        stun_is_optional: false,
        stun_answers_max: None,
        auth: Auth::Open,
        listing: true,
        admin: AdminConfig::default(),
        open_files_max: None,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        tls: None,
        public_hosts: Vec::new(),
        stun_advertise: Vec::new(),
        relay,
        matchmaker: MatchmakerConfig { turn, ..MatchmakerConfig::default() },
    })
    .unwrap()
}

/// A worker that can be reached by nothing but relays.
async fn worker(server: &Server, peer: Option<&Worker>) -> (Worker, Links) {
    worker_in(server, RoomMode::Call, peer).await
}

async fn worker_in(server: &Server, mode: RoomMode, peer: Option<&Worker>) -> (Worker, Links) {
    let url = format!("http://{}", server.http_address()).parse().unwrap();
    let mut worker = Worker::start(Config {
        room: RoomName::new("turn").unwrap(),
        room_mode: Some(mode),
        peer: peer.map(|peer| peer.id().clone()),
        host_candidates: false,
        port_mapping: false,
        stun_servers: Vec::new(),
        listen_ip: Ipv4Addr::LOCALHOST,
        ..Config::new(url)
    })
    .await
    .unwrap();
    let links = worker.take_links().unwrap();
    (worker, links)
}

struct Pair {
    workers: [Worker; 2],
    links: [Link; 2],
}

async fn pair(server: &Server) -> Pair {
    let (first, first_links) = worker(server, None).await;
    let (second, second_links) = worker(server, Some(&first)).await;
    let links = next(&mut [first_links, second_links]).await;
    Pair { workers: [first, second], links }
}

/// The next link of two workers.
async fn next(links: &mut [Links; 2]) -> [Link; 2] {
    let [first, second] = links;
    let both = async { tokio::join!(first.next(), second.next()) };
    let (first, second) = within("a link", both).await;
    [first.unwrap(), second.unwrap()]
}

impl Pair {
    fn kinds(&self) -> [PathKind; 2] {
        self.links.each_ref().map(|link| link.path().kind)
    }

    async fn end(self) {
        let [first, second] = self.workers;
        tokio::join!(first.shutdown(), second.shutdown());
    }
}

/// Bytes of which no part is like another.
fn contents(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..BYTES).map(next).collect()
}

/// Sends contents both ways at once, and compares what arrives.
async fn exchange(links: &[Link; 2]) {
    let [first, second] = links;
    let opened = first.open_bi().await.unwrap();
    let [one, two] = [contents(1), contents(2)];
    let side = async |(mut send, mut receive): (
        holepunch_worker::SendStream,
        holepunch_worker::RecvStream,
    ),
                      own: &[u8],
                      expected: &[u8]| {
        let sending = async {
            send.write_all(own).await.unwrap();
            send.finish().unwrap();
        };
        let receiving = async {
            let mut received = Vec::new();
            receive.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), received) = tokio::join!(sending, receiving);
        assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
    };
    let accepted = async { side(second.accept_bi().await.unwrap(), &two, &one).await };
    within("the contents", async { tokio::join!(side(opened, &one, &two), accepted) }).await;
}

#[tokio::test]
async fn two_that_cannot_reach_each_other_link_by_turn_without_any_other_relay() {
    let Some(coturn) = Coturn::start(SECRET).await else { return };
    let server = rendezvous(coturn.address, SECRET, None);
    let pair = pair(&server).await;
    assert_eq!(pair.kinds(), [PathKind::Turn, PathKind::Turn]);
    exchange(&pair.links).await;
    let only_turn =
        |link: &Link| link.path_history().iter().all(|event| event.path.kind == PathKind::Turn);
    assert!(pair.links.iter().all(only_turn));
    pair.end().await;
    // What the server has counted for both, when they gave their addresses back.
    let carried = within("both allocations end", coturn.carried(2)).await;
    assert!(carried >= 4 * BYTES as u64, "the TURN server has carried {carried} bytes");
    server.shutdown().await;
}

#[tokio::test]
async fn the_relay_of_the_rendezvous_comes_first_and_turn_takes_over_when_its_quota_is_used_up() {
    let Some(coturn) = Coturn::start(SECRET).await else { return };
    let limits = RelayLimits { quota: Some(QUOTA), ..RelayLimits::default() };
    let server = rendezvous(coturn.address, SECRET, Some(limits));
    let pair = pair(&server).await;
    assert_eq!(pair.kinds(), [PathKind::Relay, PathKind::Relay]);
    within("both have a channel to each other", coturn.bound(2)).await;
    assert_eq!(pair.kinds(), [PathKind::Relay, PathKind::Relay]);
    exchange(&pair.links).await;
    assert_eq!(pair.kinds(), [PathKind::Turn, PathKind::Turn]);
    pair.end().await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_wrong_secret_is_told_and_the_link_goes_by_the_other_relay() {
    let logs = logs::Logs::start();
    let Some(coturn) = Coturn::start(SECRET).await else { return };
    let server = rendezvous(coturn.address, "south", Some(RelayLimits::default()));
    let pair = pair(&server).await;
    let told =
        |text: &str| text.matches("the TURN server refuses the credentials: 401").count() == 2;
    within("both are told", logs.until(told)).await;
    assert_eq!(pair.kinds(), [PathKind::Relay, PathKind::Relay]);
    exchange(&pair.links).await;
    pair.end().await;
    let text = logs.text();
    assert!(text.contains("secret for TURN is not the server's"), "{text}");
    assert!(!text.contains("south") && !text.contains("ERROR"), "{text}");
}
