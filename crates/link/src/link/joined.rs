//! Both halves of a stream in one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{RecvStream, SendStream};

/// A stream of a link, in both directions, as tokio's `AsyncRead` and `AsyncWrite`. `shutdown` says that nothing more
/// follows from this side; what the peer sends can still be read then.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (link, other, _sockets) = holepunch_link::testing::pair().await;
/// let mut near = link.open_stream().await?;
/// near.write_all(b"hello").await?;
/// near.shutdown().await?;
///
/// let mut far = other.accept_stream().await?;
/// let mut said = String::new();
/// far.read_to_string(&mut said).await?;
/// assert_eq!(said, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BiStream {
    send: SendStream,
    recv: RecvStream,
}

impl BiStream {
    /// Two halves as one.
    #[must_use]
    pub fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv }
    }

    /// The two halves, each on its own.
    #[must_use]
    pub fn into_split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }

    /// The half that is written to.
    pub fn send(&mut self) -> &mut SendStream {
        &mut self.send
    }

    /// The half that is read from.
    pub fn recv(&mut self) -> &mut RecvStream {
        &mut self.recv
    }
}

impl AsyncRead for BiStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(context, buffer)
    }
}

impl AsyncWrite for BiStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::testing;

    #[tokio::test]
    async fn a_stream_is_copied_both_ways_and_ends_both_ways() {
        let (a, b, _sockets) = testing::pair().await;
        let echo = tokio::spawn(async move {
            let stream = b.accept_stream().await.unwrap();
            let (mut from, mut to) = tokio::io::split(stream);
            let copied = tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
            (copied, b)
        });
        let mut stream = a.open_stream().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
        assert_eq!(echo.await.unwrap().0, 5);
    }
}
