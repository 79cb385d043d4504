//! Whether anything is sent by a route.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

/// Routes that are watched; each link has one or two.
const WATCHED_MAX: usize = 1024;

/// One watched route.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Whether somebody waits for the next packet: while data flows nobody does, and a packet costs nothing.
    is_awaited: AtomicBool,
    sent: Notify,
}

/// The routes that links use at the moment.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    routes: RwLock<HashMap<SocketAddr, Arc<Activity>>>,
}

impl Activity {
    /// From now on, the next packet ends [`sent`](Self::sent).
    pub(crate) fn expect(&self) {
        self.is_awaited.store(true, Ordering::Relaxed);
    }

    /// Returns when a packet has been sent since it was expected.
    pub(crate) async fn sent(&self) {
        self.sent.notified().await;
    }
}

impl Watched {
    /// Watches a route from now on.
    pub(crate) fn watch(&self, label: SocketAddr) -> Arc<Activity> {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let activity = Arc::<Activity>::default();
        if routes.len() < WATCHED_MAX || routes.contains_key(&label) {
            routes.insert(label, Arc::clone(&activity));
        }
        activity
    }

    /// Whether a link watches the route that this label stands for.
    pub(crate) fn watches(&self, label: SocketAddr) -> bool {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).contains_key(&label)
    }

    /// Watches it no more, unless somebody else has begun to.
    pub(crate) fn unwatch(&self, label: SocketAddr, activity: &Arc<Activity>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.get(&label).is_some_and(|watched| Arc::ptr_eq(watched, activity)) {
            routes.remove(&label);
        }
    }

    pub(crate) fn sent(&self, label: SocketAddr) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(activity) = routes.get(&label) else { return };
        if activity.is_awaited.load(Ordering::Relaxed)
            && activity.is_awaited.swap(false, Ordering::Relaxed)
        {
            activity.sent.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_next_packet_on_a_watched_route_is_told_once_to_who_expects_it() {
        let watched = Watched::default();
        let label: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let activity = watched.watch(label);
        let is_told = || activity.sent().now_or_never().is_some();
        watched.sent(label);
        assert!(!is_told(), "nobody expects it");
        activity.expect();
        assert!(!is_told());
        watched.sent(label);
        watched.sent(label);
        assert!(is_told() && !is_told());
        activity.expect();
        watched.unwatch(label, &activity);
        watched.sent(label);
        assert!(!is_told());
    }
}
