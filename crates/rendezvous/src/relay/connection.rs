//! One WebSocket of a worker: its messages go to the other end, what waits at its own end goes out.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use bytes::{BufMut, BytesMut};

use crate::client_stream::ClientStream;

use super::budget::{Bound, Payer, Verdict, Way};
use super::end::{Close, End};
use super::frame::{PING, PONG, Reader, Received};
use super::{Pair, Relay};
use holepunch_wire::close_code::CloseCode;
use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;

/// A worker that has said nothing for so long is sent a ping: within the two minutes after which
/// some routers forget a TCP connection, and rare enough for a battery.
const PING_AFTER: Duration = Duration::from_secs(110);
/// Time for the answer.
const PING_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a client has to take its close frame and answer it.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// Bytes of a read: it begins small, as most connections say little, and grows while reads are full, up
/// to the longest frame.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = RELAY_FRAME_BYTES_MAX + 64;
/// Reads before the others of this thread have a turn.
const READS_PER_TURN: usize = 8;

/// How a connection ends.
#[derive(Debug)]
enum Outcome {
    /// The client is gone, or the stream is broken.
    Gone(&'static str),
    /// With a close frame; that of the end, where none is named.
    Closes(Option<Close>),
}

/// What came through one connection, for the log.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A connection that has its place.
pub(super) struct Connection<'a> {
    pub(super) relay: &'a Relay,
    pub(super) pair: &'a Pair,
    pub(super) own: usize,
    pub(super) number: u64,
    pub(super) stream: Arc<ClientStream>,
    pub(super) payer: Payer,
    pub(super) counts: Counts,
}

