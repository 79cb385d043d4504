//! The worker's one task, between the rendezvous and the UDP port.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use holepunch_link::{Event, Input, OfferRefusal, Port, TraversalConfig};
use holepunch_wire::probe::PROBE_ID_BYTES_MAX;
use holepunch_wire::signal::v1::{ServerV1, Welcome, WorkerV1};
use holepunch_wire::signal::{FromServer, WorkerMessage};
use holepunch_wire::{WorkerId, WorkerIdError};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::Config;
use crate::health::Health;
use crate::notice::Notice;
use crate::signalling::{Settings, Signal, Signalling};
use crate::{ip_echo, tls};

/// Notices kept for an embedding program; one that does not read them misses the newest.
const NOTICES_MAX: usize = 1024;
/// A UDP port that is taken is tried again after so long.
const REBIND_AFTER: Duration = Duration::from_secs(5);
/// A peer that is wanted, and with which there is no session, is called again after this time.
const CALL_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A rendezvous keeps the place of a worker that has lost its connection for so long.
const RESUME_WITHIN: Duration = Duration::from_secs(30);

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
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    id: WorkerId,
    health: SocketAddr,
    notices: mpsc::Receiver<Notice>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts a worker. It goes on until [`shutdown`](Self::shutdown), whatever the network does.
    ///
    /// # Errors
    /// The health port is taken, the id is not valid, or TLS cannot be set up.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let id = match &config.worker_id {
            Some(id) => id.clone(),
            None => WorkerId::new(&uuid::Uuid::new_v4().to_string())?,
        };
        if id.as_str().len() > PROBE_ID_BYTES_MAX {
            return Err(StartError::WorkerIdTooLong(id.as_str().len()));
        }
        tracing::info!(worker = %id, rendezvous = %config.rendezvous, "worker starts");
        if config.rendezvous.scheme_was_missing() {
            tracing::warn!(rendezvous = %config.rendezvous, "the URL has no scheme, taking ws://");
        }
        let port = config.health_port;
        let health = Health::bind(SocketAddrV4::new(config.listen_ip, port)).await;
        let health = health.map_err(|source| StartError::HealthPort { port, source })?;
        let health_address = health.address;
        let tls = tls::client_config()?;
        let signalling = Signalling::start(Settings {
            url: config.rendezvous.register_in(&id, &config.room),
            ask_v1: !config.baseline_only,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            tls: Arc::clone(&tls),
        });
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let (stop, stopped) = oneshot::channel();
        let run = Run {
            id: id.clone(),
            config,
            tls,
            signalling,
            port: None,
            bind_at: Instant::now(),
            call_at: Instant::now() + CALL_AGAIN_AFTER,
            registered: false,
            welcome: None,
            resume: None,
            look_up: None,
            public_ip: None,
            notices: sender,
        };
        run.notice(Notice::HealthServer(health_address));
        let span = tracing::info_span!("worker", worker = %id);
        let task = async move {
            run.until(stopped).await;
            drop(health);
        };
        let task = tokio::spawn(task.instrument(span));
        Ok(Self { id, health: health_address, notices, stop, task })
    }

    /// The worker's id.
    #[must_use]
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Where the health server listens.
    #[must_use]
    pub fn health_address(&self) -> SocketAddr {
        self.health
    }

    /// The next thing that happened; `None` when the worker has ended. Notices that nobody takes are
    /// dropped beyond a bound; they stand in the log all the same.
    pub async fn next_notice(&mut self) -> Option<Notice> {
        self.notices.recv().await
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

/// What the task holds.
struct Run {
    id: WorkerId,
    config: Config,
    tls: Arc<ClientConfig>,
    signalling: Signalling,
    port: Option<Port>,
    /// When the UDP port is to be bound, as long as it is not.
    bind_at: Instant,
    /// When the peer that is wanted is called again.
    call_at: Instant,
    /// Whether there is a session with the rendezvous.
    registered: bool,
    /// What the rendezvous has said at first in this session, where it speaks `holepunch.v1`.
    welcome: Option<Welcome>,
    /// Lets the worker take its place again, for a while after it has lost its connection.
    resume: Option<(String, Instant)>,
    look_up: Option<JoinHandle<Result<IpAddr, String>>>,
    public_ip: Option<IpAddr>,
    notices: mpsc::Sender<Notice>,
}

/// What the task woke up for.
enum Woken {
    Stop,
    Signal(Signal),
    Udp(PortEvent),
    Bind,
    PublicIp(Result<IpAddr, String>),
    CallDue,
}

impl Run {
    async fn until(mut self, mut stopped: oneshot::Receiver<()>) {
        self.start_look_up();
        loop {
            match self.woken(&mut stopped).await {
                Woken::Stop => break,
                Woken::Signal(signal) => self.signal(signal),
                Woken::Udp(PortEvent::Traversal(event)) => self.udp(event),
                Woken::Udp(PortEvent::Link(_)) => {}
                Woken::Bind => self.bind().await,
                Woken::PublicIp(found) => self.public_ip(found),
                Woken::CallDue => self.call(),
            }
        }
        if let Some(look_up) = self.look_up {
            look_up.abort();
        }
        let close_port = async {
            if let Some(port) = self.port {
                tracing::debug!(dropped = ?port.dropped(), "UDP port closed");
                port.close().await;
            }
        };
        tokio::join!(self.signalling.close(), close_port);
    }

    async fn woken(&mut self, stopped: &mut oneshot::Receiver<()>) -> Woken {
        let bind_at = self.bind_at;
        let udp = async {
            match &mut self.port {
                Some(port) => Woken::Udp(port.next_event().await),
                None => {
                    tokio::time::sleep_until(bind_at).await;
                    Woken::Bind
                }
            }
        };
        let look_up = async {
            match &mut self.look_up {
                Some(task) => task.await.unwrap_or_else(|error| Err(error.to_string())),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An owner that is dropped stops its worker too.
            _stop = stopped => Woken::Stop,
            signal = self.signalling.next() => Woken::Signal(signal),
            woken = udp => woken,
            found = look_up => Woken::PublicIp(found),
            () = tokio::time::sleep_until(self.call_at), if self.config.peer.is_some() => {
                Woken::CallDue
            }
        }
    }

    async fn bind(&mut self) {
        let config = TraversalConfig {
            stun_retries_max: self.config.stun_retries_max,
            stun_retry_delay: self.config.stun_retry_delay,
            profile: !self.config.baseline_only,
            host_candidates: self.config.host_candidates,
            search: self.config.search,
            ..TraversalConfig::new(self.id.clone())
        };
        let servers = self.config.stun_servers.clone();
        match Port::open(
            SocketAddrV4::new(self.config.listen_ip, self.config.udp_port),
            servers,
            config,
        )
        .await
        {
            Ok(mut port) => {
                self.notice(Notice::UdpBound(port.local_address()));
                if self.config.port_mapping && !self.config.baseline_only {
                    port.ask_port_mapping();
                }
                if self.registered {
                    port.handle(Input::Registered);
                }
                if let Some(welcome) = self.welcome.clone() {
                    port.handle(Input::V1(Box::new(ServerV1::Welcome(welcome))));
                }
                self.port = Some(port);
            }
            Err(error) => {
                self.bind_at = Instant::now() + REBIND_AFTER;
                self.notice(Notice::UdpUnavailable(error.to_string(), REBIND_AFTER));
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        self.notice(Notice::Signal(signal.clone()));
        match signal {
            Signal::Connected => self.registered(),
            Signal::Disconnected { .. } => {
                self.registered = false;
                if let Some(welcome) = self.welcome.take() {
                    self.resume = Some((welcome.resume, Instant::now() + RESUME_WITHIN));
                }
                self.tell(Input::Unregistered);
            }
            Signal::Message(FromServer::Offer(Ok(offer))) => self.tell(Input::Offer(offer)),
            Signal::Message(FromServer::Offer(Err(why))) => {
                self.tell(Input::BadOffer(why.to_string()));
            }
            Signal::Message(FromServer::SessionOffer(Ok(offer))) => {
                self.tell(Input::SessionOffer(offer));
            }
            Signal::Message(FromServer::SessionOffer(Err(bad))) => {
                // The rendezvous waits for it, and its peer does: both are told that nothing comes of it.
                if let Some(session) = bad.session {
                    self.send_v1(WorkerV1::Leave { session });
                }
            }
            Signal::Message(FromServer::V1(Ok(message))) => {
                if let ServerV1::Welcome(welcome) = *message {
                    self.welcomed(welcome);
                } else {
                    self.tell(Input::V1(message));
                }
            }
            Signal::Message(_)
            | Signal::Connecting(_)
            | Signal::ConnectedV1
            | Signal::Malformed(_) => {}
        }
    }

    /// There is a session with the rendezvous.
    fn registered(&mut self) {
        self.registered = true;
        self.tell(Input::Registered);
        match self.public_ip {
            Some(ip) => self.signalling.send(WorkerMessage::RegisterPublicIp { ip }),
            None => self.start_look_up(),
        }
    }

    /// The rendezvous speaks `holepunch.v1`: it is told who is there before anything else.
    fn welcomed(&mut self, welcome: Welcome) {
        let resume = self.resume.take().filter(|(_, until)| *until > Instant::now());
        self.welcome = Some(welcome.clone());
        self.send_v1(WorkerV1::Hello {
            room: None,
            mode: self.config.room_mode,
            key: None,
            signature: None,
            resume: resume.map(|(token, _)| token),
        });
        // Candidates go out before the report that asks for a peer.
        self.tell(Input::V1(Box::new(ServerV1::Welcome(welcome))));
        self.registered();
        self.call();
    }

    /// Calls the peer that is wanted, unless there is a session with it already.
    fn call(&mut self) {
        self.call_at = Instant::now() + CALL_AGAIN_AFTER;
        let Some(peer) = &self.config.peer else { return };
        let sessions = self.port.iter().flat_map(Port::sessions);
        if !sessions.into_iter().any(|session| session.peer == *peer) {
            self.send_v1(WorkerV1::Call { peer: peer.as_str().to_owned() });
        }
    }

    /// Sends a message of `holepunch.v1`, where the rendezvous of the moment speaks it and has been told
    /// who is there. What sessions have to say in between concerns nobody.
    fn send_v1(&self, message: WorkerV1) {
        if self.welcome.is_some() {
            self.signalling.send(WorkerMessage::V1(message));
        }
    }

    /// Tells the UDP port what the rendezvous said; without a port only an offer is worth a word.
    fn tell(&mut self, input: Input<'_>) {
        if let Some(port) = &mut self.port {
            port.handle(input);
        } else if let Input::Offer(_) = input {
            self.notice(Notice::Udp(Event::OfferIgnored(OfferRefusal::NotReady)));
        }
    }

    fn udp(&mut self, event: Event) {
        if let Event::Report(endpoint) = event {
            self.signalling.send(WorkerMessage::report(endpoint));
            self.notice(Notice::Reported(endpoint));
        } else if let Event::Signal(message) = event {
            return self.send_v1(message);
        }
        self.notice(Notice::Udp(event));
    }

    fn start_look_up(&mut self) {
        if let (None, None, Some(url)) = (&self.look_up, self.public_ip, &self.config.ip_echo_url) {
            let look_up = ip_echo::look_up(url.clone(), Arc::clone(&self.tls));
            self.look_up = Some(tokio::spawn(look_up));
        }
    }

    fn public_ip(&mut self, found: Result<IpAddr, String>) {
        self.look_up = None;
        match found {
            Ok(ip) => {
                self.public_ip = Some(ip);
                self.notice(Notice::PublicIp(ip));
                if self.registered {
                    self.signalling.send(WorkerMessage::RegisterPublicIp { ip });
                }
            }
            Err(why) => self.notice(Notice::PublicIpUnknown(why)),
        }
    }

    fn notice(&self, notice: Notice) {
        notice.log();
        let _unless_nobody_reads = self.notices.try_send(notice);
    }
}
