//! Opens the paths that a link lacks.

use std::time::Duration;

use noq::{PathId, PathStatus};
use tokio::time::Instant;

use super::paths::{Paths, is_direct};
use super::{View, shown};
use crate::mux::Route;

/// A path by the relay is there so soon after it was opened, also by a slow one. A detour that would not
/// have been needed costs a round trip.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);

/// After a detour has begun the path is pinged so soon, which doubles ...
const NUDGE_FIRST: Duration = Duration::from_millis(20);
/// ... and this often: 1.3 s in all.
const NUDGES_MAX: u32 = 6;

/// The pings on a detour. The peer follows as soon as it takes a packet that comes this way, and what the cut
/// path has swallowed is sent again when a later packet is acknowledged: QUIC's own timers have backed off.
#[derive(Debug, Default)]
pub(super) struct Nudges {
    at: Option<Instant>,
    made: u32,
}

impl Nudges {
    fn begin(&mut self, now: Instant) {
        *self = Self { at: Some(now), made: 0 };
    }

    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = (self.made < NUDGES_MAX).then(|| now + NUDGE_FIRST * 2_u32.pow(self.made));
            self.made += 1;
        }
        is_due
    }
}

/// A path that waits for the peer.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) route: Route,
    since: Instant,
}

impl Paths {
    /// The accepting side learns another address of this one from a packet that comes from there (RFC 9000
    /// §9.3), and an idle path has none.
    pub(super) fn show_address(&mut self, connection: &noq::Connection, view: &View) {
        if std::mem::replace(&mut self.shown, view.rebound) == view.rebound {
            return;
        }
        self.ping(connection, is_direct);
    }

    /// What was under way by a relay's connection is lost with it. QUIC learns so from the answer to whatever comes next, which
    /// is not to wait for its own timers, on either side.
    pub(super) fn greet(&mut self, connection: &noq::Connection, view: &View) {
        if std::mem::replace(&mut self.greeted, view.renewed) != view.renewed {
            self.ping(connection, |route| view.relays.contains(&route));
        }
    }

    fn ping(&self, connection: &noq::Connection, wanted: impl Fn(Route) -> bool) {
        for (id, _) in self.open.iter().filter(|(_, route)| wanted(**route)) {
            if let Some(path) = connection.path(*id) {
                let _unless_closed = path.ping();
            }
        }
    }

    pub(super) fn open_missing(&mut self, connection: &noq::Connection, view: &View) {
        let routes = [(view.direct, PathStatus::Available), (view.relay(), PathStatus::Backup)];
        for (route, status) in routes {
            let Some(route) = route else { continue };
            let opening = self.opening.values().map(|opening| &opening.route);
            if self.open.values().chain(opening).any(|other| *other == route) {
                continue;
            }
            if is_direct(route) && !self.may_open_direct(view, Instant::now()) {
                continue;
            }
            let label = self.mux.label(route);
            let opening = connection.open_path(label, status);
            match opening.path_id() {
                Some(id) => {
                    tracing::debug!(session = %self.session, route = shown(route), "path is opened");
                    self.opening.insert(id, Opening { route, since: Instant::now() });
                }
                None => {
                    self.refused = true;
                    self.again.plan(Instant::now());
                }
            }
        }
    }

    /// The only path, the direct one, is cut, and the relay does not become one of its own, because one of
    /// the two sides lacks what that needs: what goes by that path goes by the relay from now on. The
    /// direct route is opened anew when it answers.
    pub(super) fn detour(&mut self, connection: &noq::Connection, view: &View, now: Instant) {
        let Some((id, direct, relay)) = self.needs_detour(view) else { return };
        if !self.refused && self.answer_due(relay).is_none_or(|due| now < due) {
            return;
        }
        if !self.mux.exchange([direct, relay]) {
            return;
        }
        tracing::debug!(session = %self.session, via = shown(relay), "the direct path makes a detour");
        let in_vain = self.opening.iter().find(|(_, opening)| opening.route == relay);
        if let Some(id) = in_vain.map(|(id, _)| *id) {
            self.close(connection, id);
        }
        self.open.insert(id, relay);
        self.active = Some(id);
        self.activated(connection, Some(id), view);
        self.nudges.begin(now);
    }

    pub(super) fn nudge(&mut self, connection: &noq::Connection, now: Instant) {
        if self.nudges.is_due(now)
            && let Some(path) = self.active.and_then(|id| connection.path(id))
        {
            let _unless_closed = path.ping();
        }
    }

    /// The only path, its route, and the relay that serves.
    fn needs_detour(&self, view: &View) -> Option<(PathId, Route, Route)> {
        let mut open = self.open.iter();
        let (Some((id, direct)), None) = (open.next(), open.next()) else { return None };
        let relay = view.relay().filter(|_| self.is_suspect(view) && is_direct(*direct))?;
        Some((*id, *direct, relay))
    }

    /// When the peer should have answered on the path that was opened by this route.
    fn answer_due(&self, route: Route) -> Option<Instant> {
        let opening = self.opening.values().find(|opening| opening.route == route)?;
        Some(opening.since + ANSWERED_WITHIN)
    }

    /// When a detour is the way, if the peer does not answer until then.
    pub(super) fn detour_at(&self, now: Instant) -> Option<Instant> {
        let (_, _, relay) = self.needs_detour(&self.view.borrow())?;
        self.answer_due(relay).filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detour_is_pinged_at_once_and_further_and_further_apart() {
        let (start, mut nudges) = (Instant::now(), Nudges::default());
        assert!(!nudges.is_due(start));
        nudges.begin(start);
        let mut pings = Vec::new();
        while let Some(at) = nudges.at() {
            assert!(nudges.is_due(at) && !nudges.is_due(at));
            pings.push((at - start).as_millis());
        }
        assert_eq!(pings, [0, 20, 60, 140, 300, 620, 1260]);
    }
}
