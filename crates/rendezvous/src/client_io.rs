//! The socket of a client, which notes how reading and writing get on.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::pace::Pace;

/// A TCP connection, for hyper, and for the WebSocket that it becomes.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: Arc<TcpStream>,
    pace: Pace,
}

impl ClientIo {
    pub(crate) fn new(stream: Arc<TcpStream>, pace: Pace) -> Self {
        Self { stream, pace }
    }

    /// The TCP connection alone.
    pub(crate) fn into_inner(self) -> Arc<TcpStream> {
        self.stream
    }

    /// Writes until the kernel takes something, or has no room.
    fn poll_writing(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
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

/// Whether a client says nothing: no byte has come that is not read yet. At its end it says nothing either.
pub(crate) fn is_silent(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    !SockRef::from(stream).peek(&mut byte).is_ok_and(|bytes| bytes > 0)
}

/// Reads what the kernel has.
///
/// Less than there was room for is all of it, where readiness is told by epoll: what comes later is told anew. So the socket
/// counts as empty without a second call that would say so, which would be a third of all system calls of an echo.
fn read_once(stream: &TcpStream, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
    let room = buffer.remaining();
    let mut read = Err(io::ErrorKind::WouldBlock.into());
    // The readiness from before the read is what ends: what comes while it goes on is not lost.
    let _emptied = stream.try_io(Interest::READABLE, || {
        read = stream.try_read_buf(buffer);
        match read {
            Ok(bytes) if cfg!(target_os = "linux") && bytes > 0 && bytes < room => {
                Err(io::Error::from(io::ErrorKind::WouldBlock))
            }
            _ => Ok(()),
        }
    });
    read
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match read_once(&self.stream, buffer) {
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
        self.poll_writing(cx, |stream| stream.try_write(bytes))
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

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}
