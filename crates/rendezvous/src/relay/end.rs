//! One of the two ends of a session: what waits for its worker, and the socket that it goes to.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::Notify;

use holepunch_wire::close_code::CloseCode;

use super::budget::Way;
use crate::client_stream::ClientStream;

use super::frame::{CLOSE, OwnHead, close_payload};
use super::queue::{Queue, WRITE_PIECES_MAX};
use super::udp::Channel;

/// The code and the reason of a close frame.
pub(super) type Close = (u16, &'static str);

/// Told to a connection when its worker has opened another one.
pub(super) const REPLACED: Close =
    (CloseCode::Normal as u16, "replaced by another connection of this worker");

/// One end.
#[derive(Debug, Default)]
pub(super) struct End {
    state: Mutex<State>,
    /// The connection is another one, or none, or there is something for its task to write.
    changed: Notify,
    /// The other end's task may read again.
    has_room: Notify,
    /// Its worker has spoken by datagrams last.
    speaks_by_udp: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Counts connections.
    number: u64,
    /// Where the queue is written; none while the worker is not connected.
    stream: Option<Arc<ClientStream>>,
    channel: Option<Arc<Channel>>,
    /// What the task of that connection still has to write before it ends.
    last_words: Option<(u64, Vec<u8>)>,
    dropped: u64,
}

/// What has become of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// All of it is with the kernel.
    All,
    /// The kernel takes the rest when the socket is writable again.
    Blocked,
    /// The socket is broken.
    Broken,
}

impl End {
    /// Takes a connection in the place of the one before; its number.
    pub(super) fn connect(&self, stream: Arc<ClientStream>) -> u64 {
        let mut state = self.lock();
        state.detach(REPLACED);
        state.number += 1;
        state.stream = Some(stream);
        let number = state.number;
        self.tell(state);
        number
    }

    /// The connection is gone, if it still is this end's. What waits is for the next one.
    pub(super) fn disconnect(&self, number: u64) {
        let mut state = self.lock();
        if state.number == number && state.stream.take().is_some() {
            state.queue.begin_anew();
        }
        self.tell(state);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().stream.is_some()
    }

    /// Whether its worker is reached by any way.
    pub(super) fn is_used(&self) -> bool {
        let state = self.lock();
        state.stream.is_some() || state.channel.is_some()
    }

    /// Takes a channel in the place of the one before, which it returns.
    pub(super) fn attach(&self, channel: Arc<Channel>) -> Option<Arc<Channel>> {
        self.lock().channel.replace(channel)
    }

    /// A channel is closed, if it still is this end's.
    pub(super) fn detach_channel(&self, channel: &Arc<Channel>) {
        self.lock().channel.take_if(|it| Arc::ptr_eq(it, channel));
    }

    pub(super) fn channel(&self) -> Option<Arc<Channel>> {
        self.lock().channel.clone()
    }

    /// Its worker has sent something by that way: it is sent to by the same.
    pub(super) fn speaks_by(&self, way: Way) {
        let by_udp = way == Way::Udp;
        if self.speaks_by_udp.load(Ordering::Relaxed) != by_udp {
            self.speaks_by_udp.store(by_udp, Ordering::Relaxed);
        }
    }

    /// The channel by which datagrams of this length go to the worker; none where its WebSocket is the better way.
    pub(super) fn channel_in_use(&self, payload_bytes: usize) -> Option<Arc<Channel>> {
        let by_udp = self.speaks_by_udp.load(Ordering::Relaxed);
        let state = self.lock();
        let is_in_use =
            |it: &&Arc<Channel>| state.stream.is_none() || (by_udp && it.takes(payload_bytes));
        state.channel.as_ref().filter(is_in_use).cloned()
    }

    /// Hands a frame to the worker, unless as much waits for it as may.
    pub(super) fn offer(&self, frame: Bytes) -> bool {
        let has_room = {
            let state = self.lock();
            state.stream.is_none() || !state.queue.is_full()
        };
        if has_room {
            self.send(std::iter::once(frame), 0);
        }
        has_room
    }

