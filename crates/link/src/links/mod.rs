//! From a session to a link: QUIC over the relay and the punched paths.
//!
//! Each session has a task. Of its two workers the controlling one connects, over the first route that
//! there is, and opens further paths in the same connection as routes come; both say by which path they
//! send: directly where that answers, else by the relay. The task ends when the link does.

mod attempts;
mod connect;
mod doors;
mod hello;
mod next_packet;
mod paths;
mod relay_end;
mod session;
mod single;
#[cfg(test)]
mod tests;
mod token;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use holepunch_traversal::SessionEvent;
use holepunch_wire::check::IceRole;
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::SessionOffer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use doors::{LinkConfig, LinkEvent};
#[cfg(any(test, feature = "testing"))]
pub(crate) use hello::testing;
pub use hello::{Guesses, RoomSecret, SESSION_GUESSES_MAX};
pub(crate) use hello::{LastWord, PROOF_BYTES};
pub use relay_end::{RelayEnd, RelayKind};

use crate::link::{CloseCode, LinkError, Windows};
use crate::mux::{Mux, MuxSocket, PacketDrops, Route};
use crate::quic;
use connect::{Handshakes, Incoming};
use doors::Teller;
use session::SessionTask;
use token::Token;
use view::View;

/// What happened to links that nobody has asked for yet; a session says a handful.
const EVENTS_MAX: usize = 256;
/// Connections of a session that wait to be looked at; an honest peer makes two.
pub(crate) const INCOMING_MAX: usize = 4;

#[derive(Debug)]
struct Entry {
    /// That of its task.
    number: u64,
    token: Token,
    is_controlling: bool,
    view: watch::Sender<View>,
}

type Table = Arc<Mutex<BTreeMap<Token, mpsc::Sender<Incoming>>>>;

/// All links of a worker.
#[derive(Debug)]
pub(crate) struct Links {
    endpoint: noq::Endpoint,
    mux: Arc<Mux>,
    config: Option<LinkConfig>,
    sessions: BTreeMap<SessionId, Entry>,
    /// Who takes the connections that begin with a session's token.
    expected: Table,
    tasks: JoinSet<()>,
    wrong_secrets: Arc<AtomicU64>,
    windows: Windows,
    /// Tasks so far.
    begun: u64,
    sender: mpsc::Sender<(u64, LinkEvent)>,
    events: mpsc::Receiver<(u64, LinkEvent)>,
}

