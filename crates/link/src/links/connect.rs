//! The handshake: over the first route that there is, and over a second one where that takes long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::session::{Incoming, SessionTask};
use super::{View, hello, key_fits, shown};
use crate::link::{HANDSHAKE_BYTES, LinkError};
use crate::mux::Route;
use crate::quic;
use crate::tls::PeerVerifier;

/// A handshake that takes so long gets company over another route: more than the round trip of most
/// pairs, less than a lost first packet costs.
const SECOND_AFTER: Duration = Duration::from_millis(400);
/// What a machine needs for a handshake, beside the network.
const GUESS_GRACE: Duration = Duration::from_millis(10);
/// A handshake has so long.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
/// After one has failed, before the next over the same route.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Attempts of a session, on either side.
const ATTEMPTS_MAX: u32 = 30;
/// Connections of a session that shake hands at once.
const HANDSHAKES_MAX: usize = 4;

/// A connection, and the route of its first path.
pub(super) type Connected = (noq::Connection, Route);

type Outcome = (Kind, Result<Connected, LinkError>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Guess,
    Direct,
    Relay,
}

/// The attempts over one kind of route.
#[derive(Debug, Default, Clone, Copy)]
struct Attempt {
    running_since: Option<Instant>,
    not_before: Option<Instant>,
}

impl Attempt {
    /// When another attempt may begin; `None` while one is running.
    fn free_at(&self, now: Instant) -> Option<Instant> {
        self.running_since.is_none().then(|| self.not_before.unwrap_or(now))
    }
}

/// Of several attempts, the state.
#[derive(Debug, Default)]
struct Attempts {
    /// When a handshake began by a route of which nothing had been heard.
    guessed_at: Option<Instant>,
    /// When something was.
    heard_at: Option<Instant>,
    direct: Attempt,
    relay: Attempt,
    made: u32,
    running: JoinSet<Outcome>,
}

impl Attempts {
    fn of(&mut self, kind: Kind) -> &mut Attempt {
        match kind {
            Kind::Direct | Kind::Guess => &mut self.direct,
            Kind::Relay => &mut self.relay,
        }
    }

    /// What to start now, and when to look again.
    fn next(&mut self, view: &View, now: Instant) -> (Option<(Kind, Route)>, Option<Instant>) {
        let direct = view.direct.filter(|_| !view.is_suspect()).or(view.heard);
        if direct.is_some() {
            self.heard_at.get_or_insert(now);
        } else if let (Some(guess), None) = (view.guess, self.guessed_at) {
            self.guessed_at = Some(now);
            return (Some((Kind::Guess, guess)), None);
        }
        let routes = [
            (Kind::Direct, direct, self.direct, self.relay),
            (Kind::Relay, view.relay(), self.relay, self.direct),
        ];
        let mut look_at: Option<Instant> = None;
        for (kind, route, own, other) in routes {
            let (Some(route), Some(free_at)) = (route, own.free_at(now)) else { continue };
            let company_at = other.running_since.map_or(now, |since| since + SECOND_AFTER);
            let at = free_at.max(company_at);
            let at = if kind == Kind::Direct { at.max(self.guess_has_time_until()) } else { at };
            if at <= now {
                return (Some((kind, route)), None);
            }
            look_at = Some(look_at.map_or(at, |earlier| earlier.min(at)));
        }
        (None, look_at)
    }
}

impl Attempts {
    /// A handshake that began with the checks should be through by now, if its first packet has not been
    /// lost at a NAT that was still closed: the peer's checks show how long one way takes.
    fn guess_has_time_until(&self) -> Instant {
        match (self.guessed_at, self.heard_at) {
            (Some(guessed_at), Some(heard_at)) => {
                heard_at + heard_at.saturating_duration_since(guessed_at) * 3 / 2 + GUESS_GRACE
            }
            _ => self.heard_at.unwrap_or_else(Instant::now),
        }
    }
}

