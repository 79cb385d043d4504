//! The handshake: over the first route that there is, and over a second one where that takes long.

use std::sync::Arc;
use std::time::Duration;

use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::session::SessionId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::attempts::{ATTEMPTS_MAX, Attempts, Failures, Kind, Start, is_known};
use super::doors::LinkConfig;
use super::hello;
use super::hello::{LastWord, Terms};
use super::token::Token;
use super::view::View;
use crate::link::{HANDSHAKE_BYTES, LinkError};
use crate::mux::{Mux, Route};
use crate::quic;
use crate::tls::PeerVerifier;

/// A handshake has so long.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
/// Whoever accepts waits so long for a link where there is a direct path, several attempts of an honest peer: one that
/// answers checks and never shakes hands would keep its session for ever.
const LINKED_WITHIN: Duration = Duration::from_secs(45);
const _: () = assert!(LINKED_WITHIN.as_secs() > 4 * ATTEMPT_WITHIN.as_secs());
/// Connections of a session that shake hands at once, by one kind of route.
const HANDSHAKES_MAX: usize = 4;

/// A connection that has begun with a session's token. Boxed, since a channel keeps room for 32 of them.
#[derive(Debug)]
pub(super) struct Incoming(pub(super) Box<noq::Incoming>);

/// What the handshakes of a session need.
#[derive(Debug)]
pub(super) struct Handshakes {
    pub(super) session: SessionId,
    pub(super) peer: WorkerId,
    /// The key that the rendezvous names for the peer.
    pub(super) key: PublicKey,
    pub(super) token: Token,
    pub(super) terms: Terms,
    pub(super) config: LinkConfig,
    pub(super) endpoint: noq::Endpoint,
    pub(super) mux: Arc<Mux>,
    pub(super) view: watch::Receiver<View>,
}

/// A connection that is a link.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) connection: noq::Connection,
    /// The route of its first path.
    pub(super) route: Route,
    pub(super) last_word: LastWord,
    /// What the two have agreed on to speak over it.
    pub(super) protocol: Option<Vec<u8>>,
}

/// What has become of an attempt.
type Outcome<Of> = (Of, Result<Connected, LinkError>);

/// Of the side that accepts, the connections that came by one kind of route, or from elsewhere.
#[derive(Debug, Default, Clone, Copy)]
struct Accepted {
    running: usize,
    made: u32,
}

impl Accepted {
    /// Whether another one is answered; if so it counts.
    fn may_begin(&mut self) -> bool {
        let may = self.running < HANDSHAKES_MAX && self.made < ATTEMPTS_MAX;
        self.running += usize::from(may);
        self.made += u32::from(may);
        may
    }
}

impl Handshakes {
    /// The expected key and the one of the id, where the id was made from a key.
    fn key_fits(&self) -> Result<(), LinkError> {
        if self.key.may_be_of(&self.peer) {
            return Ok(());
        }
        Err(LinkError::Impostor { id: self.peer.clone(), shown: self.key })
    }

