//! Which path of a link is used, and which are not needed.

use noq::{PathId, PathStatus};

use super::View;
use super::doubt::Watch;
use super::paths::{Paths, is_direct};
use crate::link::{LinkPath, PathKind};
use crate::mux::Route;

impl Paths {
    /// The path to send by: the direct one that was opened last, unless it is suspect; else a relay.
    pub(super) fn choose(&mut self, connection: &noq::Connection, view: &View) {
        let newest = |wanted: &dyn Fn(Route) -> bool| {
            self.open.iter().rev().find(|(_, route)| wanted(**route)).map(|(id, _)| *id)
        };
        let wanted = view.direct.filter(|_| self.is_controlling);
        let direct = newest(&|route| Some(route) == wanted).or_else(|| newest(&is_direct));
        let relay = newest(&|route| Some(route) == view.relay())
            .or_else(|| newest(&|route| view.relays.contains(&route)));
        let best = match (direct, relay) {
            (Some(_), Some(relay)) if self.is_suspect(view) => Some(relay),
            (Some(direct), _) => Some(direct),
            (None, relay) => relay.or_else(|| newest(&|_| true)),
        };
        if best == self.active {
            return;
        }
        let before = self.active;
        self.active = best;
        for id in self.open.keys() {
            let status = if Some(*id) == best { PathStatus::Available } else { PathStatus::Backup };
            if let Some(path) = connection.path(*id) {
                let _unless_closed = path.set_status(status);
            }
        }
        self.activated(connection, before, view);
    }

    /// Another path is used from now on: everyone is told.
    pub(super) fn activated(
        &mut self,
        connection: &noq::Connection,
        before: Option<PathId>,
        view: &View,
    ) {
        let active = self.active.and_then(|id| Some((id, *self.open.get(&id)?)));
        let Some((id, route)) = active else {
            self.watch = None;
            self.state.changed(
                None,
                LinkPath { kind: PathKind::None, rtt: None },
                "no path is left",
            );
            return;
        };
        self.again.succeeded();
        let path = connection.path(id);
        let rtt = path.as_ref().map(|path| path.stats().rtt);
        let reason = match (is_direct(route), before.is_some()) {
            (true, false) | (false, false) => "the first path",
            (true, true) if before == self.active => "the peer has another address",
            (true, true) => "a direct path answers",
            (false, true) if self.is_silent(view) => "the direct path answers no more",
            (false, true) if self.is_suspect(view) => "the direct path carries no data",
            (false, true) => "the direct path is gone",
        };
        let kind = self.kind(route);
        self.watch = (path.is_some() && is_direct(route)).then(|| Watch::new(&self.mux, route));
        self.state.changed(Some(id), LinkPath { kind, rtt }, reason);
    }

    /// The path stays, and something about it is to be known.
    pub(super) fn tell(&self, id: PathId, route: Route, reason: &str) {
        tracing::debug!(session = %self.session, reason, "path");
        let (_, LinkPath { rtt, .. }) = self.state.current();
        self.state.changed(Some(id), LinkPath { kind: self.kind(route), rtt }, reason);
    }

    fn kind(&self, route: Route) -> PathKind {
        match route {
            Route::Direct(_, remote) => PathKind::Direct { remote },
            Route::Relay(_) => PathKind::Relay,
            Route::Turn(_) => PathKind::Turn,
        }
    }

    /// A direct path that answers no more is closed where a relay serves, so that what it has swallowed is
    /// sent again at once; so is that of a relay that is gone, where another way serves; and so is one that
    /// another has replaced.
    pub(super) fn close_unneeded(&mut self, connection: &noq::Connection, view: &View) {
        let active = self.active.and_then(|id| self.open.get(&id)).copied();
        let Some(active) = active else { return };
        // The accepting side may hear of the direct route's return later than the peer, and would close what that
        // has just opened. What a path has in flight goes again by the one in use all the same.
        let opens = self.is_controlling;
        let serves = |route: Route| is_direct(route) || view.relays.contains(&route);
        let is_unneeded = |id: PathId, route: Route| {
            let is_lost = opens && is_direct(route) && self.is_suspect(view) && !is_direct(active);
            let is_replaced = opens && is_direct(route) && is_direct(active);
            let is_cut = !serves(route) && serves(active);
            Some(id) != self.active && (is_lost || is_replaced || is_cut)
        };
        let unneeded: Vec<PathId> = self
            .open
            .iter()
            .filter(|(id, route)| is_unneeded(**id, **route))
            .map(|(id, _)| *id)
            .collect();
        for id in unneeded {
            self.close(connection, id);
        }
    }
}
