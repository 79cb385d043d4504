//! Where a relay's connection is attached to a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use holepunch_wire::relay::{LENGTH_BYTES, RELAY_FRAME_BYTES_MAX};
use tokio::sync::watch;

use super::view::View;
use crate::mux::{Mux, RelayQueue, Route};

/// Longest datagram that the relay of the rendezvous takes, in bytes: more than QUIC sends on any path.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(LENGTH_BYTES + DATAGRAM_BYTES_MAX <= RELAY_FRAME_BYTES_MAX);
/// The same of a TURN server: what is left of an Ethernet frame behind the headers of IPv6, UDP and
/// ChannelData (RFC 8656 §12.4). QUIC finds out that longer ones do not arrive.
const TURN_DATAGRAM_BYTES_MAX: usize = 1500 - 40 - 8 - 4;

/// Which kind of relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayKind {
    /// That of the rendezvous: frames on a WebSocket.
    Rendezvous,
    /// A TURN server.
    Turn,
}

/// One session's end of a relay. Whoever has it connects to the relay, says when it is
/// [`up`](Self::up), and carries frames both ways; dropping it detaches the relay.
#[derive(Debug)]
pub struct RelayEnd {
    mux: Arc<Mux>,
    route: Route,
    label: SocketAddr,
    view: watch::Sender<View>,
    queue: Option<Arc<RelayQueue>>,
    /// Longest datagram that it takes, in bytes.
    datagram_bytes_max: usize,
}

impl RelayEnd {
    pub(super) fn new(mux: Arc<Mux>, route: Route, view: watch::Sender<View>) -> Self {
        let label = mux.own_label(route);
        let datagram_bytes_max = match route {
            Route::Turn(_) => TURN_DATAGRAM_BYTES_MAX,
            Route::Relay(_) | Route::Direct(..) => DATAGRAM_BYTES_MAX,
        };
        Self { mux, route, label, view, queue: None, datagram_bytes_max }
    }

    /// Datagrams of at most so many bytes go by it from the next time on that it is [`up`](Self::up). QUIC finds out that
    /// longer ones do not arrive.
    pub fn limit_datagrams(&mut self, bytes_max: usize) {
        self.datagram_bytes_max = self.datagram_bytes_max.min(bytes_max);
    }

    /// The relay is connected: packets may go by it.
    pub fn up(&mut self) {
        let queue = Arc::new(RelayQueue::new(self.datagram_bytes_max));
        self.mux.open_relay(self.label, Arc::clone(&queue));
        self.queue = Some(queue);
        self.view.send_modify(|view| {
            view.relays.retain(|route| *route != self.route);
            view.relays.push(self.route);
            view.renewed += 1;
        });
    }

    /// Another connection to the relay has taken the place of the one before.
    pub fn renewed(&self) {
        self.view.send_modify(|view| view.renewed += 1);
    }

    /// Whether packets may go by it.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.queue.is_some()
    }

    /// It is no more.
    pub fn down(&mut self) {
        if let Some(queue) = self.queue.take() {
            self.mux.close_relay(self.label, &queue);
            self.view.send_modify(|view| view.relays.retain(|route| *route != self.route));
        }
    }

    /// The next frame to send; waits until there is one. Dropping the future loses nothing.
    pub async fn next_frame(&self) -> Vec<u8> {
        let Some(queue) = &self.queue else { return std::future::pending().await };
        loop {
            if let Some(frame) = queue.pop() {
                return frame;
            }
            queue.filled().await;
        }
    }

    /// The next frame to send, where one waits.
    #[must_use]
    pub fn try_next_frame(&self) -> Option<Vec<u8>> {
        self.queue.as_ref()?.pop()
    }

    /// Waits for `sending`, the writing of a frame. A relay that takes nothing for long must not hold up
    /// other paths; only who waits here knows.
    pub async fn patiently<T>(&self, sending: impl Future<Output = T>) -> T {
        let mut sending = std::pin::pin!(sending);
        loop {
            tokio::select! {
                sent = &mut sending => return sent,
                () = tokio::time::sleep(RelayQueue::LOOK_EVERY) => {
                    if let Some(queue) = &self.queue {
                        queue.release_stuck(Instant::now());
                    }
                }
            }
        }
    }

    /// Takes a frame that has come; waits where QUIC is busy. `false` when nobody wants any more.
    pub async fn deliver(&self, frame: Bytes) -> bool {
        self.mux.deliver_frame(self.label, frame).await
    }

    /// Returns when the session is over.
    pub async fn ended(&self) {
        let mut view = self.view.subscribe();
        let _ended = view.wait_for(|view| view.ended.is_some()).await;
    }
}

impl Drop for RelayEnd {
    fn drop(&mut self) {
        self.down();
    }
}
