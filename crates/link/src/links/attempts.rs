//! Which handshake begins when, by which kind of route; and when there is no sense in another one.
//!
//! The first packet of a handshake goes in the clear (RFC 9001 §5.2): whoever sees it, a relay or a TURN server among them,
//! can answer it with another key, close it, and begin handshakes of its own. So each kind of route has its own attempts,
//! and what fails by one of them says nothing of the others.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::view::View;
use crate::link::LinkError;
use crate::mux::Route;

/// A handshake that takes so long gets company over another route: more than the round trip of most
/// pairs, less than a lost first packet costs.
const SECOND_AFTER: Duration = Duration::from_millis(400);
/// What a machine needs for a handshake, beside the network.
const GUESS_GRACE: Duration = Duration::from_millis(10);
/// After one has failed, before the next over the same route.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Attempts of a session by one kind of route, on either side.
pub(super) const ATTEMPTS_MAX: u32 = 30;
/// A relay that may serve keeps a session without a direct path for so long, until the link is there: the
/// peer may use no relay.
pub(super) const RELAY_HOPE: Duration = Duration::from_secs(15);
/// A session in which a wrong key was shown ends so much later, where every route that there is has failed: the peer's
/// own answer may come to the next attempt, ...
const REFUSED_AFTER: Duration = Duration::from_secs(3);
const _: () = assert!(REFUSED_AFTER.as_millis() > 2 * AGAIN_AFTER.as_millis());
/// ... and at most so much later, where another route may still come or says nothing: as long as a relay keeps a session
/// without a link.
const REFUSED_AT_LAST: Duration = RELAY_HOPE;

/// A kind of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Direct,
    Relay,
    Turn,
}

impl Kind {
    pub(super) const COUNT: usize = 3;

    pub(super) fn of(route: Route) -> Self {
        match route {
            Route::Direct(..) => Self::Direct,
            Route::Relay(_) => Self::Relay,
            Route::Turn(_) => Self::Turn,
        }
    }
}

/// The routes that there are, the best first.
fn routes(view: &View) -> impl Iterator<Item = (Kind, Route)> {
    let direct = view.direct.filter(|_| !view.is_suspect()).or(view.heard);
    let mut relays = view.relays.clone();
    relays.sort_unstable();
    direct.into_iter().chain(relays).map(|route| (Kind::of(route), route))
}

/// Whether it is one of the routes that there are: the peer's checks, or the relay of the session, have shown it.
pub(super) fn is_known(view: &View, route: Route) -> bool {
    routes(view).any(|(_, known)| known == route)
}

/// An attempt that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) kind: Kind,
    pub(super) route: Route,
    /// Nothing has been heard by the route yet: others begin as if there were no such attempt.
    pub(super) is_guess: bool,
}

/// The attempts over one kind of route.
#[derive(Debug, Default, Clone, Copy)]
struct Attempt {
    running_since: Option<Instant>,
    not_before: Option<Instant>,
    made: u32,
}

impl Attempt {
    /// When another attempt may begin; `None` while one is running, and when there have been too many.
    fn free_at(&self, now: Instant) -> Option<Instant> {
        let is_free = self.running_since.is_none() && self.made < ATTEMPTS_MAX;
        is_free.then(|| self.not_before.unwrap_or(now))
    }
}

/// Of the side that connects, all attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// When a handshake began by a route of which nothing had been heard.
    guessed_at: Option<Instant>,
    /// When something was.
    heard_at: Option<Instant>,
    of: [Attempt; Kind::COUNT],
}

