//! A process that is nothing but a relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use holepunch_wire::relay::RelayKey;
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use ipnet::IpNet;

use crate::admin::{self, AdminConfig};
use crate::api;
use crate::http;
use crate::listening::{BindError, Bound, Ended, Listening, Settings};
use crate::metrics::Shown;
use crate::server::random_bytes;
use crate::stun::{ANSWERS_MAX as STUN_ANSWERS_MAX, StunServer, StunSettings};
use crate::tls::Tls;

use super::{Relay, RelayDoor, RelayLimits};

/// What a relay of its own is to be.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where HTTP and WebSocket are served; port 0 means any free one.
    pub listen: SocketAddr,
    /// What it speaks TLS with there; `None`: HTTP and WebSocket are plain.
    pub tls: Option<Tls>,
    /// Where its datagrams are taken on UDP, and STUN's; none turns it off.
    pub udp_listen: Vec<SocketAddr>,
    /// Whether it is to start without these where they are taken.
    pub udp_is_optional: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections of these begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Where metrics are served, and to whom.
    pub admin: AdminConfig,
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
    admin: Option<Listening>,
    udp: Option<StunServer>,
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
        let admin = config.admin.bind(&bound.front)?;
        let relay = Arc::new(Relay::new(config.limits, config.key));
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let udp = StunServer::bind_unless_taken(
            StunSettings {
                addresses: &config.udp_listen,
                advertised: &[],
                // No rendezvous takes its word for an address.
                proofs: (ProofKey::new(random_bytes()?), ProofClock::new(Instant::now(), unix)),
                answers_max: Some(STUN_ANSWERS_MAX),
                relay: Some(Arc::clone(&relay)),
            },
            config.udp_is_optional,
        )?;
        let udp_addresses = udp.as_ref().map(StunServer::addresses).unwrap_or_default();
        let tls = bound.front.tls.is_some();
        tracing::info!(http = %bound.address, udp = ?udp_addresses, tls, "relay is running");
        let front = Arc::clone(&bound.front);
        let at = admin.as_ref().map_or(&bound.front, |admin| &admin.front);
        let shown = Shown::new();
        shown.add_service(&bound.front, Some(&relay), udp.as_ref());
        let fronts = (Arc::clone(at), Arc::clone(&bound.front));
        let seen = api::relay::routes(fronts, Arc::clone(&relay), shown);
        let seen = config.admin.guarded(Arc::clone(at), seen);
        let (seen, admin) = admin::serve(admin, seen);
        let nobody = Box::new(|_, _, _| {});
        let door = RelayDoor { front, relay: Some(Arc::clone(&relay)), tell: nobody };
        let routes = http::relay(Arc::clone(&bound.front), door.routes(), seen);
        Ok(Self { listening: bound.serve(routes), admin, udp, relay })
    }

    /// Where HTTP and WebSocket are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Where metrics are served, if they have an address of their own.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Listening::address)
    }

    /// Where its datagrams are taken on UDP.
    #[must_use]
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.udp.as_ref().map(StunServer::addresses).unwrap_or_default()
    }

    /// Takes no more connections, tells every worker (1001), and returns when all have gone.
    pub async fn shutdown(self) {
        let ended = self.listening.close(|| self.relay.shutdown());
        let (Ended { left, ended_for_others }, ()) = tokio::join!(ended, admin::close(self.admin));
        if let Some(udp) = self.udp {
            udp.shutdown().await;
        }
        tracing::info!(left, ended_for_others, "relay's server has ended");
    }
}
