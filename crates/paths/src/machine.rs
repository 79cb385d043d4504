//! The machine, and its doors.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::again::Again;
use crate::doors::{Action, Answer, End, Event, Input, PathId, Route, Routes, WakeReason};
use crate::follow::Follow;
use crate::nudges::Nudges;
use crate::progress::Progress;
use crate::standing::Standing;
use crate::table::Table;

/// Paths of a link at once, as QUIC is set up: the relay's, a TURN server's, the direct one, and two that are being given up. Each takes
/// memory for its connection ids, whether it is ever opened or not; with four, 1,000 simulated histories of outages come out as with eight.
pub const PATHS_MAX: u32 = 5;
/// A link without any route ends after so long.
const STRANDED_MAX: Duration = Duration::from_secs(30);
/// A peer that closes a link says why on the link, and leaves the session by the rendezvous: where that
/// comes first, its own words have so long.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// The path that this side sends by.
#[derive(Debug)]
pub(crate) struct Active<R> {
    pub(crate) path: PathId,
    /// Its route when it was chosen.
    pub(crate) route: R,
    /// Whether data arrives; of a direct path alone.
    pub(crate) progress: Option<Progress>,
}

/// How the link as a whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// There is a route.
    Reachable,
    /// There is none.
    Stranded {
        /// Since when.
        since: Instant,
    },
    /// The session is over: the peer's last words may come.
    Over {
        /// So long.
        until: Instant,
    },
    /// It is told that the link ends.
    Ended,
}

/// The questions that are not answered yet.
#[derive(Debug)]
pub(crate) struct Asked<R> {
    /// By these routes a path is to be opened.
    pub(crate) opens: Vec<R>,
    /// The path that makes a detour, its route, and the one by which it is to go.
    pub(crate) detour: Option<(PathId, [R; 2])>,
    /// What QUIC has counted on this path.
    pub(crate) count: Option<PathId>,
    /// So many times, where the peer is.
    pub(crate) locate: usize,
}

/// The paths of one link, on one side of it.
#[derive(Debug)]
pub struct Paths<R> {
    pub(crate) is_controlling: bool,
    pub(crate) routes: Routes<R>,
    pub(crate) table: Table<R>,
    pub(crate) active: Option<Active<R>>,
    pub(crate) standing: Standing<R>,
    pub(crate) again: Again,
    pub(crate) nudges: Nudges,
    pub(crate) follow: Follow<R>,
    pub(crate) asked: Asked<R>,
    /// Whether there is a path by a relay, as it was told.
    pub(crate) relayed: Option<bool>,
    pub(crate) life: Life,
    /// When the machine was called last.
    pub(crate) now: Instant,
    pub(crate) actions: VecDeque<Action<R>>,
    pub(crate) events: VecDeque<Event<R>>,
}

impl<R: Route> Paths<R> {
    /// The paths of a connection that was made by the route `first`. The side that connected is the controlling one: it
    /// opens paths, and closes direct ones.
    #[must_use]
    pub fn new(is_controlling: bool, first: R, routes: Routes<R>, now: Instant) -> Self {
        let asked = Asked { opens: Vec::new(), detour: None, count: None, locate: 0 };
        let mut paths = Self {
            is_controlling,
            table: Table::new(first),
            active: None,
            standing: Standing::new(&routes),
            routes,
            again: Again::new(is_controlling),
            nudges: Nudges::default(),
            follow: Follow::default(),
            asked,
            relayed: None,
            life: Life::Reachable,
            now,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        };
        // The peer may have opened a path before anybody listened to events.
        paths.act(Action::List);
        paths.settle(now);
        paths
    }

