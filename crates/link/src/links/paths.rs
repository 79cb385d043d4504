//! The paths of a link: which there are, and by which one this side sends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use holepunch_traversal::RelayState;
use holepunch_wire::session::SessionId;
use noq::{PathEvent, PathId, PathStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::again::Again;
use super::doubt::Doubts;
use super::follow::Follow;
use super::session::SessionTask;
use super::{LinkEvent, View, shown};
use crate::link::{Ending, LinkError, LinkPath, PathKind, PathState};
use crate::mux::{Mux, Route};
use crate::quic::{PATHS_MAX, SILENCE_MAX};

/// A peer that closes a link says why on the link, and leaves the session by the rendezvous: where that
/// comes first, its own words have so long.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// The paths of one link.
#[derive(Debug)]
pub(super) struct Paths {
    session: SessionId,
    pub(super) is_controlling: bool,
    connection: noq::WeakConnectionHandle,
    pub(super) mux: Arc<Mux>,
    view: watch::Receiver<View>,
    events: mpsc::Sender<LinkEvent>,
    state: Arc<PathState>,
    ending: Arc<Ending>,
    path_events: noq::PathEvents,
    /// The paths that are open.
    pub(super) open: BTreeMap<PathId, Route>,
    /// Those that wait for the peer.
    opening: BTreeMap<PathId, Route>,
    /// By which one this side sends.
    pub(super) active: Option<PathId>,
    again: Again,
    /// QUIC could not open a path when it was last asked to.
    refused: bool,
    doubts: Option<Doubts>,
    relayed: Option<RelayState>,
    /// Since when there has been no route.
    stranded_since: Option<Instant>,
    /// How often the own address had changed when the peer was last shown it.
    shown: u32,
    pub(super) follow: Follow,
}

impl Paths {
    pub(super) fn new(
        task: &SessionTask,
        connection: &noq::Connection,
        first: Route,
        state: &Arc<PathState>,
        ending: &Arc<Ending>,
    ) -> Self {
        let mut paths = Self {
            session: task.session,
            is_controlling: task.is_controlling,
            connection: connection.weak_handle(),
            mux: Arc::clone(&task.mux),
            view: task.view.clone(),
            events: task.events.clone(),
            state: Arc::clone(state),
            ending: Arc::clone(ending),
            path_events: connection.path_events(),
            open: BTreeMap::from([(PathId::ZERO, first)]),
            opening: BTreeMap::new(),
            active: None,
            again: Again::new(task.is_controlling),
            refused: false,
            doubts: None,
            relayed: None,
            stranded_since: None,
            shown: task.view.borrow().rebound,
            follow: Follow::default(),
        };
        paths.find(connection);
        paths.settle(connection);
        paths
    }

    /// Serves the paths until there is none left, or the session is over.
    pub(super) async fn drive(&mut self) -> LinkError {
        loop {
            let Some(connection) = self.connection.upgrade() else {
                // The last link was dropped: the connection tells by itself.
                return std::future::pending().await;
            };
            let ended = self.view.borrow().ended.clone();
            if let Some(reason) = ended {
                if timeout(LAST_WORDS, connection.closed()).await.is_ok() {
                    // The link's own end says why.
                    return std::future::pending().await;
                }
                return self.end(&connection, reason);
            }
            self.settle(&connection);
            let look_at = self.look_at();
            drop(connection);
            self.tell_relayed().await;
            let due = async {
                match look_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = self.path_events.next() => match (event, self.connection.upgrade()) {
                    (Ok(event), _) => self.handle(event),
                    // So much happened at once that events were dropped.
                    (Err(_lagged), Some(connection)) => self.find(&connection),
                    (Err(_lagged), None) => {}
                },
                changed = self.view.changed() => if changed.is_err() {
                    return LinkError::Closed("the worker has ended".to_owned());
                },
                () = due => {
                    let stranded = self.stranded_since.is_some_and(|since| since + SILENCE_MAX <= Instant::now());
                    if let (true, Some(connection)) = (stranded, self.connection.upgrade()) {
                        let reason = "the direct path has not answered for long, and there is no relay";
                        return self.end(&connection, reason.to_owned());
                    }
                }
            }
        }
    }

    fn look_at(&self) -> Option<Instant> {
        let stranded = self.stranded_since.map(|since| since + SILENCE_MAX);
        self.again.at().into_iter().chain(stranded).chain(self.follow.look_at()).min()
    }

    fn end(&self, connection: &noq::Connection, reason: String) -> LinkError {
        let error = LinkError::Unreachable(reason.clone());
        self.ending.because(error.clone());
        connection.close(crate::link::CODE_DONE.into(), reason.as_bytes());
        error
    }

    async fn tell_relayed(&mut self) {
        let is_relayed = self.open.values().any(|route| !is_direct(*route));
        let relayed = if is_relayed { RelayState::Serves } else { RelayState::Absent };
        if self.relayed != Some(relayed) {
            self.relayed = Some(relayed);
            let _or_ended = self.events.send(LinkEvent::Relayed(self.session, relayed)).await;
        }
    }

    /// Looks which paths there are: the peer may have opened one before anybody listened to events.
    fn find(&mut self, connection: &noq::Connection) {
        let known = self.open.keys().chain(self.opening.keys()).copied();
        let newest = known.max().unwrap_or(PathId::ZERO);
        let may_be = |number: &u32| PathId::from(number.saturating_sub(PATHS_MAX)) <= newest;
        for id in (0..).take_while(may_be).map(PathId::from) {
            let Some(path) = connection.path(id) else {
                if self.open.remove(&id).or(self.opening.remove(&id)).is_some() {
                    self.again.plan(Instant::now());
                }
                continue;
            };
            // RFC 9000 §8.2: it carries packets once a challenge has been answered.
            let is_validated = path.stats().frame_rx.path_response > 0;
            let route = path.remote_address().ok().and_then(|remote| self.mux.route(remote));
            if let Some(route) = route.filter(|_| is_validated && !self.open.contains_key(&id)) {
                self.opening.remove(&id);
                self.open.insert(id, route);
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add events")]
    fn handle(&mut self, event: PathEvent) {
        match event {
            PathEvent::Established { id, .. } => {
                let route = self.opening.remove(&id).or_else(|| {
                    let path = self.connection.upgrade()?.path(id)?;
                    self.mux.route(path.remote_address().ok()?)
                });
                if let Some(route) = route {
                    self.open.insert(id, route);
                }
            }
            PathEvent::Abandoned { id, .. } | PathEvent::Discarded { id, .. } => {
                let was_open = self.open.remove(&id).is_some();
                if self.opening.remove(&id).is_some() || was_open {
                    self.again.plan(Instant::now());
                }
                self.active.take_if(|active| *active == id);
            }
            // Each side decides by itself; and what the peer sees of this side, STUN tells better.
            _ => {}
        }
    }

    /// Opens, closes and chooses paths as the routes are now.
    fn settle(&mut self, connection: &noq::Connection) {
        let view = self.view.borrow_and_update().clone();
        if self.again.is_due(Instant::now()) {
            self.refused = false;
            self.open_missing(connection, &view);
        }
        if self.refused {
            self.detour(connection, &view);
        }
        self.follow_peer(connection, &view);
        self.choose(connection, &view);
        self.show_address(connection, &view);
        self.close_unneeded(connection, &view);
        let stranded = view.relays.is_empty()
            && (view.is_suspect || view.direct.is_none() && !self.has_direct());
        self.stranded_since = stranded.then(|| self.stranded_since.unwrap_or_else(Instant::now));
    }

    /// The accepting side learns another address of this one from a packet that comes from there (RFC 9000
    /// §9.3), and an idle path has none.
    fn show_address(&mut self, connection: &noq::Connection, view: &View) {
        if std::mem::replace(&mut self.shown, view.rebound) == view.rebound {
            return;
        }
        for (id, _) in self.open.iter().filter(|(_, route)| is_direct(**route)) {
            if let Some(path) = connection.path(*id) {
                let _unless_closed = path.ping();
            }
        }
    }

    fn has_direct(&self) -> bool {
        self.open.values().any(|route| is_direct(*route))
    }

    fn open_missing(&mut self, connection: &noq::Connection, view: &View) {
        let direct = view.direct.filter(|_| !view.is_suspect);
        for (route, status) in [(direct, PathStatus::Available), (view.relay(), PathStatus::Backup)]
        {
            let Some(route) = route else { continue };
            let mut known = self.open.values().chain(self.opening.values());
            if known.any(|other| *other == route) {
                continue;
            }
            let label = self.mux.label(route);
            let opening = connection.open_path(label, status);
            match opening.path_id() {
                Some(id) => {
                    tracing::debug!(session = %self.session, route = shown(route), "path is opened");
                    self.opening.insert(id, route);
                }
                None => {
                    self.refused = true;
                    self.again.plan(Instant::now());
                }
            }
        }
    }

    /// The peer has not given out what the relay needs as a path of its own, and the only path, the direct
    /// one, is cut: what goes by that path goes by the relay from now on. The direct route is opened anew
    /// when it answers.
    fn detour(&mut self, connection: &noq::Connection, view: &View) {
        let mut open = self.open.iter();
        let (Some((id, direct)), None) = (open.next(), open.next()) else { return };
        let (id, direct) = (*id, *direct);
        let Some(relay) = view.relay().filter(|_| view.is_suspect && is_direct(direct)) else {
            return;
        };
        if self.mux.exchange([direct, relay]) {
            tracing::debug!(session = %self.session, via = shown(relay), "the direct path makes a detour");
            self.open.insert(id, relay);
            self.active = Some(id);
            self.activated(connection, Some(id), view);
            if let Some(path) = connection.path(id) {
                // The peer follows as soon as a packet comes this way.
                let _unless_closed = path.ping();
            }
        }
    }

    /// The path to send by: the direct one that was opened last, unless it is suspect; else a relay.
    fn choose(&mut self, connection: &noq::Connection, view: &View) {
        let newest = |wanted: &dyn Fn(Route) -> bool| {
            self.open.iter().rev().find(|(_, route)| wanted(**route)).map(|(id, _)| *id)
        };
        let wanted = view.direct.filter(|_| self.is_controlling);
        let direct = newest(&|route| Some(route) == wanted).or_else(|| newest(&is_direct));
        let relay = newest(&|route| Some(route) == view.relay())
            .or_else(|| newest(&|route| view.relays.contains(&route)));
        let best = match (direct, relay) {
            (Some(_), Some(relay)) if view.is_suspect => Some(relay),
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
            self.doubts = None;
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
            (false, true) if view.is_suspect => "the direct path answers no more",
            (false, true) => "the direct path is gone",
        };
        let kind = self.kind(route);
        self.doubts = match (path, is_direct(route)) {
            (Some(path), true) => {
                let label: SocketAddr = self.mux.label(route);
                let events = self.events.clone();
                Some(Doubts::watch(&self.mux, label, path.weak_handle(), self.session, events))
            }
            _ => None,
        };
        self.state.changed(Some(id), LinkPath { kind, rtt }, reason);
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
    fn close_unneeded(&mut self, connection: &noq::Connection, view: &View) {
        let active = self.active.and_then(|id| self.open.get(&id)).copied();
        let Some(active) = active else { return };
        let serves = |route: Route| is_direct(route) || view.relays.contains(&route);
        let is_unneeded = |id: PathId, route: Route| {
            let is_lost = is_direct(route) && view.is_suspect && !is_direct(active);
            let is_replaced = self.is_controlling && is_direct(route) && is_direct(active);
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
            self.open.remove(&id);
            if let Some(path) = connection.path(id) {
                let _unless_it_is_closed = path.close();
            }
        }
    }
}

pub(super) fn is_direct(route: Route) -> bool {
    matches!(route, Route::Direct(..))
}