    /// Connects to the peer.
    pub(super) async fn connect(&self) -> Result<Connected, LinkError> {
        self.key_fits()?;
        let (mut attempts, mut failures) = (Attempts::default(), Failures::default());
        let mut running: JoinSet<Outcome<Start>> = JoinSet::new();
        let turn = Arc::new(hello::turn());
        let mut view = self.view.clone();
        loop {
            let now = Instant::now();
            let seen = view.borrow_and_update().clone();
            if let Some(why) = seen.ended {
                return Err(failures.or_ended(why));
            }
            let refused_at = failures.ends_at(&seen).filter(|_| !attempts.is_running());
            if refused_at.is_some_and(|at| at <= now) || attempts.are_spent(&seen) {
                return Err(failures.or(format!("{ATTEMPTS_MAX} handshakes were in vain")));
            }
            let (start, look_at) = attempts.next(&seen, now);
            if let Some(start) = start {
                attempts.started(start, now);
                match self.attempt(start.route, Arc::clone(&turn)) {
                    Ok(attempt) => {
                        running.spawn(async move { (start, attempt.await) });
                    }
                    // Another route may still do.
                    Err(error) => {
                        tracing::debug!(session = %self.session, ?start, %error, "no handshake");
                        attempts.failed(start, now);
                        failures.note(Some(start.kind), error, now);
                    }
                }
                continue;
            }
            tokio::select! {
                Some(Ok((start, outcome))) = running.join_next() => match outcome {
                    Ok(connected) => return Ok(connected),
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        tracing::debug!(session = %self.session, ?start, %error, "handshake failed");
                        let now = Instant::now();
                        attempts.failed(start, now);
                        failures.note(Some(start.kind), error, now);
                    }
                },
                changed = view.changed() => if changed.is_err() {
                    return Err(LinkError::Unreachable("the worker has ended".to_owned()));
                },
                () = until([look_at, refused_at].into_iter().flatten().min()) => {}
            }
        }
    }

    /// One handshake by a route, and the first stream. Of several that are through, the one that has the `turn` becomes
    /// the link.
    fn attempt(
        &self,
        route: Route,
        turn: Arc<Semaphore>,
    ) -> Result<impl Future<Output = Result<Connected, LinkError>> + Send + use<>, LinkError> {
        let Self { config, key, .. } = self;
        let protocols = config.protocols.clone();
        let (mut client, verifier) =
            quic::client(&config.identity, *key, &protocols, HANDSHAKE_BYTES)
                .map_err(LinkError::Protocol)?;
        let token = self.token;
        client.initial_dst_cid_provider(Arc::new(move || token.connection_id()));
        let label = self.mux.label(route);
        tracing::debug!(session = %self.session, %route, "handshake starts");
        let connecting = self.endpoint.connect_with(client, label, "holepunch");
        let connecting = connecting.map_err(|error| LinkError::Protocol(error.to_string()))?;
        let terms = self.terms.clone();
        Ok(async move {
            let connected = async {
                let connection = connecting.await.map_err(|error| explain(&error, &verifier))?;
                let protocol = protocols.agree(&connection)?;
                let last_word = hello::connect(&connection, &terms, &turn).await?;
                Ok(Connected { connection, route, last_word, protocol })
            };
            timed(connected).await
        })
    }

    /// Waits for the peer to connect.
    pub(super) async fn accept(
        &self,
        waiting: &mut mpsc::Receiver<Incoming>,
    ) -> Result<Connected, LinkError> {
        self.key_fits()?;
        let mut view = self.view.clone();
        let mut running: JoinSet<Outcome<Option<Kind>>> = JoinSet::new();
        let mut failures = Failures::default();
        // Whoever knows the token may come from anywhere: the last share is for those from elsewhere.
        let mut accepted = [Accepted::default(); Kind::COUNT + 1];
        let share = |kind: Option<Kind>| kind.map_or(Kind::COUNT, |kind| kind as usize);
        let mut over_at = None;
        loop {
            let seen = view.borrow_and_update().clone();
            if over_at.is_none() && seen.direct.is_some() {
                over_at = Some(Instant::now() + LINKED_WITHIN);
            }
            if let Some(why) = seen.ended {
                return Err(failures.or_ended(why));
            }
            let refused_at = failures.ends_at(&seen).filter(|_| running.is_empty());
            tokio::select! {
                Some(Incoming(incoming)) = waiting.recv() => {
                    let route = self.mux.route(incoming.remote_address());
                    let kind = route.filter(|route| is_known(&seen, *route)).map(Kind::of);
                    if !accepted[share(kind)].may_begin() {
                        incoming.ignore();
                        continue;
                    }
                    let answer = self.answer(*incoming)?;
                    running.spawn(async move { (kind, answer.await) });
                }
                Some(Ok((kind, outcome))) = running.join_next() => match outcome {
                    Ok(connected) => return Ok(connected),
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        tracing::debug!(session = %self.session, ?kind, %error, "handshake failed");
                        accepted[share(kind)].running -= 1;
                        failures.note(kind, error, Instant::now());
                    }
                },
                changed = view.changed() => if changed.is_err() {
                    return Err(LinkError::Unreachable("the worker has ended".to_owned()));
                },
                () = until(refused_at) => return Err(failures.or("the peer was refused")),
                () = until(over_at) => return Err(failures.or("the peer has made no link in time")),
            }
        }
    }

    fn answer(
        &self,
        incoming: noq::Incoming,
    ) -> Result<impl Future<Output = Result<Connected, LinkError>> + Send + use<>, LinkError> {
        let Self { config, key, .. } = self;
        let protocols = config.protocols.clone();
        let (server, verifier) = quic::server(&config.identity, *key, &protocols, HANDSHAKE_BYTES)
            .map_err(LinkError::Protocol)?;
        let from = incoming.remote_address();
        let mux = Arc::clone(&self.mux);
        let terms = self.terms.clone();
        let accepted = incoming.accept_with(Arc::new(server));
        Ok(async move {
            let connected = async {
                let connecting = accepted.map_err(|error| explain(&error, &verifier))?;
                let connection = connecting.await.map_err(|error| explain(&error, &verifier))?;
                let protocol = protocols.agree(&connection)?;
                hello::accept(&connection, &terms).await?;
                let from = connection
                    .path(noq::PathId::ZERO)
                    .and_then(|path| path.remote_address().ok())
                    .unwrap_or(from);
                let route = mux.route(from);
                let route =
                    route.ok_or_else(|| LinkError::Protocol("a route that is gone".to_owned()))?;
                let last_word = LastWord::default();
                Ok(Connected { connection, route, last_word, protocol })
            };
            timed(connected).await
        })
    }
}

/// Waits for a moment, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn timed(
    connected: impl Future<Output = Result<Connected, LinkError>>,
) -> Result<Connected, LinkError> {
    let late = || LinkError::Unreachable("the handshake took too long".to_owned());
    timeout(ATTEMPT_WITHIN, connected).await.unwrap_or_else(|_| Err(late()))
}

fn explain(error: &noq::ConnectionError, verifier: &PeerVerifier) -> LinkError {
    match verifier.wrong_key() {
        Some(shown) => LinkError::WrongKey { expected: verifier.expected, shown },
        None => LinkError::from_connection(error),
    }
}

/// Whether another attempt would end alike. A wrong key is no such reason: anybody on the way may show one.
fn is_final(error: &LinkError) -> bool {
    match error {
        LinkError::Impostor { .. }
        | LinkError::WrongSecret
        | LinkError::SecretMissing(_)
        | LinkError::NoProtocol(_) => true,
        LinkError::WrongKey { .. }
        | LinkError::Closed(_)
        | LinkError::ClosedByPeer(_)
        | LinkError::Unreachable(_)
        | LinkError::SessionEnded(..)
        | LinkError::Protocol(_) => false,
    }
}
