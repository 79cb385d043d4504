//! Drives the paths of a link: what QUIC and the routes say goes to the machine, and what that decides to QUIC.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use holepunch_paths::{Action, Answer, Counts, End, Event, Input, Listed, PathId, Status};
use holepunch_traversal::RelayState;
use holepunch_wire::session::SessionId;
use noq::{PathEvent, PathStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::next_packet::Watch;
use super::session::SessionTask;
use super::{LinkEvent, View, shown};
use crate::link::{Ending, LinkError, LinkPath, PathKind, PathState};
use crate::mux::{Mux, Route};

impl holepunch_paths::Route for Route {
    fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(..))
    }
}

/// The paths of one link.
#[derive(Debug)]
pub(super) struct Paths {
    machine: holepunch_paths::Paths<Route>,
    session: SessionId,
    connection: noq::WeakConnectionHandle,
    mux: Arc<Mux>,
    view: watch::Receiver<View>,
    events: mpsc::Sender<LinkEvent>,
    state: Arc<PathState>,
    ending: Arc<Ending>,
    path_events: noq::PathEvents,
    watch: Option<Watch>,
    /// What is to be told to whoever has the links.
    news: VecDeque<LinkEvent>,
    /// The machine knows that the session is over.
    is_over: bool,
    ended: Option<End>,
}

impl Paths {
    pub(super) fn new(
        task: &SessionTask,
        connection: &noq::Connection,
        first: Route,
        state: &Arc<PathState>,
        ending: &Arc<Ending>,
    ) -> Self {
        let mut view = task.view.clone();
        let routes = view.borrow_and_update().routes();
        let now = Instant::now();
        let mut paths = Self {
            machine: holepunch_paths::Paths::new(task.is_controlling, first, routes, now),
            session: task.session,
            connection: connection.weak_handle(),
            mux: Arc::clone(&task.mux),
            view,
            events: task.events.clone(),
            state: Arc::clone(state),
            ending: Arc::clone(ending),
            path_events: connection.path_events(),
            watch: None,
            news: VecDeque::new(),
            is_over: false,
            ended: None,
        };
        paths.drain(connection, now);
        paths
    }