impl Connection<'_> {
    /// Serves it to its end; why it ended.
    pub(super) async fn serve(&mut self, first: Bytes) -> &'static str {
        let (stream, number) = (Arc::clone(&self.stream), self.number);
        let end = &self.pair.ends[self.own];
        let outcome = tokio::select! {
            outcome = self.read(first) => outcome,
            () = end.write_out(number, &stream) => Outcome::Closes(None),
        };
        match outcome {
            Outcome::Gone(why) => why,
            Outcome::Closes(close) => {
                if let Some(close) = close {
                    end.close_one(number, close);
                }
                let _in_time =
                    tokio::time::timeout(CLOSE_GRACE, farewell(end, number, &stream)).await;
                close.map_or("closed by the rendezvous", |(_, reason)| reason)
            }
        }
    }

    /// Reads messages and hands them on, as fast as the other end takes them.
    async fn read(&mut self, first: Bytes) -> Outcome {
        let mut input = Input {
            buffer: BytesMut::from(first),
            reader: Reader::default(),
            read_bytes: READ_BYTES_MIN,
        };
        let mut turns = 0;
        if let Some(outcome) = self.hand_on(&mut input, 0) {
            return outcome;
        }
        loop {
            self.other().has_room().await;
            let (capacity, bytes) = match input.read(&self.stream) {
                Ok((_, 0)) => return Outcome::Gone("connection closed"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    input.rest();
                    turns = 0;
                    if let Some(outcome) = self.readable().await {
                        return outcome;
                    }
                    continue;
                }
                Err(_) => return Outcome::Gone("connection broken"),
            };
            if let Some(outcome) = self.hand_on(&mut input, capacity) {
                return outcome;
            }
            if let Some(outcome) = self.pay(bytes).await {
                return outcome;
            }
            turns += 1;
            if turns % READS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for bytes; a worker that is silent for long is asked whether it is there.
    async fn readable(&self) -> Option<Outcome> {
        let end = &self.pair.ends[self.own];
        for patience in [PING_AFTER, PING_TIMEOUT] {
            match tokio::time::timeout(patience, self.stream.readable()).await {
                Ok(Ok(())) => return None,
                Ok(Err(_)) => return Some(Outcome::Gone("connection broken")),
                Err(_) => end.send_control(self.number, PING, Bytes::new()),
            }
        }
        Some(Outcome::Gone("no answer to a ping"))
    }

    /// Hands on every message that is whole by now.
    fn hand_on(&mut self, input: &mut Input, buffer_bytes: usize) -> Option<Outcome> {
        let mut messages = Vec::new();
        let outcome = loop {
            match input.reader.next(&mut input.buffer) {
                Ok(Some(Received::Data(message))) => {
                    self.counts.messages += 1;
                    self.counts.bytes += message.len() as u64;
                    messages.push(message);
                }
                Ok(Some(Received::Nothing)) => {}
                Ok(Some(Received::Ping(payload))) => {
                    let payload = Bytes::copy_from_slice(&payload);
                    self.pair.ends[self.own].send_control(self.number, PONG, payload);
                }
                Ok(Some(Received::Close(code))) => {
                    break Some(Outcome::Closes(Some((code, ""))));
                }
                Ok(None) => break None,
                Err(broken) => break Some(Outcome::Closes(Some((broken.0.into(), broken.1)))),
            }
        };
        if !messages.is_empty() {
            self.pair.ends[self.own].speaks_by(Way::WebSocket);
            if let Some(channel) = self.other().channel_in_use(0) {
                messages.retain(|frame| !channel.send_frame(frame));
            }
            self.other().send(messages.into_iter(), buffer_bytes);
        }
        outcome
    }

    /// Pays for bytes, with a pause where there are too many in too short a time.
    async fn pay(&self, bytes: usize) -> Option<Outcome> {
        match self.relay.spend(self.payer, bytes) {
            Verdict::Within => None,
            Verdict::Slow(until, ..) => {
                tokio::time::sleep_until(until.into()).await;
                None
            }
            Verdict::Over(bound) => {
                let reason = match bound {
                    Bound::Address => "this address has used up what is relayed for it in a day",
                    Bound::Site => {
                        "this IPv6 site (/48) has used up what is relayed for it in a day"
                    }
                    Bound::Session | Bound::Total => {
                        "this session has used up what is relayed for it"
                    }
                };
                Some(Outcome::Closes(Some((CloseCode::Policy.into(), reason))))
            }
        }
    }

    fn other(&self) -> &End {
        &self.pair.ends[1 - self.own]
    }
}

/// Bytes of a client that are not a message yet.
struct Input {
    buffer: BytesMut,
    reader: Reader,
    read_bytes: usize,
}

impl Input {
    /// Reads what has come: the buffer's capacity, and the bytes.
    fn read(&mut self, stream: &ClientStream) -> io::Result<(usize, usize)> {
        let wanted = self.read_bytes.max(self.reader.missing(&self.buffer));
        self.buffer.reserve(wanted);
        let (capacity, room) = (self.buffer.capacity(), self.buffer.capacity() - self.buffer.len());
        let bytes = stream.try_read_buf(&mut self.buffer)?;
        if bytes >= self.read_bytes.min(room) {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        } else if bytes < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        Ok((capacity, bytes))
    }

    /// Nothing more has come: a buffer is kept for a message that has begun alone.
    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Writes the close frame, and gives the client a moment to take it: a socket that is dropped with
/// unread bytes is reset, and the close frame may be lost with it.
async fn farewell(end: &End, number: u64, stream: &ClientStream) {
    let mut words = &end.last_words(number)[..];
    while !words.is_empty() && stream.writable().await.is_ok() {
        match stream.try_write_vectored(&[IoSlice::new(words)]) {
            Ok(bytes) => words = &words[bytes..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    while stream.has_unsent() && stream.writable().await.is_ok() {
        match stream.try_flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Ok(()) | Err(_) => {}
        }
    }
    let _best_effort = stream.shutdown();
    let mut rest = Vec::with_capacity(READ_BYTES_MIN);
    while stream.readable().await.is_ok() {
        rest.clear();
        match stream.try_read_buf(&mut (&mut rest).limit(READ_BYTES_MIN)) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_input_keeps_no_buffer() {
        let mut input =
            Input { buffer: BytesMut::new(), reader: Reader::default(), read_bytes: 4096 };
        input.buffer.reserve(READ_BYTES_MAX);
        input.rest();
        assert_eq!(input.buffer.capacity(), 0);
    }
}
