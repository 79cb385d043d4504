//! Whether what is sent by a route is answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Routes that are watched; each link has one or two.
const WATCHED_MAX: usize = 1024;

/// One watched route. Times are in microseconds since the start, and 0 means never.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// When the first packet was sent that nothing has come back for yet.
    unanswered_since: AtomicU64,
    sent: Notify,
}

/// The routes that links use at the moment.
#[derive(Debug)]
pub(crate) struct Watched {
    began: Instant,
    routes: RwLock<HashMap<SocketAddr, Arc<Activity>>>,
}

impl Activity {
    /// How long packets have gone unanswered.
    pub(crate) fn unanswered_for(&self, began: Instant, now: Instant) -> Option<Duration> {
        let since = self.unanswered_since.load(Ordering::Relaxed);
        let now = micros(began, now);
        (since != 0).then(|| Duration::from_micros(now.saturating_sub(since)))
    }

    /// Counts anew from the next packet on.
    pub(crate) fn forget(&self) {
        self.unanswered_since.store(0, Ordering::Relaxed);
    }

    /// Returns when a packet has been sent after everything before was answered.
    pub(crate) async fn sent(&self) {
        self.sent.notified().await;
    }
}

fn micros(began: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(began).as_micros()).unwrap_or(u64::MAX).max(1)
}

impl Default for Watched {
    fn default() -> Self {
        Self { began: Instant::now(), routes: RwLock::default() }
    }
}

impl Watched {
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

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
        self.find(label).is_some()
    }

    /// Watches it no more, unless somebody else has begun to.
    pub(crate) fn unwatch(&self, label: SocketAddr, activity: &Arc<Activity>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.get(&label).is_some_and(|watched| Arc::ptr_eq(watched, activity)) {
            routes.remove(&label);
        }
    }

    fn find(&self, label: SocketAddr) -> Option<Arc<Activity>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&label).cloned()
    }

    pub(crate) fn sent(&self, label: SocketAddr) {
        let Some(activity) = self.find(label) else { return };
        if activity.unanswered_since.load(Ordering::Relaxed) == 0 {
            activity.unanswered_since.store(micros(self.began, Instant::now()), Ordering::Relaxed);
            activity.sent.notify_one();
        }
    }

    pub(crate) fn received(&self, label: SocketAddr) {
        if let Some(activity) = self.find(label) {
            activity.unanswered_since.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_route_is_unanswered_from_the_first_packet_that_nothing_came_back_for() {
        let watched = Watched::default();
        let label: SocketAddr = "192.0.2.1:1".parse().unwrap();
        watched.sent(label);
        let activity = watched.watch(label);
        let for_now = || activity.unanswered_for(watched.began(), Instant::now());
        assert_eq!(for_now(), None, "what was sent before counts for nothing");
        watched.sent(label);
        activity.sent().await;
        let first = activity.unanswered_since.load(Ordering::Relaxed);
        watched.sent(label);
        assert_eq!(activity.unanswered_since.load(Ordering::Relaxed), first);
        assert!(for_now().is_some());
        watched.received(label);
        assert_eq!(for_now(), None);
        watched.unwatch(label, &activity);
        watched.sent(label);
        assert_eq!(for_now(), None);
    }
}
