//! Sockets open and close.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holepunch_matchmaker::Input;
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use ipnet::IpNet;
use rand::SeedableRng;
use rand::TryRng;
use rand::rngs::{StdRng, SysRng};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connections::Connections;
use crate::front;
use crate::http::App;
use crate::hub::Hub;
use crate::identity::host_name;
use crate::listing::Listings;
use crate::log_budget::LogBudget;
use crate::open_files::{self, Places};
use crate::relay::{Relay, RelayLimits};
use crate::stun::StunServer;

/// Connections that the kernel keeps until they are accepted: a whole fleet may reconnect at once.
const BACKLOG: u32 = 4096;
/// When no connection has ended for so long, those that are left are not waited for. The platform expects a service to end
/// soon after SIGTERM, and a client that does not answer must not delay that.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP and WebSocket are served; port 0 means any free one.
    pub listen: SocketAddr,
    /// Where STUN is served; none turns it off.
    pub stun_listen: Vec<SocketAddr>,
    /// Whether the server is to start without STUN when these addresses are taken: right for an
    /// address that nobody asked for.
    pub stun_is_optional: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections of these begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// This server's names, as in the URLs of its workers: what a worker signs to prove its key must
    /// name one of them. Without any it must name the host that the worker has asked for, so that
    /// another rendezvous could pass the challenge of this one on to a worker of its own.
    pub public_hosts: Vec<String>,
    /// STUN addresses to tell workers of, instead of those that are listened on: right behind a load
    /// balancer or a port forwarding. Where there are as many as of those, answers name them, too, each in the place
    /// of its own (OTHER-ADDRESS, RESPONSE-ORIGIN).
    pub stun_advertise: Vec<SocketAddr>,
    /// Whether `GET /debug/list_workers` tells everybody who is registered.
    pub listing: bool,
    /// Most files that may be open, sockets included; `None`: the limit of this process.
    pub open_files_max: Option<usize>,
    /// What the relay carries; `None` turns it off.
    pub relay: Option<RelayLimits>,
    /// The pairing machine's settings; its STUN servers, proofs and relay are filled in here.
    pub matchmaker: holepunch_matchmaker::Config,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The HTTP address cannot be bound.
    #[error("cannot listen on {address} for HTTP (--listen, or PORT): {source}")]
    Http {
        /// That address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A STUN address cannot be bound.
    #[error(
        "cannot listen on UDP {address} for STUN (--stun-listen; `none` turns it off): {source}"
    )]
    Stun {
        /// That address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// A running rendezvous. Dropping it closes what listens, without a word to the workers, whose
/// connections run on; use [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Server {
    http: SocketAddr,
    stun: Option<StunServer>,
    proof_key: ProofKey,
    hub: Arc<Hub>,
    relay: Option<Arc<Relay>>,
    connections: Arc<Connections>,
    /// What takes connections, and owns those that are not yet WebSockets.
    front: JoinSet<()>,
    clock: JoinSet<()>,
    alive: mpsc::Sender<()>,
    all_gone: mpsc::Receiver<()>,
}

