//! Drives the paths of a link: what QUIC and the routes say goes to the machine, and what that decides to QUIC.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use holepunch_paths::{Action, Answer, End, Event, Input, Listed, PathId, Routes};
use holepunch_traversal::RelayState;
use holepunch_wire::session::SessionId;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::doors::{LinkEvent, Teller};
use super::next_packet::Watch;
use super::single::Single;
use super::view::View;
use crate::link::{CloseCode, Ending, LinkError, LinkPath, PathKind, PathState};
use crate::mux::{Mux, Route};
use crate::quic_paths::{self, id};

impl holepunch_paths::Route for Route {
    fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(..))
    }
}

/// What the paths belong to.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) session: SessionId,
    pub(super) is_controlling: bool,
    pub(super) mux: Arc<Mux>,
    pub(super) view: watch::Receiver<View>,
    pub(super) teller: Teller,
}

/// The paths of one link.
#[derive(Debug)]
pub(super) struct Paths {
    machine: holepunch_paths::Paths<Route>,
    scope: Scope,
    connection: noq::WeakConnectionHandle,
    /// What the machine knows of the routes.
    routes: Routes<Route>,
    /// The machine knows that the session is over.
    is_over: bool,
    state: Arc<PathState>,
    ending: Arc<Ending>,
    path_events: noq::PathEvents,
    watch: Option<Watch>,
    single: Single,
    /// What is to be told to whoever has the links.
    news: VecDeque<LinkEvent>,
    ended: Option<End>,
}

impl Paths {
    pub(super) fn new(
        mut scope: Scope,
        connection: &noq::Connection,
        first: Route,
        state: &Arc<PathState>,
        ending: &Arc<Ending>,
    ) -> Self {
        let routes = scope.view.borrow_and_update().routes();
        let now = Instant::now();
        let mut paths = Self {
            machine: holepunch_paths::Paths::new(scope.is_controlling, first, routes.clone(), now),
            routes,
            is_over: false,
            connection: connection.weak_handle(),
            state: Arc::clone(state),
            ending: Arc::clone(ending),
            path_events: connection.path_events(),
            watch: None,
            single: Single::new(&scope.mux),
            scope,
            news: VecDeque::new(),
            ended: None,
        };
        paths.drain(connection, now);
        paths
    }

