//! Where what the peer says goes: a thread writes it, as much at once as there is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use tokio::sync::Notify;

/// Bytes that have come and wait to be written. While there are more, nothing is read from the link, whose window
/// then holds the peer back.
const WAITING_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Pieces that wait: each packet is one.
const WAITING_PIECES_MAX: usize = 4096;
/// A shorter piece is copied, so that it keeps no buffer of whole packets in memory.
const COPIED_BYTES_MAX: usize = 512;
/// Pieces that are written by one call: what Linux takes (`IOV_MAX`).
const PIECES_WRITTEN_MAX: usize = 1024;

/// An output, written by a thread of its own: one that takes nothing holds up nothing else, and the process may end
/// meanwhile.
#[derive(Debug)]
pub struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the thread: there is something to write, or nothing more will come.
    came: Condvar,
    /// For the task: something was written, or cannot be.
    changed: Notify,
    /// Bytes that were written.
    written: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Bytes>,
    /// Bytes that wait, and those that are being written.
    bytes: usize,
    has_ended: bool,
    /// What has become of it, once it is over.
    outcome: Option<io::Result<()>>,
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= WAITING_BYTES_MAX || self.waiting.len() >= WAITING_PIECES_MAX
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut writer: impl Write) {
        let outcome = self.write(&mut writer);
        // Whoever reads sees the end before anybody is told that all was written.
        drop(writer);
        self.lock().outcome = Some(outcome);
        self.changed.notify_one();
    }

    fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut pieces = VecDeque::new();
        while self.take(&mut pieces) {
            while !pieces.is_empty() {
                let slices: Vec<_> =
                    pieces.iter().take(PIECES_WRITTEN_MAX).map(|it| IoSlice::new(it)).collect();
                match writer.write_vectored(&slices) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        drop(slices);
                        advance(&mut pieces, written);
                        self.wrote(written);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            // Whoever reads waits for what is there, not for more.
            if self.lock().waiting.is_empty() {
                writer.flush()?;
            }
        }
        writer.flush()
    }

    /// Takes all that waits; `false` where nothing more will come.
    fn take(&self, pieces: &mut VecDeque<Bytes>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.has_ended {
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.waiting, pieces);
        !pieces.is_empty()
    }

    fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut state = self.lock();
        debug_assert!(bytes <= state.bytes, "more was written than was there");
        state.bytes -= bytes;
        drop(state);
        self.changed.notify_one();
    }
}

fn advance(pieces: &mut VecDeque<Bytes>, mut bytes: usize) {
    while bytes > 0
        && let Some(first) = pieces.front_mut()
    {
        let length = first.len().min(bytes);
        bytes::Buf::advance(first, length);
        bytes -= length;
        if first.is_empty() {
            pieces.pop_front();
        }
    }
}

impl Output {
    /// Starts the thread, which drops `writer` at the end.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        thread::Builder::new().name("output".to_owned()).spawn(move || own.run(writer))?;
        Ok(Self(shared))
    }

    /// The number of bytes that were written, as it grows.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.written)
    }

    /// Takes `pieces` to be written, once there is room.
    pub(super) async fn put(&mut self, pieces: &mut [Bytes]) -> io::Result<()> {
        self.until(|state| !state.is_full()).await?;
        let mut state = self.0.lock();
        for piece in pieces.iter_mut().map(std::mem::take).filter(|piece| !piece.is_empty()) {
            state.bytes += piece.len();
            let is_short = piece.len() < COPIED_BYTES_MAX;
            let piece = if is_short { Bytes::copy_from_slice(&piece) } else { piece };
            state.waiting.push_back(piece);
        }
        drop(state);
        self.0.came.notify_one();
        Ok(())
    }

    /// Returns when it can be written no further.
    pub(super) async fn failed(&self) -> io::Error {
        match self.until(|_| false).await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    }

    /// Returns when all that has come was written.
    pub(super) async fn written_out(&self) -> io::Result<()> {
        self.until(|state| state.bytes == 0).await
    }

    /// Passes the end on; returns when everything was written.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.end();
        self.until(|_| false).await
    }

    fn end(&self) {
        self.0.lock().has_ended = true;
        self.0.came.notify_one();
    }

    /// Returns when it holds, or when the thread is at its end, with what has become of it.
    async fn until(&self, holds: impl Fn(&State) -> bool) -> io::Result<()> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(outcome) = &mut state.outcome {
                    return again(outcome);
                }
                if holds(&state) {
                    return Ok(());
                }
            }
            self.0.changed.notified().await;
        }
    }
}

/// The outcome, which stays to be told again.
fn again(outcome: &io::Result<()>) -> io::Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        }),
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.end();
    }
}
