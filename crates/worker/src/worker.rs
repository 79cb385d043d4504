//! A running worker, for whoever embeds it.

use std::collections::VecDeque;
#[cfg(feature = "health")]
use std::io;
use std::net::SocketAddr;
#[cfg(feature = "health")]
use std::net::SocketAddrV4;
use std::time::Duration;

use holepunch_link::{Identity, IdentityError, Link, ProtocolsError, ServerNameError};
use holepunch_wire::probe::PROBE_ID_BYTES_MAX;
use holepunch_wire::rate::Lines;
use holepunch_wire::session::RoomNameError;
use holepunch_wire::{WorkerId, WorkerIdError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::builder::Builder;
use crate::config::Config;
use crate::failure::{AcceptError, ConnectError};
use crate::handover::Handover;
use crate::health::Health;
use crate::identity_file::IdentityFileError;
use crate::notice::Notice;
use crate::reach::Access;
use crate::relay::Relays;
use crate::rendezvous_url::UrlError;
use crate::run::{CALL_AGAIN_AFTER, LOGGED, Resuming, Run};
use crate::signalling::{Settings, Signalling};
use crate::story::Stories;
use crate::token::TokenError;
use crate::turn::Turns;

/// Notices kept for an embedding program; one that does not read them misses the newest.
const NOTICES_MAX: usize = 1024;
/// A worker that has not ended by then is cut off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(800);

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The URL of the rendezvous is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The name of the room is none.
    #[error("the room: {0}")]
    Room(#[from] RoomNameError),
    /// The name of a STUN server is none.
    #[error("a STUN server: {0}")]
    StunServer(#[from] ServerNameError),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The names of the protocols are not taken.
    #[error("the protocols: {0}")]
    Protocols(#[from] ProtocolsError),
    /// The health server's port cannot be bound.
    #[cfg(feature = "health")]
    #[error("cannot listen on TCP port {port} for the health server: {source}")]
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
    #[error("a worker's own id has at most {PROBE_ID_BYTES_MAX} bytes, this one has {0}")]
    WorkerIdTooLong(usize),
    /// There is no key, and none can be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The file of the key gives none.
    #[error(transparent)]
    IdentityFile(#[from] IdentityFileError),
    /// An id that is made from a key is not this worker's.
    #[error(
        "the worker id {0} is made from a key, and not from this worker's: set no id, or the identity that it \
         belongs to"
    )]
    NotOwnId(WorkerId),
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    health: Option<SocketAddr>,
    notices: mpsc::Receiver<Notice>,
    handover: Handover,
    wrong_secrets: watch::Receiver<u64>,
    links_are_taken: bool,
    /// Whether links are made at all.
    makes_links: bool,
    stories: Stories,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The health server, where there is to be one.
#[cfg(feature = "health")]
async fn health(config: &Config, stories: &Stories) -> Result<Option<Health>, StartError> {
    let Some(port) = config.health_port else { return Ok(None) };
    let address = SocketAddrV4::new(config.listen_ip, port);
    match Health::bind(address, stories.clone()).await {
        Ok(health) => Ok(Some(health)),
        Err(source) => Err(StartError::HealthPort { port, source }),
    }
}

/// There is none without its feature.
#[cfg(not(feature = "health"))]
#[expect(clippy::unused_async, reason = "as the one of the feature has it")]
async fn health(_: &Config, _: &Stories) -> Result<Option<Health>, StartError> {
    Ok(None)
}

/// The links of a worker, as they come about. When it is dropped, no more are taken.
#[derive(Debug)]
pub struct Links {
    handover: Handover,
    wrong_secrets: watch::Receiver<u64>,
}

impl Links {
    /// The next one; `None` when the worker has ended.
    pub async fn next(&mut self) -> Option<Link> {
        self.handover.next().await
    }

    /// How many peers have not known the room's secret so far, and when another one has not. Whoever waits for links meanwhile
    /// needs no notices for that.
    #[must_use]
    pub fn wrong_secrets(&self) -> watch::Receiver<u64> {
        self.wrong_secrets.clone()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.handover.give_up();
    }
}

/// Tells those that wait when the task ends, however it does.
struct Ending(Handover);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Worker {
    /// A worker of the rendezvous at this URL, to be set up: `https://rendezvous.example`, say.
    pub fn builder(rendezvous: &str) -> Builder {
        Builder::new(rendezvous)
    }

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
        let access = Access::new(&config.rendezvous, config.proxy.clone(), config.token.clone());
        let signalling = signalling(&config, &id, &access);
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let (handover, (stop, stopped)) = (Handover::default(), oneshot::channel());
        let makes_links = config.links && !config.baseline_only;
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
            resuming: Resuming::default(),
            look_up: None,
            public_ip: None,
            notices: sender,
            log_budget: Lines::new(LOGGED),
            wrong_secrets: wrong_sender,
            handover: handover.clone(),
            called: VecDeque::new(),
            stories: stories.clone(),
            relays: Relays::default(),
            turns: Turns::new(),
        };
        let health_address = health.as_ref().map(Health::address);
        if let Some(address) = health_address {
            run.notice(Notice::HealthServer(address));
        }
        let span = tracing::info_span!("worker", worker = %id);
        // Whoever waits is told, and the health server ends.
        let with_it = (Ending(handover.clone()), health);
        let task = async move {
            run.until(stopped).await;
            drop(with_it);
        };
        let task = tokio::spawn(task.instrument(span));
        Ok(Self {
            id,
            health: health_address,
            notices,
            handover,
            links_are_taken: false,
            makes_links,
            wrong_secrets,
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
        let is_first = !std::mem::replace(&mut self.links_are_taken, true);
        is_first.then(|| Links {
            handover: self.handover.clone(),
            wrong_secrets: self.wrong_secrets.clone(),
        })
    }

    /// Calls a worker that is registered in the same room, and returns the link with it. A link with this peer that has
    /// come before, and that nobody has taken, is that link. Dropping the future ends the call.
    ///
    /// It takes as long as the two need, some 20 s where no way is found; whoever wants to wait less has a timeout
    /// around it.
    ///
    /// # Errors
    /// The rendezvous is not reached (before the first time that it is), does not take this worker, or does not know the
    /// peer; or the two find no way, do not trust each other, or have no protocol in common.
    pub async fn connect(&self, peer: &WorkerId) -> Result<Link, ConnectError> {
        if *peer == self.id {
            return Err(ConnectError::OwnId(peer.clone()));
        }
        if !self.makes_links {
            return Err(ConnectError::NoLinks);
        }
        self.handover.connect(peer).await
    }

    /// The next link that has come by itself: of a peer that calls, or that the rendezvous brings in this room. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    /// The rendezvous is not reached (before the first time that it is), or does not take this worker. The worker goes on
    /// trying: the next call waits for the next attempt.
    pub async fn accept(&self) -> Result<Link, AcceptError> {
        if !self.makes_links {
            return Err(AcceptError::NoLinks);
        }
        self.handover.accept().await
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

fn signalling(config: &Config, id: &WorkerId, access: &Access) -> Signalling {
    Signalling::start(Settings {
        url: config.rendezvous.register_in(id, &config.room),
        ask_v1: !config.baseline_only,
        names: config.names,
        ping_interval: config.ping_interval,
        ping_timeout: config.ping_timeout,
        access: access.clone(),
    })
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
