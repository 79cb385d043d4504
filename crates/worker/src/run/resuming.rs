//! What a worker shows, and tells of its sessions, when it has lost its connection to the rendezvous and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use holepunch_link::SessionStatus;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::{HELD_MAX, HeldSession, SessionOffer};
use tokio::time::Instant;

/// A rendezvous keeps the place of a worker that has lost its connection for so long.
const RESUME_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Resuming {
    /// Lets the worker take its place again, for a while after it has lost its connection.
    token: Option<(String, Instant)>,
    /// That of the last welcome. It is good for sessions once the hello that has answered it is heard: until then they are
    /// those of the token before.
    welcomed: Option<String>,
    is_connected: bool,
    held: BTreeMap<SessionId, HeldSession>,
}

/// What a hello says of the connection before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) token: Option<String>,
    pub(crate) sessions: Option<Vec<SessionId>>,
    pub(crate) held: Vec<HeldSession>,
}

impl Resuming {
    /// The rendezvous has said something that is no welcome: it has heard the hello before.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let Some(token) = self.welcomed.take() {
            self.token = Some((token, now + RESUME_WITHIN));
        }
    }

    /// The connection is lost.
    pub(crate) fn lost(&mut self, now: Instant) {
        let is_heard = self.welcomed.take().is_none();
        // An attempt that has come to nothing is told likewise.
        let is_lost = std::mem::take(&mut self.is_connected) && is_heard;
        if let Some((_, until)) = self.token.as_mut().filter(|_| is_lost) {
            *until = now + RESUME_WITHIN;
        }
    }

    pub(crate) fn offered(&mut self, offer: &SessionOffer) {
        self.held.insert(offer.details.session, offer.held(false));
    }

    pub(crate) fn planned(&mut self, session: SessionId, plan: &Plan) {
        if let Some(held) = self.held.get_mut(&session) {
            held.planned(plan);
        }
    }

    /// There is another connection, whose welcome has this token; these sessions there are still.
    pub(crate) fn welcomed(
        &mut self,
        token: String,
        sessions: impl Iterator<Item = SessionStatus>,
        now: Instant,
    ) -> Resumed {
        (self.welcomed, self.is_connected) = (Some(token), true);
        let sessions: BTreeMap<_, _> = sessions.map(|it| (it.id, it.path.is_some())).collect();
        self.held.retain(|id, _| sessions.contains_key(id));
        let Some((token, _)) = self.token.as_ref().filter(|(_, until)| *until > now) else {
            return Resumed::default();
        };
        let held = self.held.values().take(HELD_MAX).map(|held| {
            let direct = sessions.get(&held.session).is_some_and(|direct| *direct);
            HeldSession { direct, ..held.clone() }
        });
        Resumed {
            token: Some(token.clone()),
            sessions: Some(sessions.keys().copied().collect()),
            held: held.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(resuming: &mut Resuming, next: &str, now: Instant) -> Option<String> {
        resuming.welcomed(next.to_owned(), std::iter::empty(), now).token
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_shown_once_its_hello_was_heard_and_the_one_before_until_then() {
        let (mut resuming, now) = (Resuming::default(), Instant::now());
        assert_eq!(token(&mut resuming, "a", now), None);
        resuming.lost(now);
        assert_eq!(token(&mut resuming, "b", now), None, "a hello that nobody has heard");
        resuming.heard(now);
        resuming.lost(now);
        assert_eq!(token(&mut resuming, "c", now).as_deref(), Some("b"));
        resuming.lost(now);
        assert_eq!(token(&mut resuming, "d", now).as_deref(), Some("b"), "c was not heard");
        resuming.heard(now);
        resuming.lost(now + 2 * RESUME_WITHIN);
        let late = now + 2 * RESUME_WITHIN;
        assert_eq!(token(&mut resuming, "e", late).as_deref(), Some("d"));
        for _ in 0..3 {
            resuming.lost(late);
        }
        assert_eq!(token(&mut resuming, "f", late + RESUME_WITHIN), None);
    }
}
