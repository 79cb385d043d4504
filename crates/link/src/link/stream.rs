//! The two halves of a stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::{ReadError, WriteError};
use super::{Ending, Link};

/// A code as QUIC carries it: 62 bits (RFC 9000 §16). A larger one becomes the largest.
fn code(code: u64) -> noq::VarInt {
    noq::VarInt::from_u64(code).unwrap_or(noq::VarInt::MAX)
}

/// The half of a stream that is written to. Dropping it finishes the stream; so does
/// [`finish`](Self::finish), and the `shutdown` of tokio's `AsyncWrite`.
#[derive(Debug)]
pub struct SendStream {
    inner: noq::SendStream,
    ending: Arc<Ending>,
}

impl SendStream {
    pub(super) fn new(inner: noq::SendStream, ending: Arc<Ending>) -> Self {
        Self { inner, ending }
    }

    fn error(&self, error: noq::WriteError) -> WriteError {
        match error {
            noq::WriteError::Stopped(code) => WriteError::Stopped(code.into_inner()),
            noq::WriteError::ConnectionLost(error) => self.ending.explain(&error).into(),
            noq::WriteError::ClosedStream | noq::WriteError::ZeroRttRejected => {
                WriteError::Finished
            }
        }
    }

    /// Writes everything. It returns when the bytes are queued, which is bounded; the peer may not have
    /// them yet.
    ///
    /// # Errors
    /// The peer has stopped the stream, it is finished, or the link has ended.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.inner.write_all(bytes).await.map_err(|error| self.error(error))
    }

    /// Writes a chunk without copying it.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        self.inner.write_chunk(chunk).await.map_err(|error| self.error(error))
    }

    /// Says that nothing more follows. What is queued is still delivered.
    ///
    /// # Errors
    /// The stream is finished or reset already.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.inner.finish().map_err(|_| WriteError::Finished)
    }

    /// Gives the stream up: what is queued is not delivered, and the peer reads `code`.
    pub fn reset(&mut self, code_of_application: u64) {
        let _unless_finished = self.inner.reset(code(code_of_application));
    }

    /// Returns when the peer has acknowledged every byte and the end (`None`), or has stopped reading
    /// (its code).
    ///
    /// # Errors
    /// The link has ended before.
    pub async fn stopped(&mut self) -> Result<Option<u64>, WriteError> {
        match self.inner.stopped().await {
            Ok(code) => Ok(code.map(noq::VarInt::into_inner)),
            Err(noq::StoppedError::ConnectionLost(error)) => {
                Err(self.ending.explain(&error).into())
            }
            Err(noq::StoppedError::ZeroRttRejected) => Err(WriteError::Finished),
        }
    }

    /// Streams of a higher priority are sent first; all begin with 0.
    pub fn set_priority(&self, priority: i32) {
        let _unless_finished = self.inner.set_priority(priority);
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner)
            .poll_write(context, bytes)
            .map_err(|error| self.error(error).into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _unless_finished = self.inner.finish();
        Poll::Ready(Ok(()))
    }
}

/// The half of a stream that is read from. Dropping it before the end tells the peer to stop.
#[derive(Debug)]
pub struct RecvStream {
    inner: noq::RecvStream,
    link: Link,
}

impl RecvStream {
    pub(super) fn new(inner: noq::RecvStream, link: Link) -> Self {
        link.0.window.stream_begins(|bytes| link.set_window(bytes));
        Self { inner, link }
    }

    fn error(&self, error: noq::ReadError) -> ReadError {
        match error {
            noq::ReadError::Reset(code) => ReadError::Reset(code.into_inner()),
            noq::ReadError::ConnectionLost(error) => self.link.lost(&error).into(),
            noq::ReadError::ClosedStream | noq::ReadError::ZeroRttRejected => ReadError::Stopped,
        }
    }

    /// The next chunk of at most `bytes_max` bytes, without copying it; `None` at the end.
    ///
    /// # Errors
    /// The peer has given the stream up, or the link has ended.
    pub async fn read_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        let read = self.inner.read_chunk(bytes_max).await;
        let read = read.map_err(|error| self.error(error))?;
        self.link.has_read(read.as_ref().map_or(0, Bytes::len));
        Ok(read)
    }

    /// Fills `chunks` with what is there, from the first on, without copying it; how many, or `None` at the end. It
    /// waits where nothing is there.
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        let read = self.inner.read_many_chunks(chunks).await;
        let read = read.map_err(|error| self.error(error))?;
        self.link.has_read(chunks.iter().take(read.unwrap_or(0)).map(Bytes::len).sum());
        Ok(read)
    }

    /// Tells the peer to send no more; it reads `code`.
    pub fn stop(&mut self, code_of_application: u64) {
        let _unless_finished = self.inner.stop(code(code_of_application));
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.link.0.window.stream_ends();
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let read = self.inner.poll_read(context, unfilled);
        match read {
            Poll::Ready(Ok(length)) => {
                buffer.advance(length);
                self.link.has_read(length);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.error(error).into())),
            Poll::Pending => Poll::Pending,
        }
    }
}
