//! The only path goes another way.
//!
//! A path takes connection ids that both sides have given out for it, and those come just behind the handshake. Where the only
//! path is cut before, no other one can be opened, whatever route is there. The peer follows as it follows a change of address
//! (RFC 9000 §9): the accepting side alone does, and makes no detour.

use std::time::{Duration, Instant};

use crate::doors::{Action, PathId, Route};
use crate::machine::Paths;

/// A path by the relay is there so soon after it was opened, also by a slow one. A detour that would not
/// have been needed costs a round trip.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);
/// What QUIC needs for a further path comes by a relay that carries packets so soon, also by a slow one: it is sent just behind the
/// handshake. A relay that is gone may count as connected for longer (5 s, `worker::relay::liveness`).
const OPENS_WITHIN: Duration = Duration::from_secs(1);
const _: () = assert!(ANSWERED_WITHIN.as_millis() < OPENS_WITHIN.as_millis());

impl<R: Route> Paths<R> {
    /// The only path is cut, and the route that serves does not become one of its own, because one of
    /// the two sides lacks what that needs: what goes by that path goes by that route from now on. The
    /// route that was cut is opened anew when it serves again.
    pub(crate) fn detour(&mut self, now: Instant) {
        let Some((path, routes)) = self.needs_detour() else { return };
        let is_vain = self.detour_due(routes).is_some_and(|at| at <= now);
        if is_vain && self.asked.detour.is_none() {
            self.asked.detour = Some((path, routes));
            self.act(Action::Exchange(routes));
        }
    }

    /// The only path, its route, and a better one.
    fn needs_detour(&self) -> Option<(PathId, [R; 2])> {
        let (path, from) = self.table.only()?;
        let is_suspect = self.standing.is_suspect(&self.routes);
        let is_cut = if from.is_direct() { is_suspect } else { !self.routes.serves(from) };
        let direct = self.routes.direct.filter(|_| !from.is_direct() && !is_suspect);
        let relay = self.routes.relay().filter(|_| is_cut);
        Some((path, [from, direct.or(relay)?]))
    }

    /// When the path should be there that was opened, or was to be, by the second one of these routes.
    fn detour_due(&self, [from, to]: [R; 2]) -> Option<Instant> {
        let refused_since = self.again.refused_since();
        if !from.is_direct() && self.routes.serves(from) {
            // The relay may carry packets, and the direct route none but checks, until a path there is validated.
            return refused_since.map(|since| since + OPENS_WITHIN);
        }
        let opening = self.table.opening(to);
        let answer_due = opening.map(|(_, since)| since + ANSWERED_WITHIN);
        [refused_since, answer_due].into_iter().flatten().min()
    }

    /// When a detour is the way, if the path is not there until then.
    pub(crate) fn detour_at(&self) -> Option<Instant> {
        let (_, routes) = self.needs_detour()?;
        self.detour_due(routes)
    }

    /// What goes by a path has another way from now on.
    pub(crate) fn detoured(&mut self, path: PathId, [from, to]: [R; 2], now: Instant) {
        if self.table.route(path) != Some(from) {
            return;
        }
        if let Some((in_vain, _)) = self.table.opening(to) {
            self.close(in_vain);
        }
        self.table.moved(path, to);
        self.activate(path, to);
        self.nudges.begin(now);
    }

    pub(crate) fn nudge(&mut self, now: Instant) {
        if self.nudges.is_due(now)
            && let Some(active) = &self.active
        {
            let ping = Action::Ping(active.path);
            self.act(ping);
        }
    }
}
