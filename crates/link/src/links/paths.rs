//! The paths of a link: which there are, and by which one this side sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use holepunch_traversal::RelayState;
use holepunch_wire::session::SessionId;
use noq::{PathEvent, PathId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::again::Again;
use super::doubt::{Narrow, Watch};
use super::follow::Follow;
use super::open::{Nudges, Opening};
use super::session::SessionTask;
use super::{LinkEvent, View};
use crate::link::{Ending, LinkError, PathState};
use crate::mux::{Mux, Route};
use crate::quic::{PATHS_MAX, SILENCE_MAX};

/// A peer that closes a link says why on the link, and leaves the session by the rendezvous: where that
/// comes first, its own words have so long.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// The paths of one link.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) session: SessionId,
    pub(super) is_controlling: bool,
    connection: noq::WeakConnectionHandle,
    pub(super) mux: Arc<Mux>,
    pub(super) view: watch::Receiver<View>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) state: Arc<PathState>,
    ending: Arc<Ending>,
    path_events: noq::PathEvents,
    /// The paths that are open.
    pub(super) open: BTreeMap<PathId, Route>,
    /// Those that wait for the peer.
    pub(super) opening: BTreeMap<PathId, Opening>,
    /// Those that this side has closed, until QUIC forgets them.
    pub(super) closed: BTreeSet<PathId>,
    /// No path has a lower number.
    gone_below: u32,
    /// By which one this side sends.
    pub(super) active: Option<PathId>,
    pub(super) again: Again,
    /// QUIC could not open a path when it was last asked to.
    pub(super) refused: bool,
    pub(super) nudges: Nudges,
    pub(super) watch: Option<Watch>,
    pub(super) narrow: Option<Narrow>,
    /// Data goes unanswered, which is to be told.
    pub(super) has_doubt: bool,
    /// A path by the direct route has been validated since that route became suspect: packets of full size have
    /// passed both ways (RFC 9000 §8.2), which is newer than the silence of a check.
    pub(super) proved: bool,
    /// The direct route was suspect when it was last looked.
    was_suspect: bool,
    relayed: Option<RelayState>,
    /// Since when there has been no route.
    stranded_since: Option<Instant>,
    /// How often the own address had changed when the peer was last shown it.
    pub(super) shown: u32,
    /// How often a relay had been connected when its path was pinged last.
    pub(super) greeted: u32,
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
            closed: BTreeSet::new(),
            gone_below: 0,
            active: None,
            again: Again::new(task.is_controlling),
            refused: false,
            nudges: Nudges::default(),
            watch: None,
            narrow: None,
            has_doubt: false,
            proved: false,
            was_suspect: false,
            relayed: None,
            stranded_since: None,
            shown: task.view.borrow().rebound,
            greeted: task.view.borrow().renewed,
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
            if std::mem::take(&mut self.has_doubt) {
                let _or_ended = self.events.send(LinkEvent::Doubt(self.session)).await;
            }
            let due = async {
                match look_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let activity = self.watch.as_ref().filter(|watch| watch.look_at().is_none());
            let activity = activity.map(|watch| Arc::clone(&watch.activity));
            let sent = async {
                match activity {
                    Some(activity) => activity.sent().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sent => if let Some(watch) = &mut self.watch {
                    watch.sent();
                },
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
        let detour = self.detour_at(Instant::now());
        let progress = self.watch.as_ref().and_then(Watch::look_at);
        let (nudge, follow) = (self.nudges.at(), self.follow.look_at());
        let looks = [
            self.again.at(),
            stranded,
            detour,
            nudge,
            follow,
            progress,
            self.try_narrow_at(Instant::now()),
        ];
        looks.into_iter().flatten().min()
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
        for number in (self.gone_below..).take_while(may_be) {
            let id = PathId::from(number);
            let Some(path) = connection.path(id) else {
                self.gone_below += u32::from(number == self.gone_below && id <= newest);
                self.closed.remove(&id);
                let was_open = self.open.remove(&id).is_some();
                if self.opening.remove(&id).is_some() || was_open {
                    self.again.plan(Instant::now());
                }
                continue;
            };
            // RFC 9000 §8.2: it carries packets once a challenge has been answered.
            let is_validated = path.stats().frame_rx.path_response > 0;
            let route = path.remote_address().ok().and_then(|remote| self.mux.route(remote));
            if let Some(route) = route.filter(|_| is_validated && self.is_unknown(id)) {
                self.opening.remove(&id);
                self.open.insert(id, route);
            }
        }
    }

    fn is_unknown(&self, id: PathId) -> bool {
        !self.open.contains_key(&id) && !self.closed.contains(&id)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add events")]
    fn handle(&mut self, event: PathEvent) {
        match event {
            PathEvent::Established { id, .. } => {
                let opening = self.opening.remove(&id).map(|opening| opening.route);
                let route = opening.or_else(|| {
                    let path = self.connection.upgrade()?.path(id)?;
                    self.mux.route(path.remote_address().ok()?)
                });
                if let Some(route) = route.filter(|_| !self.closed.contains(&id)) {
                    self.widened(route);
                    self.proved |= is_direct(route);
                    self.open.insert(id, route);
                }
            }
            PathEvent::Abandoned { id, .. } | PathEvent::Discarded { id, .. } => {
                if matches!(event, PathEvent::Discarded { .. }) {
                    self.closed.remove(&id);
                }
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
        let now = Instant::now();
        self.watch_progress(connection, now);
        if std::mem::replace(&mut self.was_suspect, view.is_suspect()) && !view.is_suspect() {
            // A check has been answered: what failed before says nothing any more.
            self.again.succeeded();
        }
        self.proved &= view.is_suspect();
        if self.again.is_due(now) {
            self.refused = false;
            self.open_missing(connection, &view);
        }
        self.detour(connection, &view, now);
        self.nudge(connection, now);
        self.follow_peer(connection, &view);
        self.choose(connection, &view);
        self.show_address(connection, &view);
        self.greet(connection, &view);
        self.close_unneeded(connection, &view);
        let stranded = view.relays.is_empty()
            && (self.is_silent(&view) || view.direct.is_none() && !self.has_direct());
        self.stranded_since = stranded.then(|| self.stranded_since.unwrap_or(now));
    }

    /// Closes a path that is not in use.
    pub(super) fn close(&mut self, connection: &noq::Connection, id: PathId) {
        self.open.remove(&id);
        self.opening.remove(&id);
        if let Some(path) = connection.path(id) {
            self.closed.insert(id);
            let _unless_it_is_closed = path.close();
        }
    }

    fn has_direct(&self) -> bool {
        self.open.values().any(|route| is_direct(*route))
    }
}

pub(super) fn is_direct(route: Route) -> bool {
    matches!(route, Route::Direct(..))
}