    /// Frames that were dropped since no worker was there to take them.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Hands messages to the worker, which were read from a buffer of so many bytes: at once where its
    /// socket takes them, else its task writes them later.
    pub(super) fn send(&self, messages: impl Iterator<Item = Bytes>, buffer_bytes: usize) {
        let mut state = self.lock();
        let was_waiting = !state.queue.is_empty();
        messages.for_each(|message| state.queue.push(message, buffer_bytes));
        let Some(stream) = state.stream.clone() else {
            state.queue.unpin();
            let dropped = state.queue.drop_oldest() as u64;
            state.dropped += dropped;
            return;
        };
        if !was_waiting && state.write(&stream) == Written::All {
            return;
        }
        state.queue.unpin();
        drop(state);
        if !was_waiting {
            self.changed.notify_waiters();
        }
    }

    /// Sends a ping or pong on a connection, if it still is this end's.
    pub(super) fn send_control(&self, number: u64, first: u8, payload: Bytes) {
        let mut state = self.lock();
        if state.number == number && state.stream.is_some() {
            state.queue.push_control(first, payload);
            self.tell(state);
        }
    }

    /// Ends the connection with a close frame.
    pub(super) fn close(&self, close: Close) {
        let mut state = self.lock();
        state.detach(close);
        self.tell(state);
    }

    /// Likewise, if the connection is still this end's.
    pub(super) fn close_one(&self, number: u64, close: Close) {
        let mut state = self.lock();
        if state.number == number {
            state.detach(close);
            self.tell(state);
        }
    }

    /// What a connection that has ended is still to write.
    pub(super) fn last_words(&self, number: u64) -> Vec<u8> {
        let words = self.lock().last_words.take_if(|(of, _)| *of == number);
        words.map(|(_, words)| words).unwrap_or_default()
    }

    /// Returns when there is room for more, or nobody to wait for.
    pub(super) async fn has_room(&self) {
        loop {
            let changed = self.has_room.notified();
            {
                let state = self.lock();
                if !state.queue.is_full() || state.stream.is_none() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Writes what the socket of a connection did not take at once, until it is not this end's any more
    /// or broken.
    pub(super) async fn write_out(&self, number: u64, stream: &ClientStream) {
        loop {
            let changed = self.changed.notified();
            match self.write(number, stream) {
                Some(Written::All) => changed.await,
                Some(Written::Blocked) => {
                    let writable = async {
                        let _broken_is_seen_by_the_write = stream.writable().await;
                    };
                    tokio::select! {
                        () = writable => {}
                        () = changed => {}
                    }
                }
                Some(Written::Broken) | None => return,
            }
        }
    }

    /// Writes what the socket takes; `None` where the connection is not this end's any more.
    fn write(&self, number: u64, stream: &ClientStream) -> Option<Written> {
        let mut state = self.lock();
        if state.number != number || state.stream.is_none() {
            return None;
        }
        let was_full = state.queue.is_full();
        let written = state.write(stream);
        let has_room = was_full && !state.queue.is_full();
        drop(state);
        if has_room {
            self.has_room.notify_waiters();
        }
        Some(written)
    }

    /// Wakes whoever waits for a change.
    fn tell(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.changed.notify_waiters();
        self.has_room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the connection off with a close frame, behind the rest of a frame that is under way. Other
    /// frames wait for the next connection.
    fn detach(&mut self, (code, reason): Close) {
        if self.stream.take().is_some() {
            let mut words = self.queue.rest_of_first();
            self.queue.begin_anew();
            let payload = close_payload(code, reason);
            words.extend_from_slice(OwnHead::new(CLOSE, payload.len()).as_bytes());
            words.extend_from_slice(&payload);
            self.last_words = Some((self.number, words));
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self, stream: &ClientStream) -> Written {
        while !self.queue.is_empty() {
            let mut pieces = [IoSlice::new(&[]); WRITE_PIECES_MAX];
            let count = self.queue.pieces(&mut pieces);
            match stream.try_write_vectored(&pieces[..count]) {
                Ok(0) => return Written::Broken,
                Ok(bytes) => self.queue.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Blocked,
                Err(_) => return Written::Broken,
            }
        }
        match stream.try_flush() {
            Ok(()) => Written::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Blocked,
            Err(_) => Written::Broken,
        }
    }
}