    /// Serves the paths until there is none left, or the session is over.
    pub(super) async fn drive(&mut self) -> LinkError {
        // What has ended before this side listened.
        self.view.mark_changed();
        loop {
            while let Some(event) = self.news.pop_front() {
                let _or_ended = self.events.send(event).await;
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
                    Ok(event) => self.input(&event),
                    Err(_lagged) => Some(Input::EventsLost),
                },
                changed = self.view.changed(), if !self.is_over => {
                    // Whoever ends the session says so, and then drops the sender.
                    if changed.is_err() && self.view.borrow().ended.is_none() {
                        return LinkError::Closed("the worker has ended".to_owned());
                    }
                    self.view.mark_changed();
                    None
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

    /// Tells the machine what has become known of the routes.
    fn look_at_view(&mut self, connection: &noq::Connection, now: Instant) {
        // Where the sender is gone, what it said last may not have been seen.
        if self.is_over || matches!(self.view.has_changed(), Ok(false)) {
            return;
        }
        let view = self.view.borrow_and_update();
        self.is_over = view.ended.is_some();
        let input = if self.is_over { Input::SessionOver } else { Input::Routes(view.routes()) };
        drop(view);
        self.machine.handle_input(input, now);
        self.drain(connection, now);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add events")]
    fn input(&self, event: &PathEvent) -> Option<Input<Route>> {
        match event {
            PathEvent::Established { id, .. } => {
                let connection = self.connection.upgrade()?;
                Some(Input::Established { path: own(*id)?, route: self.route(&connection, *id) })
            }
            PathEvent::Abandoned { id, .. } => Some(Input::Abandoned(own(*id)?)),
            PathEvent::Discarded { id, .. } => Some(Input::Discarded(own(*id)?)),
            // Each side decides by itself; and what the peer sees of this side, STUN tells better.
            _ => None,
        }
    }

    /// The route that the peer's address on a path stands for.
    fn route(&self, connection: &noq::Connection, id: noq::PathId) -> Option<Route> {
        self.mux.route(connection.path(id)?.remote_address().ok()?)
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
        let path_of = |path: PathId| connection.path(noq::PathId::from(path.0));
        let answer = match action {
            Action::Open { route, status } => {
                let label = self.mux.label(route);
                let id = connection.open_path(label, quic_status(status)).path_id();
                if id.is_some() {
                    tracing::debug!(session = %self.session, route = shown(route), "path is opened");
                }
                Answer::Opened { route, path: id.and_then(own) }
            }
            Action::Close(path) => {
                let Some(known) = path_of(path) else { return Some(Input::Discarded(path)) };
                let _unless_it_is_closed = known.close();
                return None;
            }
            Action::SetStatus(path, status) => {
                let _unless_closed = path_of(path)?.set_status(quic_status(status));
                return None;
            }
            Action::Ping(path) => {
                let _unless_closed = path_of(path)?.ping();
                return None;
            }
            Action::Watch(route) => {
                Watch::turn(&mut self.watch, route, &self.mux);
                return None;
            }
            Action::Exchange(routes) => {
                let [_, via] = routes.map(shown);
                let is_done = self.mux.exchange(routes);
                if is_done {
                    tracing::debug!(session = %self.session, via, "the direct path makes a detour");
                }
                Answer::Exchanged(is_done)
            }
            Action::Unbatch(route) => Answer::Unbatched(self.mux.unbatch(route)),
            Action::Count(path) => {
                Answer::Counted(path, path_of(path).map(|path| counts(&path.stats())))
            }
            Action::Locate(path) => {
                Answer::Located(path, self.route(connection, noq::PathId::from(path.0)))
            }
            Action::List { first, last } => {
                let numbers = (first.0..=last.0).map(PathId);
                let paths = numbers.filter_map(|path| {
                    let stats = path_of(path)?.stats();
                    // RFC 9000 §8.2: it carries packets once a challenge has been answered.
                    let is_validated = stats.frame_rx.path_response > 0;
                    let route = self.route(connection, noq::PathId::from(path.0));
                    Some(Listed { path, is_validated, route })
                });
                Answer::Listed { last, paths: paths.collect() }
            }
        };
        Some(Input::Answer(answer))
    }

    fn tell(&mut self, event: Event<Route>, connection: &noq::Connection) {
        match event {
            Event::Active { path, reason } => {
                tracing::debug!(session = %self.session, %reason, "path");
                let id = path.map(|(path, _)| noq::PathId::from(path.0));
                let rtt = id.and_then(|id| Some(connection.path(id)?.stats().rtt));
                let kind = match path.map(|(_, route)| route) {
                    Some(Route::Direct(_, remote)) => PathKind::Direct { remote },
                    Some(Route::Relay(_)) => PathKind::Relay,
                    Some(Route::Turn(_)) => PathKind::Turn,
                    None => PathKind::None,
                };
                self.state.changed(id, LinkPath { kind, rtt }, &reason.to_string());
            }
            Event::Doubt => self.news.push_back(LinkEvent::Doubt(self.session)),
            Event::Narrow(route) => {
                let route = shown(route);
                tracing::debug!(session = %self.session, route, "the path carries no data");
            }
            Event::Relayed(is_relayed) => {
                let state = if is_relayed { RelayState::Serves } else { RelayState::Absent };
                self.news.push_back(LinkEvent::Relayed(self.session, state));
            }
            Event::Ended(end) => self.ended = Some(end),
        }
    }

    fn end(&self, connection: &noq::Connection, end: End) -> LinkError {
        let reason = match end {
            End::Session => self.view.borrow().ended.clone().unwrap_or_default(),
            End::Stranded => {
                "the direct path has not answered for long, and there is no relay".to_owned()
            }
        };
        let error = LinkError::Unreachable(reason.clone());
        self.ending.because(error.clone());
        connection.close(crate::link::CODE_DONE.into(), reason.as_bytes());
        error
    }
}

/// The number of a path: the library shows it, and tells it in no other way.
fn own(id: noq::PathId) -> Option<PathId> {
    id.to_string().parse().ok().map(PathId)
}

fn quic_status(status: Status) -> PathStatus {
    match status {
        Status::Available => PathStatus::Available,
        Status::Backup => PathStatus::Backup,
    }
}

fn counts(stats: &noq::PathStats) -> Counts {
    Counts {
        acked_bytes: stats.acked_bytes,
        in_flight_bytes: stats.in_flight_bytes,
        received_datagrams: stats.udp_rx.datagrams,
        black_holes: stats.black_holes_detected,
        payload_bytes: stats.current_mtu,
        rtt: stats.rtt,
    }
}