    /// Something has happened.
    pub fn handle_input(&mut self, input: Input<R>, now: Instant) {
        if self.is_over() {
            return;
        }
        self.now = now;
        match input {
            Input::Routes(routes) => self.learn(routes, now),
            Input::Established { path, route } => {
                if let Some(route) = self.table.established(path, route) {
                    self.standing.established(route);
                }
            }
            Input::Abandoned(path) => {
                if self.table.close(path) {
                    self.again.plan(now);
                }
            }
            Input::Discarded(path) => {
                if self.table.forget(path) {
                    self.again.plan(now);
                }
            }
            Input::EventsLost => self.act(Action::List),
            Input::Sent => {
                if let Some(progress) = self.active.as_mut().and_then(|it| it.progress.as_mut()) {
                    progress.sent(now);
                }
            }
            Input::SessionOver => {
                self.life = Life::Over { until: now + LAST_WORDS };
                return;
            }
            Input::Answer(answer) => return self.answered(answer, now),
        }
        self.ask(now);
        self.settle(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        match self.life {
            Life::Over { until } if until <= now => self.end(End::Session),
            Life::Over { .. } | Life::Ended => {}
            Life::Reachable | Life::Stranded { .. } => {
                self.ask(now);
                self.settle(now);
            }
        }
    }

    /// What to do.
    pub fn poll_transmit(&mut self) -> Option<Action<R>> {
        next_or_free(&mut self.actions)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let stranded_at = match self.life {
            Life::Ended => return None,
            Life::Over { until } => return Some((until, WakeReason::SessionOver)),
            Life::Stranded { since } => Some(since + STRANDED_MAX),
            Life::Reachable => None,
        };
        let progress = self.active.as_ref().and_then(|active| active.progress.as_ref());
        let progress_at = progress.and_then(Progress::look_at);
        let narrow_at = self.standing.try_at(&self.routes).filter(|_| self.is_controlling);
        let moments = [
            (progress_at.filter(|_| self.asked.count.is_none()), WakeReason::Progress),
            (self.again.at(), WakeReason::Again),
            // A moment that has passed has had its detour, or its try.
            (self.detour_at().filter(|at| *at > self.now), WakeReason::Detour),
            (narrow_at.filter(|at| *at > self.now), WakeReason::Narrow),
            (self.nudges.at(), WakeReason::Nudge),
            (self.follow.look_at().filter(|_| self.asked.locate == 0), WakeReason::Follow),
            (stranded_at, WakeReason::Stranded),
        ];
        moments.into_iter().filter_map(|(at, why)| Some((at?, why))).min()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event<R>> {
        next_or_free(&mut self.events)
    }

    /// By which path this side sends, and its route.
    #[must_use]
    pub fn active(&self) -> Option<(PathId, R)> {
        let active = self.active.as_ref()?;
        Some((active.path, self.table.route(active.path)?))
    }

    /// The paths that carry packets, the oldest first.
    pub fn open(&self) -> impl Iterator<Item = (PathId, R)> {
        self.table.open()
    }
}

impl<R: Route> Paths<R> {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.life, Life::Over { .. } | Life::Ended)
    }

    pub(crate) fn act(&mut self, action: Action<R>) {
        self.actions.push_back(action);
    }

    pub(crate) fn tell(&mut self, event: Event<R>) {
        self.events.push_back(event);
    }

    fn end(&mut self, end: End) {
        self.life = Life::Ended;
        self.tell(Event::Ended(end));
    }

    fn answered(&mut self, answer: Answer<R>, now: Instant) {
        match answer {
            Answer::Opened { route, path } => {
                self.asked.opens.retain(|asked| *asked != route);
                match path {
                    Some(path) => {
                        self.again.opened();
                        self.table.opened(path, route, now);
                    }
                    None => self.again.refused(now),
                }
            }
            Answer::Exchanged(is_done) => {
                // Where it is not, whatever comes next asks again.
                let Some((path, routes)) = self.asked.detour.take() else { return };
                if !is_done {
                    return;
                }
                self.detoured(path, routes, now);
            }
            Answer::Unbatched(is_new) => return self.unbatched(is_new),
            Answer::Counted(path, counts) => self.counted(path, counts, now),
            Answer::Located(path, route) => self.located(path, route, now),
            Answer::Listed(paths) => {
                if self.table.listed(&paths) > 0 {
                    self.again.plan(now);
                }
            }
        }
        self.settle(now);
    }

    /// Looks whether there is a route. A link that has had none for long ends.
    pub(crate) fn strand(&mut self, now: Instant) {
        let has_direct = self.table.open().any(|(_, route)| route.is_direct());
        let is_stranded = self.routes.relays.is_empty()
            && (self.standing.is_silent() || self.routes.direct.is_none() && !has_direct);
        self.life = match self.life {
            Life::Stranded { since } if is_stranded => Life::Stranded { since },
            Life::Reachable | Life::Stranded { .. } if is_stranded => Life::Stranded { since: now },
            Life::Reachable | Life::Stranded { .. } => Life::Reachable,
            Life::Over { .. } | Life::Ended => self.life,
        };
        if let Life::Stranded { since } = self.life
            && since + STRANDED_MAX <= now
        {
            self.end(End::Stranded);
        }
    }
}

/// The next of a queue. An empty one gives its memory back: a link is idle for most of its time, and there are many.
fn next_or_free<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if next.is_none() {
        *queue = VecDeque::new();
    }
    next
}
