//! The bytes under a WebSocket: TCP, or TLS over it, with a buffer for bulk that is there only while there is bulk.
//!
//! The WebSocket library keeps the buffer into which it reads, for as long as the connection lives. So that one is small, and
//! what waits behind it is read here, in one piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

#[cfg(feature = "steps")]
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// What is read at once while there is more than the reader has room for. Larger pieces save no more system calls:
/// about as much is there when a busy connection is looked at.
const AHEAD_BYTES: usize = 32 * 1024;

/// A connection's bytes.
#[derive(Debug)]
pub struct Stream {
    below: Below,
    ahead: Ahead,
}

/// What carries the bytes: TCP, or TLS over it, boxed, since it takes a kibibyte, which a connection without it need not have.
pub(crate) type Below = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What has been read ahead of the reader.
#[derive(Debug, Default)]
struct Ahead {
    /// Empty unless there is bulk.
    buffer: Box<[u8]>,
    /// What of it the reader has not had yet.
    unread: std::ops::Range<usize>,
    /// The reader's own buffer was filled: more may be waiting.
    is_bulk: bool,
}

impl Stream {
    pub(crate) fn new(below: Below) -> Self {
        Self { below, ahead: Ahead::default() }
    }

    /// The certificate that the other end has shown, where TLS is spoken.
    #[cfg(feature = "steps")]
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.below {
            Below::Left(_) => None,
            Below::Right(tls) => tls.get_ref().1.peer_certificates()?.first(),
        }
    }
}

impl Ahead {
    /// Gives the reader what it has room for.
    fn give(&mut self, to: &mut ReadBuf<'_>) {
        let length = self.unread.len().min(to.remaining());
        let (from, until) = (self.unread.start, self.unread.start + length);
        to.put_slice(&self.buffer[from..until]);
        self.unread.start = until;
    }

    /// Reads as much as there is, `AHEAD_BYTES` at most.
    fn fill(&mut self, below: &mut Below, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; AHEAD_BYTES].into();
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let read = Pin::new(below).poll_read(cx, &mut buffer);
        self.unread = 0..buffer.filled().len();
        read
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { below, ahead } = self.get_mut();
        if ahead.unread.is_empty() && ahead.is_bulk {
            let filled = ahead.fill(below, cx);
            if ahead.unread.is_empty() {
                // Nothing more is waiting, or nothing more comes.
                *ahead = Ahead::default();
                return filled;
            }
        }
        if !ahead.unread.is_empty() {
            ahead.give(to);
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(below).poll_read(cx, to))?;
        ahead.is_bulk = to.remaining() == 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().below).poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().below).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().below).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A stream, and the other end of it.
    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Stream::new(Below::Left(near)), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bulk_arrives_as_it_was_and_its_buffer_goes() {
        let (mut stream, mut far) = pair().await;
        let sent: Vec<u8> =
            (0..300_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
            far
        });
        let mut read = Vec::new();
        let mut had_a_buffer = false;
        while read.len() < expected.len() {
            let mut small = [0; 1000];
            let length = stream.read(&mut small).await.unwrap();
            assert!(length > 0);
            read.extend_from_slice(&small[..length]);
            had_a_buffer |= !stream.ahead.buffer.is_empty();
        }
        assert!(read == expected && had_a_buffer);
        let mut far = writing.await.unwrap();
        let (mut last, _) = tokio::join!(stream.read_u8(), far.write_u8(9));
        assert_eq!(last.unwrap(), 9);
        assert_eq!(stream.ahead.buffer.len(), 0, "it is idle");
        drop(far);
        last = stream.read_u8().await;
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_end_behind_bulk_is_an_end() {
        let (mut stream, mut far) = pair().await;
        far.write_all(&[7; 1000]).await.unwrap();
        drop(far);
        let mut small = [0; 500];
        assert_eq!(stream.read(&mut small).await.unwrap(), 500);
        assert_eq!(stream.read(&mut small).await.unwrap(), 500);
        assert_eq!(stream.read(&mut small).await.unwrap(), 0);
        assert_eq!(stream.read(&mut small).await.unwrap(), 0);
    }
}
