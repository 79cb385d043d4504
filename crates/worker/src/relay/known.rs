//! The relays of a worker's sessions: what opens them, and the tasks that keep them connected.

use std::collections::VecDeque;

use holepunch_link::RelayEnd;
use holepunch_wire::session::{RelayToken, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::SessionDetails;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{RelayAddress, RelayUrl, serve};
use crate::config::RendezvousUrl;
use crate::reach::Access;

/// Relays that are known: those of all sessions, and of as many that have been offered and have not begun yet.
const KNOWN_MAX: usize = 2 * SESSIONS_MAX;

/// What has been offered, and what is connected.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    /// The oldest first.
    known: VecDeque<Known>,
    tasks: JoinSet<()>,
}

/// The relay of one session.
#[derive(Debug)]
struct Known {
    session: SessionId,
    /// Where it is; `None`: at the rendezvous.
    url: Option<RelayUrl>,
    token: watch::Sender<RelayToken>,
    has_begun: bool,
}

impl Relays {
    /// A session has been offered: its relay waits for its beginning, which follows at once.
    pub(crate) fn offered(&mut self, details: &SessionDetails) {
        let session = details.session;
        let is_over = |it: &Known| it.has_begun && it.token.is_closed();
        self.known.retain(|it| it.session != session && !is_over(it));
        let Some(token) = details.relay_token.clone() else { return };
        let url = match details.relay_url.as_deref().map(str::parse).transpose() {
            Ok(url) => url,
            Err(why) => {
                // The peer is not at the rendezvous' own.
                tracing::warn!(%session, why, "the URL of the relay is not followed");
                return;
            }
        };
        if self.known.len() >= KNOWN_MAX {
            self.known.pop_front();
        }
        let token = watch::Sender::new(token);
        self.known.push_back(Known { session, url, token, has_begun: false });
    }

    /// The rendezvous has sent what opens the relay of a session from now on.
    pub(crate) fn renewed(&mut self, session: SessionId, token: RelayToken) {
        if let Some(known) = self.known.iter().find(|it| it.session == session) {
            known.token.send_replace(token);
        }
    }

    /// Whether the session has a relay that is to be connected once it begins.
    pub(crate) fn expects(&self, session: SessionId) -> bool {
        self.known.iter().any(|it| it.session == session && !it.has_begun)
    }

    /// The session has begun: `end` is connected until it is over.
    pub(crate) fn begin(
        &mut self,
        session: SessionId,
        end: RelayEnd,
        (rendezvous, access): (&RendezvousUrl, &Access),
    ) {
        while self.tasks.try_join_next().is_some() {}
        let Some(known) = self.known.iter_mut().find(|it| it.session == session) else { return };
        known.has_begun = true;
        let token = known.token.subscribe();
        let mut access = access.clone();
        let url = match &known.url {
            Some(url) => {
                // The password is the rendezvous' own: nobody else is told it.
                access.login = None;
                url.of_session(session)
            }
            None => rendezvous.relay(session),
        };
        self.tasks.spawn(serve(end, RelayAddress { url, token, access }));
    }

    pub(crate) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }
}
