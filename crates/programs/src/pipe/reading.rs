//! The thread that reads the input: a read that waits, for a person say, holds up nothing but itself, and the
//! process may end meanwhile.

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
    waiting: BytesMut,
    /// The end of the input, or why it cannot be read further.
    end: Option<io::Result<()>>,
    is_unwanted: bool,
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
        while state.waiting.len() >= WAITING_BYTES_MAX && !state.is_unwanted {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.extend_from_slice(bytes);
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

    /// All that has come; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The input cannot be read, told once.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            {
                let mut state = self.0.lock();
                if !state.waiting.is_empty() {
                    let all = state.waiting.split().freeze();
                    drop(state);
                    self.0.room.notify_one();
                    return Ok(Some(all));
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
