//! A connection that is there, or is made anew.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holepunch_wire::rate::{Bucket, Rate};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;

use crate::url::{Kind, StoreUrl};

/// Time to connect, and to find out where: a store that is away holds up nobody for longer.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);
/// Time to connect to one host of several: the others may be there.
const NODE_CONNECTED_WITHIN: Duration = Duration::from_millis(500);
/// Time for what is asked at once, with all that the library tries again by itself.
const DONE_WITHIN: Duration = Duration::from_secs(2);
/// How often it is told that the server refuses something: one that is full refuses everything.
const REFUSALS: Rate = Rate { count: 1, per: Duration::from_secs(60), burst: 1 };
/// Time for an answer. Whoever waits for one has given up after two seconds.
pub(crate) const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// Where commands go.
#[derive(Clone)]
pub(crate) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Makes connections to the store, each when it is needed.
pub(crate) struct Connector {
    url: StoreUrl,
    current: Mutex<Option<Connection>>,
    /// Counts connections that have failed: what another one has been told may be elsewhere now.
    failed: AtomicU64,
    /// The last answer was that it does not do what it was asked.
    refuses: AtomicBool,
    refusals: std::sync::Mutex<Bucket>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(url: StoreUrl) -> Self {
        Self {
            url,
            current: Mutex::new(None),
            failed: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
            refusals: std::sync::Mutex::default(),
        }
    }

    /// The one that everybody shares. Nobody blocks on it.
    pub(crate) async fn shared(&self) -> RedisResult<Connection> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let connection = self.connect(ANSWERED_WITHIN).await?;
        if self.failed.load(Ordering::Relaxed) > 0 {
            tracing::info!(store = %self.url, "the store is there again");
        }
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Does something by the shared connection. One that has failed is not used again.
    pub(crate) async fn with<T>(
        &self,
        act: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Option<T> {
        let done = match self.shared().await {
            Ok(mut connection) => {
                let late = || Err((ErrorKind::Io, "no answer in time").into());
                let done = tokio::time::timeout(DONE_WITHIN, act(&mut connection));
                done.await.unwrap_or_else(|_| late())
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                let had_one = self.current.lock().await.take().is_some();
                if had_one || self.failed.load(Ordering::Relaxed) == 0 {
                    tracing::warn!(store = %self.url, %error, "{}", words(&error));
                }
                self.refuses.store(is_refusal(&error), Ordering::Relaxed);
                self.failed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// The server refuses to do what it was asked: it is full, or read-only, or something else than it should be.
    pub(crate) fn refused(&self, error: &RedisError) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.take(REFUSALS, Instant::now()) {
            tracing::error!(store = %self.url, %error, "{}", words(error));
        }
        self.refuses.store(true, Ordering::Relaxed);
    }

    /// It has changed what it was to change.
    pub(crate) fn took(&self) {
        self.refuses.store(false, Ordering::Relaxed);
    }

    /// Whether the last answer was a refusal.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// How often the shared connection has failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Another connection, for one that blocks.
    pub(crate) async fn connect(&self, answered_within: Duration) -> RedisResult<Connection> {
        let late = |_| RedisResult::Err((ErrorKind::Io, "no connection in time").into());
        let connected = tokio::time::timeout(CONNECTED_WITHIN, self.find(answered_within));
        connected.await.unwrap_or_else(late)
    }

    async fn find(&self, answered_within: Duration) -> RedisResult<Connection> {
        let has_others = self.url.nodes.len() > 1;
        let node_within = if has_others { NODE_CONNECTED_WITHIN } else { CONNECTED_WITHIN };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(node_within))
            .set_response_timeout(Some(answered_within));
        match &self.url.kind {
            Kind::One => {
                let client = Client::open(self.url.nodes.first().cloned().unwrap_or_default())?;
                let one = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Connection::One(one))
            }
            Kind::Sentinel { service, user, password, tls } => {
                let addresses = self.url.nodes.iter().map(|node| {
                    let info = node.as_str().into_connection_info()?;
                    RedisResult::Ok(info.addr().clone())
                });
                let mut addresses = addresses.collect::<RedisResult<Vec<_>>>()?;
                // The library asks them in order: one that is silent is not the first one again.
                let first = self.failed.load(Ordering::Relaxed) % addresses.len().max(1) as u64;
                addresses.rotate_left(usize::try_from(first).unwrap_or(0));
                let kind = SentinelServerType::Master;
                let mut builder = SentinelClientBuilder::new(addresses, service.clone(), kind)?;
                if let Some(user) = user {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = password {
                    builder = builder.set_client_to_redis_password(password);
                }
                if *tls {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                }
                let mut client = builder.build()?;
                Ok(Connection::One(client.get_async_connection_with_config(&config).await?))
            }
            Kind::Cluster => {
                let client = ClusterClient::builder(self.url.nodes.clone())
                    .connection_timeout(NODE_CONNECTED_WITHIN)
                    .response_timeout(answered_within)
                    .build()?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
        }
    }
}

/// Whether a Redis server has answered, and does not do what it was asked.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add kinds of errors")]
fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::Server(_) => true,
        // A code of the server's that the library does not know, such as NOAUTH.
        ErrorKind::Extension => error.code().is_some(),
        _ => false,
    }
}

/// What is wrong with the store, and what to do about it. The library's own words stand beside it.
fn words(error: &RedisError) -> &'static str {
    match (error.kind(), error.code()) {
        (_, Some("NOAUTH")) => {
            "the store wants a password: give it in the URL, as redis://:PASSWORD@HOST (--store, STORE)"
        }
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            "the store does not take the password in its URL, or the name before it (--store, STORE)"
        }
        (_, Some("READONLY")) => {
            "the store is read-only, as a replica is: name its master (--store, STORE), or Sentinels that know it"
        }
        (ErrorKind::Parse, _) => {
            "what answers there is no Redis server: correct the host or the port (--store, STORE)"
        }
        _ if is_refusal(error) => "the store refuses what it is asked",
        _ => "the store does not answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{ServerErrorKind, make_extension_error};

    #[test]
    fn an_error_says_what_is_wrong_and_what_to_do() {
        let own = |kind: ErrorKind| RedisError::from((kind, "text"));
        let said = |code: &str| make_extension_error(code.to_owned(), None);
        for (error, part, refuses) in [
            (said("NOAUTH"), "redis://:PASSWORD@HOST", true),
            (said("WRONGPASS"), "does not take the password", true),
            (own(ErrorKind::AuthenticationFailed), "does not take the password", true),
            (own(ErrorKind::Server(ServerErrorKind::ReadOnly)), "read-only", true),
            (said("OOM"), "refuses what it is asked", true),
            (own(ErrorKind::Parse), "no Redis server", false),
            (own(ErrorKind::Io), "does not answer", false),
        ] {
            assert!(words(&error).contains(part), "{error}: {}", words(&error));
            assert_eq!(is_refusal(&error), refuses, "{error}");
        }
    }
}
