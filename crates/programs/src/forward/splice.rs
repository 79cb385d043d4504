//! One TCP connection and one stream, as if they were one.

use std::io;

use bytes::{Bytes, BytesMut};
use holepunch_link::{ReadError, RecvStream, WriteError};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::counts::Counts;
use crate::sending::{CODE_RESET, Sending};

/// Bytes moved at once. An idle connection holds no more than this.
const COPY_BYTES: usize = 32 * 1024;
/// The rest of a buffer is used for as long as it has so many bytes: small reads share one.
const READ_BYTES_MIN: usize = 4 * 1024;
/// What the sender of a request reads when it is refused: an answer says why.
pub(super) const CODE_REFUSED: u64 = 1;
/// What the sender of a request reads where nobody had the time to read it.
pub(super) const CODE_BUSY: u64 = 3;

/// Why a connection ended in the middle.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection on this side: {0}")]
    Tcp(#[from] io::Error),
    #[error("the connection on the peer's side was reset (code {0})")]
    Peer(u64),
    #[error("the link has ended")]
    Link,
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Peer(code),
            WriteError::Finished => Self::Peer(CODE_RESET),
            WriteError::Link(_) => Self::Link,
        }
    }
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Peer(code),
            ReadError::Stopped => Self::Peer(CODE_RESET),
            ReadError::Link(_) => Self::Link,
        }
    }
}

/// A TCP connection is reset when it ends, unless [`may_end`] is called: neither a link that breaks nor
/// a program that is interrupted may look like the end of what was sent.
pub(super) fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    tcp.set_zero_linger()
}

/// Lets a connection end as usual.
pub(super) fn may_end(tcp: &TcpStream) {
    // A socket that does not take it is gone already.
    let _unless_gone = SockRef::from(tcp).set_linger(None);
}

/// From TCP to the peer, `first` before everything; passes the end on.
pub(super) async fn up(
    tcp: ReadHalf<'_>,
    send: &mut Sending,
    first: Bytes,
    counts: &Counts,
) -> Result<(), Broken> {
    match copy_up(tcp, send, first, counts).await {
        // Whoever reads the answer learns why.
        Err(Broken::Peer(CODE_REFUSED | CODE_BUSY)) => Ok(()),
        outcome => outcome,
    }
}

async fn copy_up(
    tcp: ReadHalf<'_>,
    send: &mut Sending,
    first: Bytes,
    counts: &Counts,
) -> Result<(), Broken> {
    if !first.is_empty() {
        counts.sent_bytes.add(first.len() as u64);
        send.write_chunk(first).await?;
    }
    let mut buffer = BytesMut::new();
    loop {
        tokio::select! {
            readable = tcp.readable() => readable?,
            // It returns before the end only where the peer wants no more.
            stopped = send.stopped() => return Err(Broken::Peer(stopped?.unwrap_or(CODE_RESET))),
        }
        if buffer.capacity() < READ_BYTES_MIN {
            buffer.reserve(COPY_BYTES);
        }
        match tcp.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(send.finish()?),
            Ok(read) => {
                send.write_chunk(buffer.split().freeze()).await?;
                counts.sent_bytes.add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// From the peer to TCP; passes the end on.
pub(super) async fn down(
    recv: &mut RecvStream,
    mut tcp: WriteHalf<'_>,
    counts: &Counts,
) -> Result<(), Broken> {
    while let Some(chunk) = recv.read_chunk(COPY_BYTES).await? {
        tcp.write_all(&chunk).await?;
        counts.received_bytes.add(chunk.len() as u64);
    }
    Ok(tcp.shutdown().await?)
}

/// Tells the peer that the connection is broken.
pub(super) fn give_up(send: &mut Sending, recv: &mut RecvStream, code: u64) {
    send.reset(code);
    recv.stop(code);
}