impl Attempts {
    /// What to start now, and when to look again.
    pub(super) fn next(&mut self, view: &View, now: Instant) -> (Option<Start>, Option<Instant>) {
        if routes(view).any(|(kind, _)| kind == Kind::Direct) {
            self.heard_at.get_or_insert(now);
        } else if let (Some(route), None) = (view.guess, self.guessed_at) {
            self.guessed_at = Some(now);
            return (Some(Start { kind: Kind::Direct, route, is_guess: true }), None);
        }
        let mut look_at: Option<Instant> = None;
        for (kind, route) in routes(view) {
            let Some(free_at) = self.of[kind as usize].free_at(now) else { continue };
            let latest = self.of.iter().filter_map(|attempt| attempt.running_since).max();
            let at = free_at.max(latest.map_or(now, |since| since + SECOND_AFTER));
            let guess_until = self.guess_has_time_until().filter(|_| kind == Kind::Direct);
            let at = at.max(guess_until.unwrap_or(at));
            if at <= now {
                return (Some(Start { kind, route, is_guess: false }), None);
            }
            look_at = Some(look_at.map_or(at, |earlier| earlier.min(at)));
        }
        (None, look_at)
    }

    /// A handshake that began with the checks should be through by now, if its first packet has not been
    /// lost at a NAT that was still closed: the peer's checks show how long one way takes. `None` where there is no such
    /// handshake, or no check yet.
    fn guess_has_time_until(&self) -> Option<Instant> {
        let (guessed_at, heard_at) = (self.guessed_at?, self.heard_at?);
        Some(heard_at + heard_at.saturating_duration_since(guessed_at) * 3 / 2 + GUESS_GRACE)
    }

    pub(super) fn started(&mut self, start: Start, now: Instant) {
        let attempt = &mut self.of[start.kind as usize];
        if !start.is_guess {
            attempt.made += 1;
            attempt.running_since = Some(now);
        }
    }

    pub(super) fn failed(&mut self, start: Start, now: Instant) {
        let attempt = &mut self.of[start.kind as usize];
        if !start.is_guess {
            (attempt.running_since, attempt.not_before) = (None, Some(now + AGAIN_AFTER));
        }
    }

    /// Whether one is under way, beside a guess.
    pub(super) fn is_running(&self) -> bool {
        self.of.iter().any(|attempt| attempt.running_since.is_some())
    }

    /// Whether every route that there is has had all of its attempts, and checks find no further one.
    pub(super) fn are_spent(&self, view: &View) -> bool {
        let mut made = routes(view).map(|(kind, _)| self.of[kind as usize].made).peekable();
        let is_all = made.peek().is_some() && made.all(|made| made >= ATTEMPTS_MAX);
        is_all && !view.may_get_direct() && !self.is_running()
    }
}

/// By which kinds of route handshakes have failed, and whether somebody showed a wrong key.
#[derive(Debug, Default)]
pub(super) struct Failures {
    kinds: BTreeSet<Kind>,
    /// The first one that was shown, and when.
    wrong_key: Option<(Instant, LinkError)>,
}

impl Failures {
    /// A handshake has failed, by this kind of route or, with `None`, from somewhere else.
    pub(super) fn note(&mut self, kind: Option<Kind>, error: LinkError, now: Instant) {
        self.kinds.extend(kind);
        if matches!(error, LinkError::WrongKey { .. }) {
            self.wrong_key.get_or_insert((now, error));
        }
    }

    /// When the session ends for a wrong key, unless another handshake is through before.
    pub(super) fn ends_at(&self, view: &View) -> Option<Instant> {
        let (since, _) = self.wrong_key.as_ref()?;
        let is_tried = routes(view).all(|(kind, _)| self.kinds.contains(&kind));
        let is_all = is_tried && !view.may_get_direct() && !view.may_get_relay();
        Some(*since + if is_all { REFUSED_AFTER } else { REFUSED_AT_LAST })
    }

    /// Why there is no link: for a wrong key where one was shown, since that explains the rest.
    pub(super) fn or_ended(self, otherwise: LinkError) -> LinkError {
        self.wrong_key.map_or(otherwise, |(_, error)| error)
    }

