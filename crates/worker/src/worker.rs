//! A running worker, for whoever embeds it.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use holepunch_link::{Identity, IdentityError, Link};
use holepunch_wire::probe::PROBE_ID_BYTES_MAX;
use holepunch_wire::{WorkerId, WorkerIdError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Config;
use crate::health::Health;
use crate::log_budget::LogBudget;
use crate::notice::Notice;
use crate::reach::Access;
use crate::run::{CALL_AGAIN_AFTER, Run};
use crate::signalling::{Settings, Signalling};
use crate::story::Stories;
use crate::turn::Turns;

/// Notices kept for an embedding program; one that does not read them misses the newest.
const NOTICES_MAX: usize = 1024;
/// Links that nobody has taken yet: as many as a worker has sessions.
const LINKS_MAX: usize = 64;
/// A worker that has not ended by then is cut off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(800);

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The health server's port cannot be bound.
    #[error(
        "cannot listen on TCP port {port} for the health server: {source}; set PORT (--port) to \
         another port, or to 0 for any free one"
    )]
    HealthPort {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The worker's id is not one.
    #[error("the worker id is not valid: {0}")]
    WorkerId(#[from] WorkerIdError),
    /// The worker's id is too long for the datagrams.
    #[error(
        "a worker's own id (WORKER_ID, --worker-id) has at most {PROBE_ID_BYTES_MAX} bytes, this one has {0}"
    )]
    WorkerIdTooLong(usize),
    /// There is no key, and none can be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An id that is made from a key is not this worker's.
    #[error(
        "the worker id {0} is made from a key, and not from this worker's: leave WORKER_ID (--worker-id) \
         away, or give the identity that it belongs to"
    )]
    NotOwnId(WorkerId),
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    health: Option<SocketAddr>,
    notices: mpsc::Receiver<Notice>,
    links: Option<Links>,
    stories: Stories,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The health server, where there is to be one.
async fn health(config: &Config, stories: &Stories) -> Result<Option<Health>, StartError> {
    let Some(port) = config.health_port else { return Ok(None) };
    let address = SocketAddrV4::new(config.listen_ip, port);
    match Health::bind(address, stories.clone()).await {
        Ok(health) => Ok(Some(health)),
        Err(source) => Err(StartError::HealthPort { port, source }),
    }
}

/// The links of a worker, as they come about.
#[derive(Debug)]
pub struct Links {
    links: mpsc::Receiver<Link>,
    wrong_secrets: watch::Receiver<u64>,
}

impl Links {
    /// The next one; `None` when the worker has ended.
    pub async fn next(&mut self) -> Option<Link> {
        self.links.recv().await
    }

    /// How many peers have not known the room's secret so far, and when another one has not. Whoever waits for links meanwhile
    /// needs no notices for that.
    #[must_use]
    pub fn wrong_secrets(&self) -> watch::Receiver<u64> {
        self.wrong_secrets.clone()
    }
}

impl Worker {
    /// Starts a worker. It goes on until [`shutdown`](Self::shutdown), whatever the network does.
    ///
    /// # Errors
    /// The health port is taken, the id is not valid, or TLS cannot be set up.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let identity = match &config.identity {
            Some(identity) => identity.clone(),
            None => Identity::generate()?,
        };
        let id = own_id(&config, &identity)?;
        tracing::info!(worker = %id, rendezvous = %config.rendezvous, "worker starts");
        if config.rendezvous.scheme_was_missing() {
            tracing::warn!(rendezvous = %config.rendezvous, "the URL has no scheme, taking ws://");
        }
        let stories = Stories::default();
        let health = health(&config, &stories).await?;
        let health_address = health.as_ref().map(|health| health.address);
        let access = Access::new(&config.rendezvous, config.proxy.clone());
        let signalling = Signalling::start(Settings {
            url: config.rendezvous.register_in(&id, &config.room),
            ask_v1: !config.baseline_only,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            access: access.clone(),
        });
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let ((link_sender, links), (stop, stopped)) =
            (mpsc::channel(LINKS_MAX), oneshot::channel());
        let (wrong_sender, wrong_secrets) = watch::channel(0);
        let run = Run {
            id: id.clone(),
            identity,
            config,
            access,
            signalling,
            port: None,
            bind_at: Instant::now(),
            call_at: Instant::now() + CALL_AGAIN_AFTER,
            registered: false,
            room_own: false,
            welcome: None,
            resume: None,
            look_up: None,
            public_ip: None,
            notices: sender,
            log_budget: LogBudget::default(),
            links: link_sender,
            wrong_secrets: wrong_sender,
            stories: stories.clone(),
            tokens: BTreeMap::new(),
            relays: JoinSet::new(),
            turns: Turns::new(),
        };
        if let Some(address) = health_address {
            run.notice(Notice::HealthServer(address));
        }
        let span = tracing::info_span!("worker", worker = %id);
        let task = async move {
            run.until(stopped).await;
            drop(health);
        };
        let task = tokio::spawn(task.instrument(span));
        Ok(Self {
            id,
            health: health_address,
            notices,
            links: Some(Links { links, wrong_secrets }),
            stories,
            stop,
            task,
        })
    }

    /// The worker's id.
    #[must_use]
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Where the health server listens, where there is one.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The next thing that happened; `None` when the worker has ended. Notices that nobody takes are
    /// dropped beyond a bound; they stand in the log all the same.
    pub async fn next_notice(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }

    /// What has happened to each session, in words.
    #[must_use]
    pub fn stories(&self) -> &Stories {
        &self.stories
    }

    /// The links that come about, each once; `None` where they have been taken already. A link that
    /// nobody takes is kept until it ends.
    pub fn take_links(&mut self) -> Option<Links> {
        self.links.take()
    }

    /// Says goodbye to the rendezvous, closes the UDP port, and returns within a second.
    pub async fn shutdown(self) {
        let _it_may_have_ended = self.stop.send(());
        let abort = self.task.abort_handle();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.task).await.is_err() {
            abort.abort();
        }
        tracing::info!(worker = %self.id, "worker has ended");
    }
}

fn own_id(config: &Config, identity: &Identity) -> Result<WorkerId, StartError> {
    let id = match &config.worker_id {
        Some(id) => id.clone(),
        // The baseline has no way to prove a key.
        None if config.baseline_only => WorkerId::new(&uuid::Uuid::new_v4().to_string())?,
        None => identity.worker_id(),
    };
    if !identity.public_key().may_be_of(&id) {
        return Err(StartError::NotOwnId(id));
    }
    if id.as_str().len() > PROBE_ID_BYTES_MAX {
        return Err(StartError::WorkerIdTooLong(id.as_str().len()));
    }
    Ok(id)
}
