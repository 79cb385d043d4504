//! A rendezvous, two workers and the NAT between them.

use std::net::{Ipv4Addr, SocketAddr};

use holepunch_rendezvous::{
    AdminConfig, Auth, Config as ServerConfig, MatchmakerConfig, RelayLimits, Server,
};
use holepunch_wire::session::RoomName;
use holepunch_worker::{
    Config, Identity, Link, LinkError, Links, Notice, PathKind, Signal, Worker,
};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cables::Cables;
use crate::flow::flows_both_ways;
use crate::nat::{Datagram, Fate, Nat};
use crate::patience::PATIENCE;
use crate::within;

/// One worker of the test.
pub(crate) struct Peer {
    pub(crate) worker: Worker,
    pub(crate) links: Links,
    pub(crate) cables: Cables,
    pub(crate) identity: Identity,
}

pub(crate) struct World {
    pub(crate) rendezvous: Option<Server>,
    pub(crate) address: SocketAddr,
    pub(crate) nat: Nat,
    pub(crate) peers: [Peer; 2],
}

/// Settings of a worker on loopback, without anything but what the test gives it.
pub(crate) fn config(rendezvous: SocketAddr, stun: SocketAddr) -> Config {
    Config {
        host_candidates: false,
        port_mapping: false,
        listen_ip: Ipv4Addr::LOCALHOST,
        stun_servers: vec![stun.to_string().parse().unwrap()],
        ..Config::new(format!("http://{rendezvous}").parse().unwrap())
    }
}

/// Shows the log where `RUST_LOG` asks for it.
pub(crate) fn log() {
    let filter = std::env::var("RUST_LOG").ok();
    let filter: Option<Targets> = filter.and_then(|filter| filter.parse().ok());
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(log).with(filter.unwrap_or_default());
    let _unless_it_is_set_up = log.try_init();
}

pub(crate) fn serve(listen: SocketAddr) -> Server {
    serve_with(listen, |_| {})
}

pub(crate) fn serve_with(listen: SocketAddr, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let mut config = ServerConfig {
        listen,
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
        relay: Some(RelayLimits::default()),
        matchmaker: MatchmakerConfig { allow_private: true, ..MatchmakerConfig::default() },
    };
    change(&mut config);
    Server::bind(config).unwrap()
}

impl Peer {
    /// Takes notices until one is wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let notice = async {
            loop {
                let notice = self.worker.next_notice().await.expect("the worker has ended");
                if wanted(&notice) {
                    return notice;
                }
            }
        };
        within(what, notice).await
    }

    pub(crate) async fn until_registered(&mut self) {
        let is = |it: &Notice| matches!(it, Notice::Signal(Signal::ConnectedV1));
        self.until("the registration", is).await;
    }

    pub(crate) async fn until_ended(&mut self) -> LinkError {
        let is = |it: &Notice| matches!(it, Notice::LinkEnded(..));
        let ended = self.until("the end of the link", is).await;
        let Notice::LinkEnded(_, _, error) = ended else { unreachable!("{ended:?}") };
        error
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// With a rule for every datagram between the workers, from the first one on, and without a relay
    /// until the cables are released.
    pub(crate) async fn with_late_relay(
        rule: impl FnMut(Datagram<'_>) -> Fate + Send + 'static,
    ) -> Self {
        let nat = Nat::open().await;
        nat.rule(rule);
        Self::behind(nat, 1, |_, _| {}).await
    }

    /// With other settings for the workers, by their numbers.
    pub(crate) async fn with(change: impl Fn(usize, &mut Config)) -> Self {
        Self::behind(Nat::open().await, usize::MAX, change).await
    }

    /// Each worker has so many connections to the rendezvous; others wait.
    async fn behind(nat: Nat, connections: usize, change: impl Fn(usize, &mut Config)) -> Self {
        let rendezvous = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self::of((rendezvous, nat), connections, change).await
    }

    /// With a rendezvous of the test's own.
    pub(crate) async fn served_by(rendezvous: Server, change: impl Fn(usize, &mut Config)) -> Self {
        Self::of((rendezvous, Nat::open().await), usize::MAX, change).await
    }

    async fn of(
        (rendezvous, nat): (Server, Nat),
        connections: usize,
        change: impl Fn(usize, &mut Config),
    ) -> Self {
        log();
        let address = rendezvous.http_address();
        let mut peers = Vec::new();
        for number in 0..2 {
            let cables = Cables::to(address, connections).await;
            let identity = Identity::generate().unwrap();
            let mut config = config(cables.address, nat.stun(number));
            config.identity = Some(identity.clone());
            config.room = RoomName::new("links").unwrap();
            change(number, &mut config);
            let mut worker = Worker::start(config).await.unwrap();
            let links = worker.take_links().unwrap();
            peers.push(Peer { worker, links, cables, identity });
        }
        let peers = peers.try_into().ok().unwrap();
        Self { rendezvous: Some(rendezvous), address, nat, peers }
    }

    /// The two ends of the link.
    pub(crate) async fn linked(&mut self) -> [Link; 2] {
        let [first, second] = &mut self.peers;
        let both = async { tokio::join!(first.links.next(), second.links.next()) };
        let (first, second) = within("a link", both).await;
        [first.unwrap(), second.unwrap()]
    }

    /// The two ends, with a direct path in use.
    pub(crate) async fn linked_directly(&mut self) -> [Link; 2] {
        let links = self.linked().await;
        until_both(&links, is_direct).await;
        links
    }

    /// The same after both have had time to tell what a further path needs, which comes just behind the
    /// handshake.
    pub(crate) async fn linked_and_settled(&mut self) -> [Link; 2] {
        let links = self.linked_directly().await;
        flows_both_ways(&links, 1).await;
        links
    }

    /// The two ends, with the relay in use and nothing else.
    pub(crate) async fn linked_by_the_relay(&mut self) -> [Link; 2] {
        self.nat.lose_everything();
        let links = self.linked().await;
        until_both(&links, is_relay).await;
        links
    }
}

pub(crate) fn is_direct(kind: &PathKind) -> bool {
    matches!(kind, PathKind::Direct { .. })
}

pub(crate) fn is_relay(kind: &PathKind) -> bool {
    *kind == PathKind::Relay
}

/// Waits until a link's packets go so.
pub(crate) async fn until_path(link: &Link, wanted: impl Fn(&PathKind) -> bool) {
    let mut events = link.path_events();
    let changed = async {
        while !wanted(&link.path().kind) {
            events.next().await;
        }
    };
    if tokio::time::timeout(PATIENCE, changed).await.is_err() {
        panic!("the path stays as it is: {:#?}", link.path_history());
    }
}

pub(crate) async fn until_both(links: &[Link; 2], wanted: impl Fn(&PathKind) -> bool + Copy) {
    for link in links {
        until_path(link, wanted).await;
    }
}