impl SessionTask {
    /// Connects to the peer.
    pub(super) async fn connect(&mut self) -> Result<Connected, LinkError> {
        key_fits(&self.peer, self.key)?;
        let mut attempts = Attempts::default();
        let turn = Arc::new(hello::turn());
        let mut view = self.view.clone();
        loop {
            let now = Instant::now();
            let seen = view.borrow_and_update().clone();
            if let Some(reason) = seen.ended {
                return Err(LinkError::Unreachable(reason));
            }
            let (start, look_at) = attempts.next(&seen, now);
            if let Some((kind, route)) = start {
                if attempts.made == ATTEMPTS_MAX {
                    return Err(LinkError::Unreachable(format!(
                        "{ATTEMPTS_MAX} handshakes were in vain"
                    )));
                }
                attempts.made += 1;
                if kind != Kind::Guess {
                    attempts.of(kind).running_since = Some(now);
                }
                let attempt = self.attempt(route, Arc::clone(&turn))?;
                attempts.running.spawn(async move { (kind, attempt.await) });
                continue;
            }
            let due = async {
                match look_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(Ok((kind, outcome))) = attempts.running.join_next() => match outcome {
                    Ok(connected) => return Ok(connected),
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        tracing::debug!(session = %self.session, ?kind, %error, "handshake failed");
                        if kind == Kind::Guess {
                            continue;
                        }
                        *attempts.of(kind) = Attempt {
                            running_since: None,
                            not_before: Some(Instant::now() + AGAIN_AFTER),
                        };
                    }
                },
                changed = view.changed() => if changed.is_err() {
                    return Err(LinkError::Unreachable("the worker has ended".to_owned()));
                },
                () = due => {}
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
        let (mut client, verifier) = quic::client(&self.config.identity, self.key, HANDSHAKE_BYTES)
            .map_err(LinkError::Protocol)?;
        let token = self.token;
        client.initial_dst_cid_provider(Arc::new(move || token.connection_id()));
        let label = self.mux.label(route);
        tracing::debug!(session = %self.session, route = shown(route), "handshake starts");
        let connecting = self.endpoint.connect_with(client, label, "holepunch");
        let connecting = connecting.map_err(|error| LinkError::Protocol(error.to_string()))?;
        let terms = self.terms.clone();
        Ok(async move {
            let connected = async {
                let connection = connecting.await.map_err(|error| explain(&error, &verifier))?;
                hello::connect(&connection, &terms, &turn).await?;
                Ok((connection, route))
            };
            timed(connected).await
        })
    }

    /// Waits for the peer to connect.
    pub(super) async fn accept(&mut self) -> Result<Connected, LinkError> {
        key_fits(&self.peer, self.key)?;
        let mut view = self.view.clone();
        let mut running: JoinSet<Result<Connected, LinkError>> = JoinSet::new();
        let mut made = 0;
        loop {
            if let Some(reason) = view.borrow_and_update().ended.clone() {
                return Err(LinkError::Unreachable(reason));
            }
            tokio::select! {
                Some(Incoming(incoming)) = self.incoming.recv() => {
                    if running.len() >= HANDSHAKES_MAX || made >= ATTEMPTS_MAX {
                        incoming.ignore();
                        continue;
                    }
                    made += 1;
                    running.spawn(self.answer(*incoming)?);
                }
                Some(Ok(outcome)) = running.join_next() => match outcome {
                    Ok(connected) => return Ok(connected),
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        tracing::debug!(session = %self.session, %error, "handshake failed");
                    }
                },
                changed = view.changed() => if changed.is_err() {
                    return Err(LinkError::Unreachable("the worker has ended".to_owned()));
                },
            }
        }
    }

    fn answer(
        &self,
        incoming: noq::Incoming,
    ) -> Result<impl Future<Output = Result<Connected, LinkError>> + Send + use<>, LinkError> {
        let (server, verifier) = quic::server(&self.config.identity, self.key, HANDSHAKE_BYTES)
            .map_err(LinkError::Protocol)?;
        let from = incoming.remote_address();
        let mux = Arc::clone(&self.mux);
        let terms = self.terms.clone();
        let accepted = incoming.accept_with(Arc::new(server));
        Ok(async move {
            let connected = async {
                let connecting = accepted.map_err(|error| explain(&error, &verifier))?;
                let connection = connecting.await.map_err(|error| explain(&error, &verifier))?;
                hello::accept(&connection, &terms).await?;
                let from = connection
                    .path(noq::PathId::ZERO)
                    .and_then(|path| path.remote_address().ok())
                    .unwrap_or(from);
                let route = mux.route(from);
                let route =
                    route.ok_or_else(|| LinkError::Protocol("a route that is gone".to_owned()))?;
                Ok((connection, route))
            };
            timed(connected).await
        })
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
        Some(shown) => LinkError::WrongKey { expected: verifier.expected(), shown },
        None => LinkError::from_connection(error),
    }
}

/// Whether another attempt would end alike.
fn is_final(error: &LinkError) -> bool {
    match error {
        LinkError::WrongKey { .. }
        | LinkError::Impostor { .. }
        | LinkError::WrongSecret
        | LinkError::SecretMissing(_) => true,
        LinkError::Closed(_)
        | LinkError::ClosedByPeer(_)
        | LinkError::Unreachable(_)
        | LinkError::Protocol(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_traversal::SocketId;
    use holepunch_wire::session::SessionId;

    const RELAY: Route = Route::Relay(SessionId(1));

    fn direct() -> Route {
        Route::Direct(SocketId::MAIN, "192.0.2.1:1".parse().unwrap())
    }

    #[tokio::test]
    async fn the_first_route_is_taken_and_a_slow_handshake_gets_company() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let mut view = View::default();
        assert_eq!(attempts.next(&view, now), (None, None));
        view.relays.push(RELAY);
        assert_eq!(attempts.next(&view, now).0, Some((Kind::Relay, RELAY)));
        attempts.relay.running_since = Some(now);
        assert_eq!(attempts.next(&view, now), (None, None));
        view.heard = Some(direct());
        assert_eq!(attempts.next(&view, now), (None, Some(now + SECOND_AFTER)));
        assert_eq!(attempts.next(&view, now + SECOND_AFTER).0, Some((Kind::Direct, direct())));
    }

    #[tokio::test]
    async fn the_direct_route_comes_first_and_a_failed_one_waits() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let view = View { direct: Some(direct()), relays: vec![RELAY], ..View::default() };
        assert_eq!(attempts.next(&view, now).0, Some((Kind::Direct, direct())));
        attempts.direct.not_before = Some(now + AGAIN_AFTER);
        assert_eq!(attempts.next(&view, now).0, Some((Kind::Relay, RELAY)));
        let suspect = View { suspect: true, relays: Vec::new(), ..view };
        assert_eq!(attempts.next(&suspect, now + AGAIN_AFTER).0, None);
    }
}
