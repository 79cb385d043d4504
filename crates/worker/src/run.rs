//! The worker's one task, between the rendezvous and the UDP port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use holepunch_link::{
    Event, Identity, Input, Link, LinkConfig, LinkEvent, OfferRefusal, Port, PortEvent, RelayKind,
    SessionEvent, TraversalConfig,
};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::Registration;
use holepunch_wire::session::{RelayToken, SessionId};
use holepunch_wire::signal::v1::{ServerV1, Welcome, WorkerV1};
use holepunch_wire::signal::{FromServer, WorkerMessage};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::config::Config;
use crate::ip_echo;
use crate::log_budget::LogBudget;
use crate::no_endpoint::Unseen;
use crate::notice::Notice;
use crate::relay::{self, RelayAddress};
use crate::signalling::{Signal, Signalling};
use crate::story::Stories;
use crate::tls::Tls;
use crate::turn::Turns;

/// A UDP port that is taken is tried again after so long.
const REBIND_AFTER: Duration = Duration::from_secs(5);
/// A peer that is wanted, and with which there is no session, is called again after this time.
pub(crate) const CALL_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A rendezvous keeps the place of a worker that has lost its connection for so long.
const RESUME_WITHIN: Duration = Duration::from_secs(30);
/// Relay tokens that wait for the beginning of their session, which follows at once.
const TOKENS_MAX: usize = 64;

/// What the task holds.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: WorkerId,
    pub(crate) identity: Identity,
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) signalling: Signalling,
    pub(crate) port: Option<Port>,
    /// When the UDP port is to be bound, as long as it is not.
    pub(crate) bind_at: Instant,
    /// When the peer that is wanted is called again.
    pub(crate) call_at: Instant,
    /// Whether there is a session with the rendezvous.
    pub(crate) registered: bool,
    /// What the rendezvous has said at first in this session, where it speaks `holepunch.v1`.
    pub(crate) welcome: Option<Welcome>,
    /// Lets the worker take its place again, for a while after it has lost its connection.
    pub(crate) resume: Option<(String, Instant)>,
    pub(crate) look_up: Option<JoinHandle<Result<IpAddr, String>>>,
    pub(crate) public_ip: Option<IpAddr>,
    pub(crate) notices: mpsc::Sender<Notice>,
    /// What the rendezvous may still have logged.
    pub(crate) log_budget: LogBudget,
    pub(crate) links: mpsc::Sender<Link>,
    pub(crate) stories: Stories,
    /// What opens the relays of sessions that have been offered and have not begun yet.
    pub(crate) tokens: BTreeMap<SessionId, RelayToken>,
    pub(crate) relays: JoinSet<()>,
    pub(crate) turns: Turns,
}

/// What the task woke up for.
enum Woken {
    Stop,
    Signal(Signal),
    Udp(PortEvent),
    Bind,
    PublicIp(Result<IpAddr, String>),
    CallDue,
    /// An address on a TURN server, which the peer of the session is to be told.
    TurnAddress(SessionId, SocketAddr),
}

impl Run {
    pub(crate) async fn until(mut self, mut stopped: oneshot::Receiver<()>) {
        self.start_look_up();
        loop {
            match self.woken(&mut stopped).await {
                Woken::Stop => break,
                Woken::Signal(signal) => self.signal(signal),
                Woken::Udp(PortEvent::Traversal(event)) => self.udp(event),
                Woken::Udp(PortEvent::Link(event)) => self.link(event),
                Woken::Bind => self.bind().await,
                Woken::PublicIp(found) => self.public_ip(found),
                Woken::CallDue => self.call(),
                Woken::TurnAddress(session, address) => {
                    self.send_v1(WorkerV1::TurnAddress { session, address });
                }
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
            // The last packets of links may go by them.
            self.turns.close().await;
        };
        tokio::join!(self.signalling.close(), close_port);
        // The last packets of links go by the relays, too.
        self.relays.abort_all();
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
            (session, address) = self.turns.next() => Woken::TurnAddress(session, address),
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
        let links = (self.config.links && !self.config.baseline_only).then(|| LinkConfig {
            identity: self.identity.clone(),
            secret: self.config.room_secret.clone(),
            relay: self.config.relay,
        });
        match Port::open(
            SocketAddrV4::new(self.config.listen_ip, self.config.udp_port),
            servers,
            config,
            links,
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
                self.turns.offered(&offer.details);
                if let Some(token) = &offer.details.relay_token {
                    self.tokens.insert(offer.details.session, token.clone());
                }
                if self.tokens.len() > TOKENS_MAX {
                    self.tokens.pop_first();
                }
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
                } else if let ServerV1::PeerTurnAddress { session, address } = *message {
                    self.turns.peer_at(session, address);
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
        let challenge = welcome.challenge.clone();
        self.turns.renewed(welcome.turn.clone());
        self.welcome = Some(welcome.clone());
        let signature = self.identity.sign(&Registration {
            host: self.config.rendezvous.host(),
            challenge: &challenge,
            worker: &self.id,
            room: &self.config.room,
        });
        self.send_v1(WorkerV1::Hello {
            room: None,
            mode: self.config.room_mode,
            key: Some(self.identity.public_key()),
            signature: Some(Box::new(signature)),
            resume: resume.map(|(token, _)| token),
        });
        for (session, address) in self.turns.own() {
            self.send_v1(WorkerV1::TurnAddress { session, address });
        }
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
        } else if let Event::NoEndpoint(missing) = event {
            return self.notice(Notice::NoEndpoint(Unseen::new(missing, &self.config)));
        } else if let Event::Signal(message) = event {
            return self.send_v1(message);
        } else if let Event::Session(session, _, SessionEvent::Started(_)) = &event {
            self.start_relays(*session);
        }
        self.notice(Notice::Udp(event));
    }

    /// Connects to the relays of a session that has begun.
    fn start_relays(&mut self, session: SessionId) {
        while self.relays.try_join_next().is_some() {}
        if self.turns.expects(session)
            && let Some(port) = &self.port
            && let Some(end) = port.relay(session, RelayKind::Turn)
        {
            self.turns.begin(session, end);
        }
        let Some(token) = self.tokens.remove(&session) else { return };
        let end = self.port.as_ref().and_then(|port| port.relay(session, RelayKind::Rendezvous));
        if let Some(end) = end {
            let url = self.config.rendezvous.relay(session);
            let address = RelayAddress { url, token, tls: self.tls.clone() };
            self.relays.spawn(relay::serve(end, address));
        }
    }

    fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Established(link) => {
                self.stories.linked(&link);
                self.notice(Notice::Linked(link.peer().clone(), link.session(), link.path()));
                // Nobody takes so many: it would hang without an owner.
                if let Err(error) = self.links.try_send(link) {
                    error.into_inner().close("nobody takes this link");
                }
            }
            LinkEvent::Ended { session, peer, error } => {
                self.notice(Notice::LinkEnded(peer, session, error));
                self.tell(Input::Leave(session));
            }
            // The port has dealt with them.
            LinkEvent::Doubt(_) | LinkEvent::Relayed(..) => {}
        }
    }

    fn start_look_up(&mut self) {
        if let (None, None, Some(url)) = (&self.look_up, self.public_ip, &self.config.ip_echo_url) {
            let look_up = ip_echo::look_up(url.clone(), self.tls.clone());
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

    pub(crate) fn notice(&self, notice: Notice) {
        if !notice.is_of_the_rendezvous() || self.log_budget.allows_one() {
            notice.log();
        }
        self.stories.note(&notice);
        let _unless_nobody_reads = self.notices.try_send(notice);
    }
}
