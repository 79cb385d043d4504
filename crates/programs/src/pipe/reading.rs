//! The thread that reads the input: a read that waits, for a person say, holds up nothing but itself, and the
//! process may end meanwhile.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// Bytes read at once: what is copied out of it next is still in the processor's cache.
const READ_BYTES: usize = 256 * 1024;
/// Bytes that are read and wait to be sent. Nothing is read while there are more.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// What the thread has read.
#[derive(Debug)]
pub(super) struct Reading(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the thread: there is room, or nobody wants more.
    room: Condvar,
    /// For the task: something has come.
    came: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Pieces that are full, before the one that is being filled: what is read is copied once, and short reads share a
    /// piece.
    full: VecDeque<Bytes>,
    last: BytesMut,
    /// Bytes of all.
    bytes: usize,
    /// The end of the input, or why it cannot be read further.
    end: Option<io::Result<()>>,
    is_unwanted: bool,
}

impl State {
    fn push(&mut self, bytes: &[u8]) {
        if self.last.capacity() - self.last.len() < bytes.len() {
            let last = std::mem::replace(&mut self.last, BytesMut::with_capacity(READ_BYTES));
            if !last.is_empty() {
                self.full.push_back(last.freeze());
            }
        }
        self.last.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// The first piece.
    fn pop(&mut self) -> Option<Bytes> {
        let first = match self.full.pop_front() {
            Some(first) => first,
            None if self.last.is_empty() => return None,
            None => self.last.split().freeze(),
        };
        self.bytes -= first.len();
        Some(first)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut reader: impl Read) {
        let mut bytes = vec![0; READ_BYTES];
        let end = loop {
            match reader.read(&mut bytes) {
                Ok(0) => break Ok(()),
                Ok(read) if self.put(&bytes[..read]) => {}
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.lock().end = Some(end);
        self.came.notify_one();
    }

    /// Waits for room; whether more is wanted.
    fn put(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        while state.bytes >= WAITING_BYTES_MAX && !state.is_unwanted {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.push(bytes);
        let is_wanted = !state.is_unwanted;
        drop(state);
        self.came.notify_one();
        is_wanted
    }
}

impl Reading {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        thread::Builder::new().name("input".to_owned()).spawn(move || own.read(reader))?;
        Ok(Self(shared))
    }

    /// The next piece of what has come; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The input cannot be read, told once.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(piece) = state.pop() {
                    drop(state);
                    self.0.room.notify_one();
                    return Ok(Some(piece));
                }
                if let Some(end) = &mut state.end {
                    return std::mem::replace(end, Ok(())).map(|()| None);
                }
            }
            self.0.came.notified().await;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.lock().is_unwanted = true;
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_as_they_went_in_and_short_ones_together() {
        let mut state = State::default();
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(3 * READ_BYTES).collect();
        let mut rest = &all[..];
        for length in (1..).map(|number: usize| number * 997 % 9000) {
            let (first, after) = rest.split_at(length.min(rest.len()));
            state.push(first);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(state.bytes, all.len());
        let mut pieces = Vec::new();
        while let Some(piece) = state.pop() {
            pieces.push(piece);
        }
        assert!(pieces.len() <= 4 && state.bytes == 0, "{} pieces", pieces.len());
        assert!(pieces.concat() == all);
    }

    #[tokio::test]
    async fn an_endless_input_is_read_no_further_than_its_bound() {
        let mut reading = Reading::start(io::repeat(7)).unwrap();
        let mut bytes = 0;
        while bytes < 4 * WAITING_BYTES_MAX {
            bytes += reading.next().await.unwrap().unwrap().len();
            assert!(reading.0.lock().bytes < WAITING_BYTES_MAX + READ_BYTES);
        }
    }
}