    /// Serves the paths until there is none left, or the session is over.
    pub(super) async fn drive(&mut self) -> LinkError {
        // What has ended before this side listened.
        self.scope.view.mark_changed();
        loop {
            while let Some(event) = self.news.pop_front() {
                let _or_ended = self.scope.teller.tell(event).await;
            }
            let due = self.machine.poll_timeout();
            let due = async {
                match due {
                    Some((at, _why)) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let input = tokio::select! {
                () = Watch::sent(&mut self.watch) => Some(Input::Sent),
                Some(event) = self.path_events.next() => match event {
                    Ok(event) => quic_paths::input(&event, |id| {
                        self.route(&self.connection.upgrade()?, id)
                    }),
                    Err(_lagged) => Some(Input::EventsLost),
                },
                // Whoever ends a session drops the sender behind its last word.
                changed = self.scope.view.changed(), if !self.is_over => match changed {
                    Ok(()) => None,
                    Err(_) => return LinkError::Closed("the worker has ended".into()),
                },
                () = due => None,
            };
            let Some(connection) = self.connection.upgrade() else {
                // The last link was dropped: the connection tells by itself.
                return std::future::pending().await;
            };
            let now = Instant::now();
            self.look_at_view(&connection, now);
            match input {
                Some(input) => self.machine.handle_input(input, now),
                None => self.machine.handle_timeout(now),
            }
            self.drain(&connection, now);
            if let Some(end) = self.ended {
                return self.end(&connection, end);
            }
        }
    }

    /// Tells the machine what has become known of the routes, before whatever else has happened.
    fn look_at_view(&mut self, connection: &noq::Connection, now: Instant) {
        let view = self.scope.view.borrow_and_update();
        let (routes, is_over) = (view.routes(), view.ended.is_some());
        drop(view);
        let input = if is_over && !self.is_over {
            self.is_over = true;
            Input::SessionOver
        } else if is_over || routes == self.routes {
            return;
        } else {
            self.routes.clone_from(&routes);
            Input::Routes(routes)
        };
        self.machine.handle_input(input, now);
        self.drain(connection, now);
    }

    /// The route that the peer's address on a path stands for.
    fn route(&self, connection: &noq::Connection, id: noq::PathId) -> Option<Route> {
        self.scope.mux.route(connection.path(id)?.remote_address().ok()?)
    }
}

impl Paths {
    /// Does what the machine says until it has nothing more to say.
    fn drain(&mut self, connection: &noq::Connection, now: Instant) {
        while let Some(action) = self.machine.poll_transmit() {
            if let Some(input) = self.carry_out(action, connection) {
                self.machine.handle_input(input, now);
            }
        }
        while let Some(event) = self.machine.poll_event() {
            self.tell(event, connection);
        }
        #[cfg(debug_assertions)]
        self.machine.check_invariants();
    }

    fn carry_out(
        &mut self,
        action: Action<Route>,
        connection: &noq::Connection,
    ) -> Option<Input<Route>> {
        let path_of = |path: PathId| connection.path(id(path));
        let answer = match action {
            Action::Open { route, status } => {
                let label = self.scope.mux.label(route);
                let opened = connection.open_path(label, quic_paths::status(status)).path_id();
                if opened.is_some() {
                    tracing::debug!(session = %self.scope.session, %route, "path is opened");
                }
                Answer::Opened { route, path: opened.map(quic_paths::number) }
            }
            Action::Close(path) => {
                let Some(known) = path_of(path) else { return Some(Input::Discarded(path)) };
                let _unless_it_is_closed = known.close();
                return None;
            }
            Action::SetStatus(path, status) => {
                let _unless_closed = path_of(path)?.set_status(quic_paths::status(status));
                return None;
            }
            Action::Ping(path) => {
                let _unless_closed = path_of(path)?.ping();
                return None;
            }
            Action::Watch(route) => {
                Watch::turn(&mut self.watch, route, &self.scope.mux);
                return None;
            }
            Action::Exchange(routes) => {
                let [_, via] = routes;
                let is_done = self.scope.mux.exchange(routes);
                if is_done {
                    tracing::debug!(session = %self.scope.session, %via, "the only path makes a detour");
                }
                Answer::Exchanged(is_done)
            }
            Action::Unbatch(route) => Answer::Unbatched(self.single.unbatch(route)),
            Action::Count(path) => {
                Answer::Counted(path, path_of(path).map(|path| quic_paths::counts(&path.stats())))
            }
            Action::Locate(path) => Answer::Located(path, self.route(connection, id(path))),
            Action::List => {
                let paths = connection.paths().into_iter().map(|path| Listed {
                    path: quic_paths::number(path.id()),
                    is_validated: quic_paths::is_validated(&path.stats()),
                    is_abandoned: path.is_abandoned(),
                    route: self.route(connection, path.id()),
                });
                Answer::Listed(paths.collect())
            }
        };
        Some(Input::Answer(answer))
    }

    fn tell(&mut self, event: Event<Route>, connection: &noq::Connection) {
        match event {
            Event::Active { path, reason } => {
                tracing::debug!(session = %self.scope.session, %reason, "path");
                let id = path.map(|(path, _)| id(path));
                let rtt = id.and_then(|id| Some(connection.path(id)?.stats().rtt));
                let kind = match path.map(|(_, route)| route) {
                    Some(Route::Direct(_, remote)) => PathKind::Direct { remote },
                    Some(Route::Relay(_)) => PathKind::Relay,
                    Some(Route::Turn(_)) => PathKind::Turn,
                    None => PathKind::None,
                };
                self.state.changed(id, LinkPath { kind, rtt }, &reason.to_string());
            }
            Event::Doubt => self.news.push_back(LinkEvent::Doubt(self.scope.session)),
            Event::Narrow(route) => {
                tracing::debug!(session = %self.scope.session, %route, "the path carries no data");
            }
            Event::Relayed(is_relayed) => {
                let state = if is_relayed { RelayState::Serves } else { RelayState::Absent };
                self.news.push_back(LinkEvent::Relayed(self.scope.session, state));
            }
            Event::Ended(end) => self.ended = Some(end),
        }
    }

    fn end(&self, connection: &noq::Connection, end: End) -> LinkError {
        let ended = self.scope.view.borrow().ended.clone().filter(|_| matches!(end, End::Session));
        let error = ended.unwrap_or_else(|| {
            let why = "the direct path has not answered for long, and there is no relay";
            LinkError::Unreachable(why.to_owned())
        });
        self.ending.because(error.clone());
        connection.close(CloseCode::Other.into(), error.to_string().as_bytes());
        error
    }
}
