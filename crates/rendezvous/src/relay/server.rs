//! A process that is nothing but a relay.

use std::net::SocketAddr;
use std::sync::Arc;

use holepunch_wire::relay::RelayKey;
use ipnet::IpNet;

use crate::http;
use crate::listening::{BindError, Bound, Ended, Listening, Settings};
use crate::tls::Tls;

use super::{Relay, RelayDoor, RelayLimits};

/// What a relay of its own is to be.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where HTTP and WebSocket are served; port 0 means any free one.
    pub listen: SocketAddr,
    /// What it speaks TLS with there; `None`: HTTP and WebSocket are plain.
    pub tls: Option<Tls>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections of these begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Most files that may be open, sockets included; `None`: the limit of this process.
    pub open_files_max: Option<usize>,
    /// What it carries.
    pub limits: RelayLimits,
    /// What it shares with the rendezvous whose workers it serves.
    pub key: RelayKey,
}

/// A running relay, which knows neither rendezvous nor workers. Dropping it closes what listens, and no connection; use
/// [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct RelayServer {
    listening: Listening,
    relay: Arc<Relay>,
}

impl RelayServer {
    /// Opens its socket and starts to serve, on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(config: RelayConfig) -> Result<Self, BindError> {
        let bound = Bound::bind(Settings {
            listen: config.listen,
            trusted_proxies: config.trusted_proxies,
            proxy_protocol: config.proxy_protocol,
            public_hosts: Vec::new(),
            open_files_max: config.open_files_max,
            tls: config.tls,
            websockets_max: config.limits.connections_max,
        })?;
        let relay = Arc::new(Relay::new(config.limits, config.key));
        let tls = bound.front.tls.is_some();
        tracing::info!(http = %bound.address, tls, "relay is running");
        let front = Arc::clone(&bound.front);
        let nobody = Box::new(|_, _, _| {});
        let door = RelayDoor { front, relay: Some(Arc::clone(&relay)), tell: nobody };
        let routes = http::relay(Arc::clone(&bound.front), door.routes());
        Ok(Self { listening: bound.serve(routes), relay })
    }

    /// Where HTTP and WebSocket are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Takes no more connections, tells every worker (1001), and returns when all have gone.
    pub async fn shutdown(self) {
        let Ended { left, ended_for_others } = self.listening.close(|| self.relay.shutdown()).await;
        tracing::info!(left, ended_for_others, "relay's server has ended");
    }
}
