//! What waits to be sent through a relay.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use holepunch_wire::relay::{RELAY_FRAME_BYTES_MAX, RelayFrame};
use tokio::sync::Notify;

/// Bytes that wait for a relay: two frames and some, so that one can be filled while another is
/// written. More would only be delay.
const QUEUE_BYTES_MAX: usize = 160 * 1024;
const _: () = assert!(2 * RELAY_FRAME_BYTES_MAX <= QUEUE_BYTES_MAX);
/// A relay that takes nothing for so long is stuck: what is sent to it is dropped from then on, as on any
/// network, because a packet that waits holds up the packets of all other paths too.
const STUCK_AFTER: Duration = Duration::from_millis(100);
/// Tasks that wait for room.
const WAITING_MAX: usize = 64;

/// A bounded queue of datagrams, gathered in frames, from QUIC to the task of one relay.
#[derive(Debug)]
pub(crate) struct RelayQueue {
    state: Mutex<State>,
    filled: Notify,
    datagram_bytes_max: usize,
}

/// What has become of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// They wait to be sent.
    Taken,
    /// So many of them are longer than the relay takes, and are dropped.
    TooLong(usize),
    /// They are dropped: nothing has been taken for long, or too many tasks wait.
    Stuck,
    /// They are dropped: the relay is no more.
    Closed,
}

#[derive(Debug)]
struct State {
    frames: Vec<RelayFrame>,
    bytes: usize,
    /// Since when there has been no room.
    full_since: Option<Instant>,
    waiting: Vec<Waker>,
    is_open: bool,
}

impl RelayQueue {
    /// A queue for a relay that takes datagrams of so many bytes.
    pub(crate) fn new(datagram_bytes_max: usize) -> Self {
        let state = State {
            frames: Vec::new(),
            bytes: 0,
            full_since: None,
            waiting: Vec::new(),
            is_open: true,
        };
        Self { state: Mutex::new(state), filled: Notify::new(), datagram_bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues datagrams of `segment` bytes each, the last perhaps shorter; or waits for room, but not for
    /// long.
    pub(super) fn push(
        &self,
        contents: &[u8],
        segment: usize,
        waker: &Waker,
        now: Instant,
    ) -> Poll<Pushed> {
        let mut state = self.lock();
        if !state.is_open {
            return Poll::Ready(Pushed::Closed);
        }
        if state.bytes >= QUEUE_BYTES_MAX {
            let since = *state.full_since.get_or_insert(now);
            let is_stuck = now.saturating_duration_since(since) >= STUCK_AFTER;
            if is_stuck || state.waiting.len() >= WAITING_MAX {
                return Poll::Ready(Pushed::Stuck);
            }
            if !state.waiting.iter().any(|other| other.will_wake(waker)) {
                state.waiting.push(waker.clone());
            }
            // Its task looks how long this lasts.
            drop(state);
            self.filled.notify_one();
            return Poll::Pending;
        }
        let mut too_long = 0;
        for datagram in contents.chunks(segment.max(1)) {
            if datagram.len() <= self.datagram_bytes_max {
                state.push(datagram);
            } else {
                too_long += 1;
            }
        }
        drop(state);
        self.filled.notify_one();
        Poll::Ready(if too_long > 0 { Pushed::TooLong(too_long) } else { Pushed::Taken })
    }

    /// Takes the next frame, and makes room.
    pub(crate) fn pop(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if state.frames.is_empty() {
            return None;
        }
        let frame = state.frames.remove(0);
        state.bytes -= frame.len();
        state.full_since = None;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        Some(frame.into_bytes())
    }

    /// Returns when something may have been queued since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Lets those go on that have waited for too long; their packets are dropped. To be called every
    /// [`STUCK_AFTER`] while a frame is being written.
    pub(crate) fn release_stuck(&self, now: Instant) {
        let mut state = self.lock();
        let since = state.full_since.map(|since| now.saturating_duration_since(since));
        if since.is_some_and(|since| since >= STUCK_AFTER) {
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// How often [`release_stuck`](Self::release_stuck) is to be called.
    pub(crate) const LOOK_EVERY: Duration = STUCK_AFTER;

    /// Takes nothing more, and lets go who waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_open = false;
        state.frames.clear();
        state.bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn push(&mut self, datagram: &[u8]) {
        let before = self.frames.last().map_or(0, RelayFrame::len);
        if let Some(last) = self.frames.last_mut()
            && last.push(datagram)
        {
            self.bytes += last.len() - before;
            return;
        }
        let mut frame = RelayFrame::default();
        if frame.push(datagram) {
            self.bytes += frame.len();
            self.frames.push(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_wire::relay::datagrams;

    #[test]
    fn datagrams_are_gathered_in_frames_and_come_out_in_order() {
        let queue = RelayQueue::new(1500);
        let now = Instant::now();
        let contents: Vec<u8> = (0..=250).collect();
        assert!(queue.push(&contents, 100, Waker::noop(), now).is_ready());
        let pushed = queue.push(&[9; 3002], 1501, Waker::noop(), now);
        assert_eq!(pushed, Poll::Ready(Pushed::TooLong(2)));
        let frame = queue.pop().unwrap();
        let lengths: Vec<usize> = datagrams(&frame).map(<[u8]>::len).collect();
        assert_eq!((lengths, queue.pop()), (vec![100, 100, 51], None));
    }

    #[test]
    fn a_full_queue_holds_its_sender_up_but_not_for_long() {
        let queue = RelayQueue::new(1500);
        let now = Instant::now();
        let push = |at| queue.push(&[7; 1400], 1400, Waker::noop(), at);
        let taken = (0..1000).take_while(|_| push(now).is_ready()).count();
        assert_eq!(taken, QUEUE_BYTES_MAX.div_ceil(1402));
        assert!(push(now + STUCK_AFTER / 2).is_pending());
        assert_eq!(push(now + STUCK_AFTER), Poll::Ready(Pushed::Stuck));
        assert!(queue.pop().is_some());
        assert_eq!(push(now + STUCK_AFTER), Poll::Ready(Pushed::Taken), "there is room again");
        queue.close();
        assert_eq!(push(now), Poll::Ready(Pushed::Closed));
        assert!(queue.pop().is_none());
    }
}
