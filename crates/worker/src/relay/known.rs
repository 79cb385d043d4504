//! The relays of a worker's sessions: what opens them, and the tasks that keep them connected.

use std::collections::BTreeMap;

use holepunch_link::RelayEnd;
use holepunch_wire::session::{RelayToken, SessionId};
use holepunch_wire::signal::v1::SessionDetails;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{RelayAddress, RelayUrl, serve};
use crate::reach::Access;
use crate::rendezvous_url::RendezvousUrl;

/// The relays of the sessions that have begun.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    /// The newest token goes to the session's task by it.
    tokens: BTreeMap<SessionId, watch::Sender<RelayToken>>,
    tasks: JoinSet<()>,
}

impl Relays {
    /// The rendezvous has sent what opens the relay of a session from now on.
    pub(crate) fn renewed(&self, session: SessionId, token: RelayToken) {
        if let Some(newest) = self.tokens.get(&session) {
            newest.send_replace(token);
        }
    }

    /// A session has begun: where it has a relay, the `end` is connected until it is over.
    pub(crate) fn begin(
        &mut self,
        details: &SessionDetails,
        end: impl FnOnce() -> Option<RelayEnd>,
        (rendezvous, access): (&RendezvousUrl, &Access),
    ) {
        let session = details.session;
        while self.tasks.try_join_next().is_some() {}
        self.tokens.retain(|it, token| *it != session && !token.is_closed());
        let Some(token) = details.relay_token.clone() else { return };
        let url = match details.relay_url.as_deref().map(str::parse::<RelayUrl>).transpose() {
            Ok(url) => url,
            Err(why) => {
                // The peer is not at the rendezvous' own.
                tracing::warn!(%session, why, "the URL of the relay is not followed");
                return;
            }
        };
        let Some(end) = end() else { return };
        let mut access = access.clone();
        let url = match url {
            Some(url) => {
                // The password is the rendezvous' own: nobody else is told it.
                access.login = None;
                url.of_session(session)
            }
            None => rendezvous.relay(session),
        };
        let udp = details.relay_udp.clone();
        let (newest, token) = watch::channel(token);
        self.tokens.insert(session, newest);
        self.tasks.spawn(serve(end, RelayAddress { url, token, access, session, udp }));
    }

    pub(crate) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }
}