impl Links {
    pub(crate) fn new(
        mux: Arc<Mux>,
        socket: MuxSocket,
        config: Option<LinkConfig>,
    ) -> io::Result<Self> {
        // Every connection is accepted with the settings of its session; these accept nobody.
        let server = config.as_ref().map(|config| {
            let own = config.identity.public_key();
            quic::server(&config.identity, own, &config.protocols, 0).map(|(server, _)| server)
        });
        let server = server.transpose().map_err(io::Error::other)?;
        let runtime = Arc::new(noq::TokioRuntime);
        let endpoint = noq::Endpoint::new_with_abstract_socket(
            quic::endpoint(),
            server,
            Box::new(socket),
            runtime,
        )?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let expected = Table::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(endpoint.clone(), Arc::clone(&expected)));
        let (sessions, wrong_secrets) = (BTreeMap::new(), Arc::default());
        let windows = Windows::default();
        Ok(Self {
            endpoint,
            mux,
            config,
            sessions,
            expected,
            tasks,
            wrong_secrets,
            windows,
            begun: 0,
            sender,
            events,
        })
    }

    /// A session is offered: where both have a key, a link is made of it.
    pub(crate) fn begin(&mut self, offer: &SessionOffer) {
        let anew = EndReason::OfferedAnew;
        self.end(offer.details.session, anew, anew.text());
        let (Some(config), Some(key)) = (&self.config, offer.details.peer_key) else { return };
        self.mux.tidy();
        let session = offer.details.session;
        let is_controlling = offer.details.role == IceRole::Controlling;
        let details = &offer.details;
        let server = if is_controlling { &details.peer_credentials } else { &details.credentials };
        let token = Token::new(server, session);
        let view = View { guess: view::guess(offer), ..View::default() };
        let (view, viewed) = watch::channel(view);
        let (incoming, from_incoming) = mpsc::channel(INCOMING_MAX);
        self.begun += 1;
        let teller = Teller { number: self.begun, sender: self.sender.clone() };
        let handshakes = Handshakes {
            session,
            peer: offer.peer.clone(),
            key,
            token,
            terms: hello::Terms::new(session, config.secret.clone(), config.guesses.clone()),
            config: config.clone(),
            endpoint: self.endpoint.clone(),
            mux: Arc::clone(&self.mux),
            view: viewed,
        };
        let task = SessionTask {
            handshakes,
            is_controlling,
            wrong_secrets: Arc::clone(&self.wrong_secrets),
            began: Instant::now(),
            windows: self.windows.clone(),
            incoming: from_incoming,
            teller,
        };
        if !is_controlling {
            lock(&self.expected).insert(token, incoming);
        }
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task.run());
        self.sessions.insert(session, Entry { number: self.begun, token, is_controlling, view });
    }

    fn end(&mut self, session: SessionId, code: EndReason, reason: &str) {
        let Some(entry) = self.sessions.remove(&session) else { return };
        lock(&self.expected).remove(&entry.token);
        self.mux.forget_session(session);
        entry.view.send_modify(|view| {
            view.ended = Some(LinkError::SessionEnded(code, reason.to_owned()));
        });
    }

    /// What the traversal machine says of a session.
    pub(crate) fn handle(&mut self, session: SessionId, event: &SessionEvent) {
        if let SessionEvent::Ended(code, reason) = event {
            return self.end(session, *code, reason);
        }
        let Some(entry) = self.sessions.get(&session) else { return };
        if let SessionEvent::AnswersFrom(socket, to, source) = event {
            // The accepting side answers to wherever a packet comes from.
            if entry.is_controlling {
                self.mux.answered_from(session, *socket, *to, *source);
            }
            return;
        }
        entry.view.send_if_modified(|view| {
            let is_changed = view.learn(event);
            for route in [view.direct, view.heard].into_iter().flatten().filter(|_| is_changed) {
                // From now on, what comes from there is known.
                self.mux.label(route);
            }
            is_changed
        });
    }

    /// Data goes unanswered on a session's direct path.
    pub(crate) fn doubt(&self, session: SessionId) {
        let Some(entry) = self.sessions.get(&session) else { return };
        entry.view.send_if_modified(View::doubt);
    }

    /// A way to attach a relay to a session; `None` where the session has no link.
    pub(crate) fn relay(&self, session: SessionId, kind: RelayKind) -> Option<RelayEnd> {
        self.config.as_ref().filter(|config| config.relay)?;
        let entry = self.sessions.get(&session)?;
        let route = match kind {
            RelayKind::Rendezvous => Route::Relay(session),
            RelayKind::Turn => Route::Turn(session),
        };
        entry.view.send_modify(|view| view.may_relay = true);
        Some(RelayEnd::new(Arc::clone(&self.mux), route, entry.view.clone()))
    }

    /// The own NAT has given the socket another address: the peers of idle links are to see it.
    pub(crate) fn rebound(&self) {
        for entry in self.sessions.values() {
            entry.view.send_modify(|view| view.rebound += 1);
        }
    }

    /// Datagrams that were dropped so far, by reason.
    pub(crate) fn drops(&self) -> PacketDrops {
        let mut drops = self.mux.drops();
        drops.quic_busy += self.endpoint.stats().dropped_datagrams;
        drops
    }

    /// The next thing that happened.
    pub(crate) async fn next_event(&mut self) -> LinkEvent {
        // One sender lives as long as this does.
        while let Some((number, event)) = self.events.recv().await {
            let now = self.sessions.get(&event.session());
            // A guess is told of whatever has become of its session: who begins sessions anew may be who guesses.
            let is_guess = matches!(event, LinkEvent::Ended { error: LinkError::WrongSecret, .. });
            if is_guess || now.is_none_or(|entry| entry.number == number) {
                return event;
            }
            tracing::debug!(session = %event.session(), ?event, "of a session that was begun anew");
        }
        std::future::pending().await
    }

    /// A link has ended: its session is forgotten here.
    pub(crate) fn ended(&mut self, session: SessionId) {
        self.end(session, EndReason::OwnLeave, "the link has ended");
    }

    /// Closes all links and waits until their last packets have left.
    pub(crate) async fn close(self) {
        self.endpoint.close(CloseCode::Other.into(), b"the worker ends");
        let _in_time = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_all_draining()).await;
    }
}

/// Time for the last packets of all links.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands each connection to the session whose token it begins with. Others get no answer.
async fn accept(endpoint: noq::Endpoint, expected: Table) {
    while let Some(incoming) = endpoint.accept().await {
        let token = Token::of_connection(&incoming.orig_dst_cid());
        let taker = token.and_then(|token| lock(&expected).get(&token).cloned());
        let refused = match taker {
            Some(taker) => taker
                .try_send(Incoming(Box::new(incoming)))
                .err()
                .map(mpsc::error::TrySendError::into_inner),
            None => Some(Incoming(Box::new(incoming))),
        };
        if let Some(Incoming(incoming)) = refused {
            incoming.ignore();
        }
    }
}
