//! Watches whether what is sent on the direct path arrives, and draws the conclusions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::paths::{Paths, is_direct};
use super::progress::{Finding, Progress, Sample};
use super::{View, shown};
use crate::mux::{Activity, Mux, Route};

/// A narrow path is tried again so much later, which doubles ...
const TRY_FIRST: Duration = Duration::from_secs(2);
/// ... up to this: each time costs both sides some packets of full size.
const TRY_LONGEST: Duration = Duration::from_secs(60);

/// The watch over one path; it ends with this value.
#[derive(Debug)]
pub(super) struct Watch {
    label: SocketAddr,
    route: Route,
    mux: Arc<Mux>,
    pub(super) activity: Arc<Activity>,
    progress: Progress,
    black_holes: u64,
}

impl Watch {
    pub(super) fn new(mux: &Arc<Mux>, route: Route) -> Self {
        let label = mux.label(route);
        let activity = mux.watched().watch(label);
        activity.expect();
        Self {
            label,
            route,
            mux: Arc::clone(mux),
            activity,
            progress: Progress::default(),
            black_holes: 0,
        }
    }

    pub(super) fn sent(&mut self) {
        self.progress.sent(Instant::now().into());
    }

    pub(super) fn look_at(&self) -> Option<Instant> {
        self.progress.look_at().map(Instant::from)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.mux.watched().unwatch(self.label, &self.activity);
    }
}

/// A direct route that answers checks and carries no data.
#[derive(Debug)]
pub(super) struct Narrow {
    route: Route,
    try_at: Instant,
    wait: Duration,
    /// A path by this route has been opened since: packets of full size have passed both ways (RFC 9000 §8.2).
    is_over: bool,
}

impl Paths {
    /// Whether the direct route is no way to send by: it answers no checks, or carries no data.
    pub(super) fn is_suspect(&self, view: &View) -> bool {
        self.is_silent(view) || self.is_narrow(view)
    }

    /// Whether the direct route answers no checks, and nothing newer speaks for it.
    pub(super) fn is_silent(&self, view: &View) -> bool {
        view.is_suspect() && !self.proved
    }

    fn is_narrow(&self, view: &View) -> bool {
        self.narrow.as_ref().is_some_and(|it| !it.is_over && Some(it.route) == view.direct)
    }

    /// Whether a path may be opened by the direct route now.
    pub(super) fn may_open_direct(&mut self, view: &View, now: Instant) -> bool {
        if view.is_suspect() {
            return false;
        }
        if !self.is_narrow(view) {
            return true;
        }
        let Some(narrow) = self.narrow.as_mut().filter(|narrow| narrow.try_at <= now) else {
            return false;
        };
        narrow.wait = (narrow.wait * 2).min(TRY_LONGEST);
        narrow.try_at = now + narrow.wait;
        true
    }

    /// When the narrow route is tried again. A moment that has passed has had its try.
    pub(super) fn try_narrow_at(&self, now: Instant) -> Option<Instant> {
        let view = self.view.borrow();
        let is_tried = self.is_controlling && self.is_narrow(&view) && !view.is_suspect();
        self.narrow.as_ref().filter(|_| is_tried).map(|narrow| narrow.try_at).filter(|at| *at > now)
    }

    /// A path by this route is there.
    pub(super) fn widened(&mut self, route: Route) {
        if let Some(narrow) = self.narrow.as_mut().filter(|narrow| narrow.route == route) {
            narrow.is_over = true;
        }
    }

    /// Looks whether data arrives.
    pub(super) fn watch_progress(&mut self, connection: &noq::Connection, now: Instant) {
        let Some(id) = self.active else { return };
        let Some(watch) = &mut self.watch else { return };
        if watch.look_at().is_none_or(|at| at > now) {
            return;
        }
        let Some(path) = connection.path(id) else { return };
        let stats = path.stats();
        let (acked_bytes, in_flight_bytes) = (stats.acked_bytes, stats.in_flight_bytes);
        let received_datagrams = stats.udp_rx.datagrams;
        let sample = Sample { acked_bytes, in_flight_bytes, received_datagrams, rtt: stats.rtt };
        let found = watch.progress.look(sample, now.into());
        if watch.look_at().is_none() {
            watch.activity.expect();
        }
        let route = watch.route;
        let had_black_hole = std::mem::replace(&mut watch.black_holes, stats.black_holes_detected)
            < stats.black_holes_detected;
        if had_black_hole {
            let reason = format!(
                "the path takes packets of {} bytes, and no longer ones",
                stats.current_mtu
            );
            self.tell(id, route, &reason);
        }
        match found {
            None => {}
            Some(Finding::Doubt) => (self.has_doubt, self.proved) = (true, false),
            Some(Finding::Unbatch) => {
                if self.mux.unbatch(route) {
                    self.tell(id, route, "nothing is acknowledged: packets leave one by one");
                }
                let _unless_closed = path.ping();
            }
            Some(Finding::Narrow) => self.narrowed(route, now),
        }
    }

    /// The path in use carries no data: where there is another one, that is used.
    fn narrowed(&mut self, route: Route, now: Instant) {
        if !self.open.values().any(|route| !is_direct(*route)) {
            return;
        }
        tracing::debug!(session = %self.session, route = shown(route), "the path carries no data");
        let again = self.narrow.as_ref().filter(|narrow| narrow.route == route);
        let wait = again.map_or(TRY_FIRST, |narrow| narrow.wait);
        self.narrow = Some(Narrow { route, try_at: now + wait, wait, is_over: false });
    }
}