impl Server {
    /// Opens all sockets and starts to serve, on the current tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound, or the system gives no random numbers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let address = config.listen;
        let listener = listen(address).map_err(|source| BindError::Http { address, source })?;
        let http = listener.local_addr().map_err(|source| BindError::Http { address, source })?;
        let proof_key = random_proof_key()?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let proofs = (proof_key.clone(), ProofClock::new(Instant::now(), unix));
        let stun = match config.stun_listen.as_slice() {
            [] => None,
            addresses => match StunServer::bind(addresses, &config.stun_advertise, &proofs) {
                Ok(stun) => Some(stun),
                Err((address, source)) => {
                    let error = BindError::Stun { address, source };
                    if !config.stun_is_optional {
                        return Err(error);
                    }
                    tracing::warn!(%error, "STUN is off");
                    None
                }
            },
        };
        let relays_max = config.relay.map_or(0, |limits| limits.connections_max);
        let websockets_max = config.matchmaker.workers_max.saturating_add(relays_max);
        // With the PROXY protocol these are their clients' own connections.
        let proxies: &[IpNet] = if config.proxy_protocol { &[] } else { &config.trusted_proxies };
        let connections = connections(config.open_files_max, websockets_max, proxies);
        let relay = config.relay.map(|limits| Arc::new(Relay::new(limits)));
        let mut matchmaker = config.matchmaker;
        matchmaker.stun = match &stun {
            Some(stun) if config.stun_advertise.is_empty() => stun.addresses(),
            _ => config.stun_advertise,
        };
        matchmaker.proofs = Some(proofs);
        matchmaker.relay = relay.is_some();
        let rng = StdRng::try_from_rng(&mut SysRng)
            .map_err(|error| BindError::Random(error.to_string()))?;
        let hub = Arc::new(Hub::new(matchmaker, rng, relay.clone()));
        let (alive, all_gone) = mpsc::channel(1);
        let stun_addresses = stun.as_ref().map(StunServer::addresses).unwrap_or_default();
        // One that is no name stays: it must not open the door to any host that a client asks for.
        let own = config.public_hosts.into_iter().map(|it| host_name(&it).unwrap_or(it));
        let own: Arc<[String]> = own.collect();
        tracing::info!(%http, stun = ?stun_addresses, hosts = ?own, "rendezvous is running");
        let gone = alive.downgrade();
        let app = Arc::new(App {
            hub: Arc::clone(&hub),
            relay: relay.clone(),
            trusted_proxies: config.trusted_proxies,
            proxy_protocol: config.proxy_protocol,
            public_hosts: own,
            refusals: LogBudget::of_refusals(),
            connections: Arc::clone(&connections),
            listings: config.listing.then(Listings::default),
            alive: gone,
        });
        let mut front = JoinSet::new();
        front.spawn(front::accept(listener, app));
        let mut clock = JoinSet::new();
        let machine = Arc::clone(&hub);
        clock.spawn(async move { machine.run_clock().await });
        Ok(Self { http, stun, proof_key, hub, relay, connections, front, clock, alive, all_gone })
    }

    /// Where HTTP and WebSocket are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where STUN is served.
    #[must_use]
    pub fn stun_addresses(&self) -> Vec<SocketAddr> {
        self.stun.as_ref().map(StunServer::addresses).unwrap_or_default()
    }

    /// What the STUN server makes proofs of address with; a new one at every start.
    #[must_use]
    pub fn proof_key(&self) -> &ProofKey {
        &self.proof_key
    }

    /// Takes no more connections, tells every worker (1001), and returns when all have gone: less than a second after
    /// the last one that goes by itself, however many there are. Then all addresses are free again.
    pub async fn shutdown(mut self) {
        self.connections.stop();
        if let Some(relay) = &self.relay {
            relay.shutdown();
        }
        self.hub.input(Input::Shutdown);
        let alive = self.alive.downgrade();
        drop(self.alive);
        // Thousands take longer than one to be told. Each ends soon after its turn, so this has an end, too.
        let mut left = usize::MAX;
        let connections = async {
            while alive.strong_count() < left {
                left = alive.strong_count();
                let _in_time = tokio::time::timeout(SHUTDOWN_GRACE, self.all_gone.recv()).await;
            }
        };
        let answers = tokio::time::timeout(SHUTDOWN_GRACE, self.front.join_next());
        let ((), _in_time) = tokio::join!(connections, answers);
        self.front.shutdown().await;
        self.clock.shutdown().await;
        if let Some(stun) = self.stun {
            stun.shutdown().await;
        }
        tracing::info!(left, ended_for_others = self.connections.ended(), "rendezvous has ended");
    }
}

/// The places of all clients. What does not fit under the limit of open files is told, once.
fn connections(limit: Option<usize>, websockets: usize, proxies: &[IpNet]) -> Arc<Connections> {
    let limit = limit.or_else(open_files::limit);
    let (places, needed) = Places::within(limit, websockets);
    if let (Some(limit), Some(needed)) = (limit, needed) {
        tracing::warn!(
            limit,
            needed,
            connections = places.websockets,
            "the limit of open files is too low for as many workers and relay connections as may come: more than \
             `connections` are refused (503); raise it (LimitNOFILE= of systemd, ulimit -n) or lower --max-workers"
        );
    }
    Connections::new(places, proxies.to_vec())
}

fn random_proof_key() -> Result<ProofKey, BindError> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| BindError::Random(error.to_string()))?;
    Ok(ProofKey::new(bytes))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A service that restarts must not wait for its old connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
