//! One session's task, from the offer to the end of its link.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holepunch_traversal::RelayState;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::attempts::RELAY_HOPE;
use super::connect::{Connected, Handshakes, Incoming};
use super::doors::{LinkEvent, Teller};
use super::paths::{Paths, Scope};
use crate::link::{Ending, Link, LinkError, PathState, Peer, Windows};

/// Time for the last packets of a link that this side has ended, also where they go by the relay: for those
/// that leave at once, and the answer to a packet of the peer's that was under way.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What the task holds.
#[derive(Debug)]
pub(super) struct SessionTask {
    pub(super) handshakes: Handshakes,
    pub(super) is_controlling: bool,
    /// Peers of this worker, so far, that did not know the room's secret.
    pub(super) wrong_secrets: Arc<AtomicU64>,
    pub(super) began: std::time::Instant,
    pub(super) windows: Windows,
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) teller: Teller,
}

impl SessionTask {
    pub(super) async fn run(mut self) {
        let Handshakes { session, ref peer, .. } = self.handshakes;
        let (peer, teller) = (peer.clone(), self.teller.clone());
        let error = match self.live().await {
            Ok(error) => error,
            // Whoever has seen this side's proof and has gone without a link has made a guess, and knows that it was
            // wrong. That is to be seen, and counted, whatever has ended the session.
            Err(_) if self.handshakes.terms.was_guessed() => LinkError::WrongSecret,
            Err(error) => error,
        };
        if error == LinkError::WrongSecret {
            let wrong_secrets = self.wrong_secrets.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(%session, %peer, wrong_secrets, "the peer does not know the room's secret");
        }
        // When the worker hears of it, the session's routes are gone, and the peer hears from the rendezvous
        // that there is nothing more. Before that it is to hear why, by the link.
        if !matches!(
            error,
            LinkError::ClosedByPeer(_) | LinkError::Unreachable(_) | LinkError::SessionEnded(..)
        ) {
            sleep(LAST_WORDS).await;
        }
        let _unless_the_worker_has_ended =
            teller.tell(LinkEvent::Ended { session, peer, error }).await;
    }

    /// Why the link has ended, or why there was none.
    async fn live(&mut self) -> Result<LinkError, LinkError> {
        // Boxed, so that a link does not keep the room of its handshake.
        let Connected { connection, route, last_word, protocol } =
            Box::pin(self.established()).await?;
        self.handshakes.terms.was_right();
        // Others of the session come too late. Those that wait would keep their datagrams as long as the link lives.
        self.incoming.close();
        while let Ok(Incoming(late)) = self.incoming.try_recv() {
            late.ignore();
        }
        let state = PathState::new(self.began);
        let ending = Arc::<Ending>::default();
        let Handshakes { session, key, .. } = self.handshakes;
        let is_controlling = self.is_controlling;
        let peer = Peer {
            session,
            id: self.handshakes.peer.clone(),
            key,
            is_controlling,
            knows_secret: self.handshakes.config.secret.is_some(),
            protocol,
        };
        let scope = Scope {
            session,
            is_controlling,
            mux: Arc::clone(&self.handshakes.mux),
            view: self.handshakes.view.clone(),
            teller: self.teller.clone(),
        };
        let closed = connection.on_closed();
        let mut paths = Paths::new(scope, &connection, route, &state, &ending);
        let window = self.windows.open();
        let link = Link::new(connection, peer, state, (Arc::clone(&ending), last_word), window);
        if !self.teller.tell(LinkEvent::Established(link)).await {
            return Ok(LinkError::Closed("the worker has ended".into()));
        }
        tokio::select! {
            closed = closed => Ok(ending.explain(&closed.reason)),
            error = paths.drive() => Ok(error),
        }
    }

    async fn established(&mut self) -> Result<Connected, LinkError> {
        let Handshakes { session, ref view, .. } = self.handshakes;
        let (teller, mut view) = (self.teller.clone(), view.clone());
        let hope = async {
            let over = Instant::now() + RELAY_HOPE;
            let attached = async { view.wait_for(|view| view.may_relay).await.is_ok() };
            if timeout_at(over, attached).await == Ok(true) {
                let _or_ended = teller.tell(LinkEvent::Relayed(session, RelayState::Hoped)).await;
                sleep_until(over).await;
                let _or_ended = teller.tell(LinkEvent::Relayed(session, RelayState::Absent)).await;
            }
            std::future::pending::<()>().await;
        };
        let (handshakes, incoming) = (&self.handshakes, &mut self.incoming);
        let is_controlling = self.is_controlling;
        let established = async {
            if is_controlling {
                handshakes.connect().await
            } else {
                handshakes.accept(incoming).await
            }
        };
        tokio::select! {
            established = established => established,
            () = hope => Err(LinkError::Unreachable("no route".to_owned())),
        }
    }
}