    /// The same, where there is no way to the peer.
    pub(super) fn or(self, otherwise: impl Into<String>) -> LinkError {
        self.or_ended(LinkError::Unreachable(otherwise.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_traversal::SocketId;
    use holepunch_wire::identity::PublicKey;
    use holepunch_wire::session::SessionId;

    const RELAY: Route = Route::Relay(SessionId(1));
    const TURN: Route = Route::Turn(SessionId(1));

    fn direct() -> Route {
        Route::Direct(SocketId::MAIN, "192.0.2.1:1".parse().unwrap())
    }

    fn start(route: Route) -> Start {
        Start { kind: Kind::of(route), route, is_guess: false }
    }

    fn wrong_key() -> LinkError {
        let key = |byte| PublicKey::from_bytes([byte; 32]);
        LinkError::WrongKey { expected: key(1), shown: key(2) }
    }

    #[tokio::test]
    async fn the_first_route_is_taken_and_a_slow_handshake_gets_company() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let mut view = View::default();
        assert_eq!(attempts.next(&view, now), (None, None));
        view.relays.push(RELAY);
        assert_eq!(attempts.next(&view, now).0, Some(start(RELAY)));
        attempts.started(start(RELAY), now);
        assert_eq!(attempts.next(&view, now), (None, None));
        view.heard = Some(direct());
        assert_eq!(attempts.next(&view, now), (None, Some(now + SECOND_AFTER)));
        assert_eq!(attempts.next(&view, now + SECOND_AFTER).0, Some(start(direct())));
    }

    #[tokio::test]
    async fn the_direct_route_comes_first_and_a_failed_one_waits() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let view = View { direct: Some(direct()), relays: vec![RELAY], ..View::default() };
        assert_eq!(attempts.next(&view, now).0, Some(start(direct())));
        attempts.started(start(direct()), now);
        attempts.failed(start(direct()), now);
        assert_eq!(attempts.next(&view, now).0, Some(start(RELAY)));
        let suspect = View { suspect: true, relays: Vec::new(), ..view };
        assert_eq!(attempts.next(&suspect, now + AGAIN_AFTER).0, None);
    }

    #[tokio::test]
    async fn a_route_by_which_all_fails_takes_no_attempts_from_the_others() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        let view = View { relays: vec![TURN, RELAY], ..View::default() };
        for _ in 0..ATTEMPTS_MAX {
            assert_eq!(attempts.next(&view, now).0, Some(start(RELAY)));
            attempts.started(start(RELAY), now);
            attempts.failed(start(RELAY), now);
            now += AGAIN_AFTER;
        }
        assert_eq!(attempts.next(&view, now).0, Some(start(TURN)));
        attempts.started(start(TURN), now);
        assert!(attempts.next(&view, now + AGAIN_AFTER).0.is_none() && !attempts.are_spent(&view));
        let view = View { heard: Some(direct()), ..view };
        assert_eq!(attempts.next(&view, now + AGAIN_AFTER).0, Some(start(direct())));
        attempts.failed(start(TURN), now);
        let relay_alone = View { relays: vec![RELAY], ..View::default() };
        assert!(!attempts.are_spent(&relay_alone), "checks are under way");
        let relay_alone = View { suspect: true, ..relay_alone };
        assert!(attempts.are_spent(&relay_alone) && !attempts.are_spent(&view));
        assert!(!attempts.are_spent(&View::default()), "a route may come");
    }

    #[tokio::test]
    async fn a_wrong_key_counts_when_every_route_has_failed() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let mut view = View { direct: Some(direct()), ..View::default() };
        let late = || LinkError::Unreachable(String::new());
        assert_eq!(failures.ends_at(&view), None);
        failures.note(None, wrong_key(), now);
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AT_LAST), "from elsewhere");
        failures.note(Some(Kind::Direct), wrong_key(), now + AGAIN_AFTER);
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AFTER));
        view.may_relay = true;
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AT_LAST), "a relay may come");
        view.relays.push(RELAY);
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AT_LAST), "it has not failed");
        failures.note(Some(Kind::Relay), late(), now);
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AFTER));
        view.direct = None;
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AT_LAST), "checks are under way");
        view.suspect = true;
        assert_eq!(failures.ends_at(&view), Some(now + REFUSED_AFTER));
        assert_eq!(failures.or("no route"), wrong_key());
        assert_eq!(Failures::default().or("none"), LinkError::Unreachable("none".to_owned()));
    }
}
