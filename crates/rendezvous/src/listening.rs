//! What every server begins and ends with: a socket for HTTP, and all who are connected to it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connections::Connections;
use crate::front::{self, Front};
use crate::identity::host_name;
use crate::log_budget::{LogBudget, REFUSALS};
use crate::open_files::{self, Places};
use crate::refused::Refusals;
use crate::tls::Tls;
use crate::tokens::TokenKeysError;

/// Connections that the kernel keeps until they are accepted: a whole fleet may reconnect at once.
const BACKLOG: u32 = 4096;
/// When no connection has ended for so long, those that are left are not waited for. The platform expects a service to end
/// soon after SIGTERM, and a client that does not answer must not delay that.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

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
    /// The address for whoever looks after the server cannot be bound.
    #[error("cannot listen on {address} for metrics and the API (--admin-listen): {source}")]
    Admin {
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
    /// Traces cannot be exported.
    #[cfg(feature = "otel")]
    #[error("traces cannot be exported (--otlp-endpoint): {0}")]
    Traces(String),
    /// The keys of tokens cannot be taken.
    #[error("cannot take the keys of tokens from {} (--token-keys, TOKEN_KEYS): {source}", path.display())]
    TokenKeys {
        /// Their file.
        path: PathBuf,
        /// Why.
        source: TokenKeysError,
    },
}

/// How a server takes its clients.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) proxy_protocol: bool,
    pub(crate) public_hosts: Vec<String>,
    pub(crate) open_files_max: Option<usize>,
    /// Most WebSockets that may come.
    pub(crate) websockets_max: usize,
    pub(crate) tls: Option<Tls>,
}

/// A server that has its socket, and takes nobody yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) front: Arc<Front>,
    listener: TcpListener,
    alive: mpsc::Sender<()>,
    all_gone: mpsc::Receiver<()>,
}

/// A server that takes clients.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    front: Arc<Front>,
    /// What takes connections, and owns those that are not yet WebSockets.
    tasks: JoinSet<()>,
    alive: mpsc::Sender<()>,
    all_gone: mpsc::Receiver<()>,
}

/// How a server has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Connections that were not waited for any longer.
    pub(crate) left: usize,
    /// Those that were ended in all the time since their places were needed.
    pub(crate) ended_for_others: u64,
}

impl Bound {
    pub(crate) fn bind(settings: Settings) -> Result<Self, BindError> {
        let address = settings.listen;
        let listener = listen(address).map_err(|source| BindError::Http { address, source })?;
        let address =
            listener.local_addr().map_err(|source| BindError::Http { address, source })?;
        // With the PROXY protocol these are their clients' own connections.
        let proxies: &[IpNet] =
            if settings.proxy_protocol { &[] } else { &settings.trusted_proxies };
        let connections = connections(settings.open_files_max, settings.websockets_max, proxies);
        let (alive, all_gone) = mpsc::channel(1);
        // One that is no name stays: it must not open the door to any host that a client asks for.
        let own = settings.public_hosts.into_iter().map(|it| host_name(&it).unwrap_or(it));
        let front = Arc::new(Front {
            trusted_proxies: settings.trusted_proxies,
            proxy_protocol: settings.proxy_protocol,
            public_hosts: own.collect(),
            refusals: LogBudget::new(REFUSALS),
            refused: Refusals::default(),
            connections,
            tls: settings.tls,
            alive: alive.downgrade(),
        });
        Ok(Self { address, front, listener, alive, all_gone })
    }

    /// Takes clients, and answers them so.
    pub(crate) fn serve(self, router: Router) -> Listening {
        let Self { address, front, listener, alive, all_gone } = self;
        let mut tasks = JoinSet::new();
        if let Some(tls) = front.tls.clone() {
            tasks.spawn(tls.watch());
        }
        tasks.spawn(front::accept(listener, Arc::clone(&front), router));
        Listening { address, front, tasks, alive, all_gone }
    }
}

impl Listening {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets `tell` tell all WebSockets, and returns when all have gone.
    pub(crate) async fn close(mut self, tell: impl FnOnce()) -> Ended {
        self.front.connections.stop();
        tell();
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
        let answers = tokio::time::timeout(SHUTDOWN_GRACE, self.tasks.join_next());
        let ((), _in_time) = tokio::join!(connections, answers);
        self.tasks.shutdown().await;
        Ended { left, ended_for_others: self.front.connections.ended() }
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
             `connections` are refused (503); raise it (LimitNOFILE= of systemd, ulimit -n) or lower --max-workers or --relay-sessions-max"
        );
    }
    Connections::new(places, proxies.to_vec())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A service that restarts must not wait for its old connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
