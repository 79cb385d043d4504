//! The socket of a client, which notes how reading and writing get on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::client_stream::ClientStream;
use crate::pace::Pace;

/// A client's connection, for hyper, and for the WebSocket that it becomes.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: Arc<ClientStream>,
    pace: Pace,
}

impl ClientIo {
    pub(crate) fn new(stream: Arc<ClientStream>, pace: Pace) -> Self {
        Self { stream, pace }
    }

    /// The connection alone.
    pub(crate) fn into_inner(self) -> Arc<ClientStream> {
        self.stream
    }

    /// Writes until the kernel takes something, or has no room.
    fn poll_writing(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&ClientStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.stream.poll_write_ready(cx) else {
                self.pace.written(false, Instant::now());
                return Poll::Pending;
            };
            ready?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.pace.written(true, Instant::now());
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buffer) {
                Ok(bytes) => {
                    if bytes > 0 {
                        self.pace.read(Instant::now());
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |stream| stream.try_write_vectored(&[IoSlice::new(bytes)]))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.stream.has_unsent() {
            return Poll::Ready(Ok(()));
        }
        self.poll_writing(cx, |stream| stream.try_flush().map(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.say_goodbye();
        ready!(self.as_mut().poll_flush(cx))?;
        Poll::Ready(self.stream.shutdown())
    }
}
