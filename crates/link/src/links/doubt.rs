//! Watches whether what is sent on a direct path is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::session::SessionId;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::LinkEvent;
use crate::mux::{Activity, Mux};

/// Packets may go unanswered for so long, and for some round trips, before the path is asked: the peer
/// acknowledges within 25 ms (RFC 9000 §18.2), and a busy machine needs its time.
const DOUBT_AFTER: Duration = Duration::from_millis(100);
const DOUBT_AFTER_ROUND_TRIPS: u32 = 3;
/// While packets are unanswered, this often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After a doubt, before the next: the question has its time.
const PAUSE: Duration = Duration::from_millis(500);

/// The watch over one path; it ends with this value.
#[derive(Debug)]
pub(super) struct Doubts {
    pub(super) label: SocketAddr,
    mux: Arc<Mux>,
    activity: Arc<Activity>,
    task: tokio::task::AbortHandle,
}

impl Doubts {
    pub(super) fn watch(
        mux: &Arc<Mux>,
        label: SocketAddr,
        path: noq::WeakPathHandle,
        session: SessionId,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        let activity = mux.watched().watch(label);
        let began = mux.watched().began();
        let task = tokio::spawn(watch(Arc::clone(&activity), began, path, session, events));
        Self { label, mux: Arc::clone(mux), activity, task: task.abort_handle() }
    }
}

impl Drop for Doubts {
    fn drop(&mut self) {
        self.task.abort();
        self.mux.watched().unwatch(self.label, &self.activity);
    }
}

async fn watch(
    activity: Arc<Activity>,
    began: Instant,
    path: noq::WeakPathHandle,
    session: SessionId,
    events: mpsc::Sender<LinkEvent>,
) {
    loop {
        activity.sent().await;
        while let Some(unanswered) = activity.unanswered_for(began, Instant::now()) {
            let Some(path) = path.upgrade() else { return };
            let patience = DOUBT_AFTER.max(path.stats().rtt * DOUBT_AFTER_ROUND_TRIPS);
            drop(path);
            if unanswered < patience {
                sleep(LOOK_EVERY).await;
                continue;
            }
            if events.send(LinkEvent::Doubt(session)).await.is_err() {
                return;
            }
            sleep(PAUSE).await;
            // What comes back now is the answer to a check: QUIC hears again when it sends again.
            activity.forget();
        }
    }
}
