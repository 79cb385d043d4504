//! What speaks for the direct route, and what against it.

use std::time::{Duration, Instant};

use crate::doors::{Route, Routes};

/// A narrow path is tried again so much later, which doubles ...
const TRY_FIRST: Duration = Duration::from_secs(2);
/// ... up to this: each time costs both sides some packets of full size.
const TRY_LONGEST: Duration = Duration::from_secs(60);

/// What the checks on the direct route say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// They are answered, or there are none.
    Answered,
    /// They are not.
    Silent,
    /// They are not, and a path by a direct route has been validated since: packets of full size have passed both ways
    /// (RFC 9000 §8.2), which is newer than their silence.
    Outdated,
}

/// A direct route that answers checks and carries no data, or did not.
#[derive(Debug)]
struct Narrow<R> {
    route: R,
    /// When it is tried again; `None` once a path by this route has been validated.
    try_at: Option<Instant>,
    wait: Duration,
}

/// How the direct route stands.
#[derive(Debug)]
pub(crate) struct Standing<R> {
    checks: Checks,
    narrow: Option<Narrow<R>>,
}

impl<R: Route> Standing<R> {
    pub(crate) fn new(routes: &Routes<R>) -> Self {
        let checks = if routes.is_suspect { Checks::Silent } else { Checks::Answered };
        Self { checks, narrow: None }
    }

    /// Something is known of the routes. Whether a check has been answered after silence.
    pub(crate) fn learn(&mut self, routes: &Routes<R>) -> bool {
        let before = self.checks;
        self.checks = match (routes.is_suspect, before) {
            (false, _) => Checks::Answered,
            (true, Checks::Answered | Checks::Silent) => Checks::Silent,
            (true, Checks::Outdated) => Checks::Outdated,
        };
        before != Checks::Answered && self.checks == Checks::Answered
    }

    /// A path by this route has been validated.
    pub(crate) fn established(&mut self, route: R) {
        if route.is_direct() && self.checks == Checks::Silent {
            self.checks = Checks::Outdated;
        }
        if let Some(narrow) = self.narrow.as_mut().filter(|narrow| narrow.route == route) {
            narrow.try_at = None;
        }
    }

    /// Data goes unanswered: what was validated before says nothing any more.
    pub(crate) fn doubted(&mut self) {
        if self.checks == Checks::Outdated {
            self.checks = Checks::Silent;
        }
    }

    /// A route carries no data.
    pub(crate) fn narrowed(&mut self, route: R, now: Instant) {
        let again = self.narrow.as_ref().filter(|narrow| narrow.route == route);
        let wait = again.map_or(TRY_FIRST, |narrow| narrow.wait);
        self.narrow = Some(Narrow { route, try_at: Some(now + wait), wait });
    }

    /// Whether the direct route is no way to send by: it answers no checks, or carries no data.
    pub(crate) fn is_suspect(&self, routes: &Routes<R>) -> bool {
        self.is_silent() || self.narrow_until(routes).is_some()
    }

    /// Whether the direct route answers no checks, and nothing newer speaks for it.
    pub(crate) fn is_silent(&self) -> bool {
        self.checks == Checks::Silent
    }

    /// Where the direct route is narrow, when it is tried again.
    fn narrow_until(&self, routes: &Routes<R>) -> Option<Instant> {
        let narrow = self.narrow.as_ref()?;
        narrow.try_at.filter(|_| Some(narrow.route) == routes.direct)
    }

    /// When the narrow route is tried again, unless it answers no checks either.
    pub(crate) fn try_at(&self, routes: &Routes<R>) -> Option<Instant> {
        self.narrow_until(routes).filter(|_| self.checks == Checks::Answered)
    }

    /// Whether a path may be opened by the direct route now. To a narrow one, that is its try.
    pub(crate) fn may_open(&mut self, routes: &Routes<R>, now: Instant) -> bool {
        if self.checks != Checks::Answered {
            return false;
        }
        let Some(try_at) = self.narrow_until(routes) else { return true };
        let Some(narrow) = self.narrow.as_mut().filter(|_| try_at <= now) else { return false };
        narrow.wait = (narrow.wait * 2).min(TRY_LONGEST);
        narrow.try_at = Some(now + narrow.wait);
        true
    }

    pub(crate) fn check_invariants(&self, routes: &Routes<R>) {
        let is_answered = self.checks == Checks::Answered;
        assert_eq!(is_answered, !routes.is_suspect, "checks are not as the routes say");
        let Some(narrow) = &self.narrow else { return };
        assert!(narrow.route.is_direct(), "a relay is narrow");
        assert!((TRY_FIRST..=TRY_LONGEST).contains(&narrow.wait), "{narrow:?}");
    }
}
