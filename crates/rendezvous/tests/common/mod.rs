//! What the tests share: a rendezvous on loopback, and clients that take nothing from the code
//! under test.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod http;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod stun;
pub(crate) mod v1;
pub(crate) mod worker;

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_rendezvous::{AdminConfig, Auth, Config, MatchmakerConfig, RelayLimits, Server};
use serde_json::Value;

use worker::Worker;

/// Bound of every single wait. Far above what a loaded machine needs: it only turns a hang into a
/// failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that announces itself nowhere: the listing, a counter.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits for `future`, but not for ever.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what}: nothing came in {PATIENCE:?} (called at {caller})"),
        }
    }
}

/// A server for one test.
pub(crate) struct Rendezvous {
    pub(crate) server: Server,
}

impl Rendezvous {
    /// With default settings, on 127.0.0.1.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With settings of its own.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self { server: Server::bind(config).unwrap() }
    }

    /// One that believes what loopback clients say in `X-Forwarded-For`.
    pub(crate) fn behind_a_proxy() -> Self {
        Self::with(|config| config.trusted_proxies.push("127.0.0.0/8".parse().unwrap()))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.http_address()
    }

    pub(crate) async fn worker(&self, id: &str) -> Worker {
        Worker::connect(self.address(), id).await
    }

    /// A worker that a proxy forwards for `client`.
    pub(crate) async fn worker_from(&self, client: &str, id: &str) -> Worker {
        Worker::connect_forwarded(self.address(), id, client).await
    }

    pub(crate) async fn listing(&self) -> Value {
        let answer = http::get(self.address(), "/debug/list_workers").await;
        assert_eq!(answer.status, 200);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The first listing that satisfies `wanted`.
    #[track_caller]
    pub(crate) fn listing_when(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        within(what, async move {
            loop {
                let listing = self.listing().await;
                if wanted(&listing) {
                    return listing;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    /// Waits for metrics that satisfy `wanted`.
    #[track_caller]
    pub(crate) fn metrics_when(
        &self,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Future<Output = ()> {
        within(what, async move {
            while !wanted(&http::metrics(self.address()).await) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    /// The listing as soon as `count` workers are connected.
    #[track_caller]
    pub(crate) fn listing_with(&self, count: usize) -> impl Future<Output = Value> {
        self.listing_when("a number of workers", move |listing| {
            listing["connected_workers_count"] == count
        })
    }
}

/// Default settings, on 127.0.0.1.
pub(crate) fn config() -> Config {
    Config {
        listen: loopback(),
        tls: None,
        stun_listen: Vec::new(),
        stun_is_optional: false,
        stun_answers_max: None,
        auth: Auth::Open,
        listing: true,
        admin: AdminConfig::default(),
        open_files_max: None,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        public_hosts: Vec::new(),
        stun_advertise: Vec::new(),
        relay: Some(RelayLimits::default()),
        matchmaker: MatchmakerConfig::default(),
    }
}

/// A loopback address of this process alone, for a port that a test names or uses twice: outside of
/// the range from which the system takes free ports for others.
pub(crate) fn own_address(last: u8, port: u16) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    assert!(port < 32_768);
    SocketAddr::from(([127, high, low, last], port))
}

/// Any free port of 127.0.0.1.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The ids in the ready queue of a listing, in its order.
pub(crate) fn ready(listing: &Value) -> Vec<&str> {
    let list = listing["workers_ready_list"].as_array().unwrap();
    assert_eq!(listing["workers_ready_for_pairing_count"], list.len());
    list.iter().map(|id| id.as_str().unwrap()).collect()
}
