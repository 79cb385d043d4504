//! The worker as a program of somebody else's has it: by `holepunch_worker` alone, with a rendezvous of its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod examples;
mod failures;
mod links;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use holepunch_rendezvous::{AdminConfig, Auth, Config, MatchmakerConfig, RelayLimits, Server};
use holepunch_worker::{Builder, RoomMode, Worker};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} has not come within {PATIENCE:?}"),
    }
}

/// A rendezvous, with a STUN server and a relay.
struct Rendezvous(Server);

impl Rendezvous {
    fn start() -> Self {
        let config = Config {
            listen: ANY_PORT,
            stun_listen: vec![ANY_PORT],
            stun_is_optional: false,
            stun_answers_max: None,
            auth: Auth::Open,
            listing: false,
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
        Self(Server::bind(config).unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.http_address())
    }

    /// A worker on loopback, in a room of calls.
    fn worker(&self) -> Builder {
        let worker = Worker::builder(&self.url()).room("api").room_mode(RoomMode::Call);
        let stun: Vec<String> = self.0.stun_addresses().iter().map(ToString::to_string).collect();
        let worker = worker.listen_ip(Ipv4Addr::LOCALHOST).port_mapping(false);
        worker.stun_servers(stun)
    }
}
