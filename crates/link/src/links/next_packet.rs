//! Waits for the next packet on a path.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::mux::{Activity, Mux, Route};

/// The watch over one route; it ends with this value.
#[derive(Debug)]
pub(super) struct Watch {
    route: Route,
    label: SocketAddr,
    mux: Arc<Mux>,
    activity: Arc<Activity>,
    is_expecting: bool,
}

impl Watch {
    /// Expects the next packet by this route, or none.
    pub(super) fn turn(watch: &mut Option<Self>, route: Option<Route>, mux: &Arc<Mux>) {
        let same = watch.as_mut().filter(|watch| Some(watch.route) == route);
        match same {
            Some(watch) => {
                watch.activity.expect();
                watch.is_expecting = true;
            }
            None => *watch = route.map(|route| Self::new(route, mux)),
        }
    }

    fn new(route: Route, mux: &Arc<Mux>) -> Self {
        let label = mux.label(route);
        let activity = mux.watched.watch(label);
        activity.expect();
        Self { route, label, mux: Arc::clone(mux), activity, is_expecting: true }
    }

    /// Returns, once, when the packet that is expected has been sent.
    pub(super) async fn sent(watch: &mut Option<Self>) {
        let Some(watch) = watch.as_mut().filter(|watch| watch.is_expecting) else {
            return std::future::pending().await;
        };
        watch.activity.sent().await;
        watch.is_expecting = false;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.mux.watched.unwatch(self.label, &self.activity);
    }
}
