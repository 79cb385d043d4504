//! Bytes both ways, unchanged: what one side reads the other writes.

mod input;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use holepunch_link::{Link, LinkError, ReadError, RecvStream, WriteError};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::agree::{self, AgreeError, Greeting, greet, hear};
use crate::sending::{CODE_RESET, Sending};
use crate::{DONE, is_orderly};
pub use input::Input;

const VERSION: u32 = 1;
/// Bytes moved at once: more makes nothing faster.
const COPY_BYTES: usize = 64 * 1024;

/// Bytes that have gone each way so far.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Progress {
    /// Bytes sent, and bytes received.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// How a pipe has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes that the peer has; where the output was closed, perhaps not all of them.
    pub sent_bytes: u64,
    /// Bytes of the peer's that were written.
    pub received_bytes: u64,
    /// Whether it ended because nobody reads the output any more.
    pub output_closed: bool,
}

/// Why a pipe is broken.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The peer runs something else.
    #[error(transparent)]
    Agree(#[from] AgreeError),
    /// The input cannot be read.
    #[error("cannot read the input: {0}")]
    Input(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The peer's output is closed.
    #[error("the peer takes no more, after {0} bytes that were sent: its output is closed")]
    NotTaken(u64),
    /// The peer was interrupted.
    #[error("the peer has ended in the middle, after {0} bytes: what came is not complete")]
    Incomplete(u64),
    /// The link has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Copies `input` to the peer and what comes to `output`. The end of either is passed on by itself; it
/// returns when both have come and the peer has everything, or when nobody reads the output any more.
///
/// # Errors
/// The peer runs something else or ends in the middle, the input or the output fails, or the link ends.
pub async fn pipe(
    link: &Link,
    input: &mut Input<impl AsyncRead + Unpin>,
    output: impl AsyncWrite + Unpin,
    progress: &Progress,
) -> Result<Summary, PipeError> {
    let program = "pipe".to_owned();
    let own = Greeting { program, part: String::new(), version: VERSION };
    let (send, mut recv) = greet(link, &own).await?;
    let mut send = Sending::new(send);
    let mut has_all = false;
    let both = async {
        let mut early = 0;
        tokio::select! {
            heard = hear(&mut recv, &own) => heard?,
            never = input.send_early(&mut send, &mut early) => match never? {},
        };
        let forth = forth(input, early, &mut send, progress);
        let back = async {
            back(&mut recv, output, progress).await?;
            has_all = true;
            Ok(())
        };
        tokio::try_join!(forth, back)
    };
    let outcome = both.await;
    let (sent_bytes, received_bytes) = progress.bytes();
    match outcome {
        Ok(((), ())) => {
            arrived(&mut send, sent_bytes).await?;
            Ok(Summary { sent_bytes, received_bytes, output_closed: false })
        }
        Err(PipeError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            recv.stop(CODE_RESET);
            let _unless_ended = send.finish();
            // The peer, told that its bytes are not wanted, may end before it has ours.
            let _or_not = arrived(&mut send, sent_bytes).await;
            Ok(Summary { sent_bytes, received_bytes, output_closed: true })
        }
        Err(error) => {
            if matches!(&error, PipeError::Agree(error) if error.is_mutual()) {
                agree::arrived(&mut send).await;
            }
            recv.stop(CODE_RESET);
            send.reset(CODE_RESET);
            // Everything has come, and nothing was under way to the peer: its leaving leaves nothing out.
            if has_all && sent_bytes == 0 && error.is_leaving() {
                return Ok(Summary { sent_bytes, received_bytes, output_closed: false });
            }
            Err(error)
        }
    }
}

impl PipeError {
    /// Whether the peer has just gone, or wants nothing.
    fn is_leaving(&self) -> bool {
        match self {
            Self::NotTaken(_) => true,
            Self::Link(error) => is_orderly(error),
            Self::Agree(_) | Self::Input(_) | Self::Output(_) | Self::Incomplete(_) => false,
        }
    }
}

/// The peer closes the link with [`DONE`] when it has read to the end, which may come before the last
/// acknowledgement.
async fn arrived(send: &mut Sending, sent_bytes: u64) -> Result<(), PipeError> {
    match send.stopped().await {
        Ok(None) | Err(WriteError::Finished) => Ok(()),
        Ok(Some(_)) | Err(WriteError::Stopped(_)) => Err(PipeError::NotTaken(sent_bytes)),
        Err(WriteError::Link(LinkError::ClosedByPeer(reason))) if reason == DONE => Ok(()),
        Err(WriteError::Link(error)) => Err(error.into()),
    }
}

/// `early` bytes have been sent already.
async fn forth(
    input: &mut Input<impl AsyncRead + Unpin>,
    early: usize,
    send: &mut Sending,
    progress: &Progress,
) -> Result<(), PipeError> {
    progress.sent.fetch_add(early as u64, Ordering::Relaxed);
    let mut buffer = BytesMut::new();
    let mut next = Some(input.rest(early)).filter(|rest| !rest.is_empty());
    loop {
        if let Some(chunk) = next {
            let length = chunk.len() as u64;
            send.write_chunk(chunk).await.map_err(|error| broken(error, progress))?;
            progress.sent.fetch_add(length, Ordering::Relaxed);
        }
        next = tokio::select! {
            // At its end, nobody asks what the peer still takes.
            biased;
            read = input.next(&mut buffer) => read?,
            stopped = send.stopped() => {
                stopped.map_err(|error| broken(error, progress))?;
                return Err(PipeError::NotTaken(progress.bytes().0));
            }
        };
        if next.is_none() {
            // The only way to fail is a stream that is stopped, which the peer's part tells about.
            let _unless_stopped = send.finish();
            return Ok(());
        }
    }
}

fn broken(error: WriteError, progress: &Progress) -> PipeError {
    match error {
        WriteError::Stopped(_) | WriteError::Finished => PipeError::NotTaken(progress.bytes().0),
        WriteError::Link(error) => error.into(),
    }
}

async fn back(
    recv: &mut RecvStream,
    mut output: impl AsyncWrite + Unpin,
    progress: &Progress,
) -> Result<(), PipeError> {
    loop {
        let chunk = recv.read_chunk(COPY_BYTES).await.map_err(|error| match error {
            ReadError::Reset(_) | ReadError::Stopped => PipeError::Incomplete(progress.bytes().1),
            ReadError::Link(error) => error.into(),
        })?;
        let Some(chunk) = chunk else { break };
        output.write_all(&chunk).await.map_err(PipeError::Output)?;
        // Whoever reads the output waits for what is there, not for more.
        output.flush().await.map_err(PipeError::Output)?;
        progress.received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    output.shutdown().await.map_err(PipeError::Output)
}

#[cfg(test)]
mod tests;
