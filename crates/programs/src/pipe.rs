//! Bytes both ways, unchanged: what one side reads the other writes.

mod descriptor;
mod input;
mod output;
mod reading;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use holepunch_link::{CloseCode, Link, LinkError, ReadError, RecvStream, WriteError};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::agree::{self, AgreeError, Greeting, greet, hear};
use crate::ending::{self, CONFIRMS, Silent, Tell, patiently};
use crate::is_orderly;
use crate::sending::{CODE_RESET, Sending};
use crate::size_limit::outlive_the_size_limit;
pub use descriptor::{Stdin, Stdout};
pub use input::Input;
pub use output::Output;

/// The version of what goes over the link; the two sides have to have the same one.
pub const VERSION: u32 = 1;
/// Pieces that are taken from the link at once: each is what one packet holds.
const PIECES_READ_MAX: usize = 256;
/// Where the pipe breaks, what has come is still written, if the output takes it within so long.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// What is said where the peer's end is this side's, too.
const NOTHING_TYPED: &str =
    "the peer has sent everything, and nothing was typed here: this is the end";

/// Bytes that have gone each way so far.
#[derive(Default)]
pub struct Progress {
    sent: AtomicU64,
    received: OnceLock<Arc<AtomicU64>>,
    tell: Option<Box<Tell<'static>>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

impl Progress {
    /// One that tells a person by `tell` what is waited for, where that takes long.
    pub fn telling(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { tell: Some(Box::new(tell)), ..Self::default() }
    }

    /// Bytes sent, and bytes received and written.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let received = self.received.get().map_or(0, |it| it.load(Ordering::Relaxed));
        (self.sent.load(Ordering::Relaxed), received)
    }

    fn tell(&self, text: &str) {
        if let Some(tell) = &self.tell {
            tell(text);
        }
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
    #[error("cannot write the output: {}", in_words(.0))]
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
    /// The link has ended after everything, and nobody knows whether the peer knows that.
    #[error(
        "everything has come and everything has arrived, but the peer may not know it: the link ended before it \
         could say so: {0}"
    )]
    Unconfirmed(LinkError),
    /// The peer is there, and does not say its last word.
    #[error(transparent)]
    Silent(#[from] Silent),
}

/// Copies `input` to the peer and what comes to `output`. The end of either is passed on by itself; it
/// returns when both have come and both sides know that the other one has everything, or when nobody reads the
/// output any more.
///
/// # Errors
/// The peer runs something else or ends in the middle, the input or the output fails, or the link ends.
pub async fn pipe(
    link: &Link,
    input: &mut Input,
    output: &mut Output,
    progress: &Progress,
) -> Result<Summary, PipeError> {
    outlive_the_size_limit();
    let own = Greeting::new("pipe", "", VERSION).with(CONFIRMS);
    let _the_same_each_time = progress.received.set(output.written());
    let (send, mut recv) = greet(link, &own).await?;
    let mut send = Sending::new(send);
    let (mut has_all, mut confirms) = (false, false);
    let all_is_written = Notify::new();
    let both = async {
        let mut early = 0;
        let peer = tokio::select! {
            heard = hear(link, &mut recv, &own) => heard?,
            never = input.send_early(&mut send, &mut early) => match never? {},
        };
        confirms = peer.has(CONFIRMS);
        let forth = forth(input, early, &mut send, progress, all_is_written.notified());
        let back = async {
            back(&mut recv, output, &mut has_all).await?;
            all_is_written.notify_one();
            Ok(())
        };
        tokio::try_join!(forth, back)
    };
    let mut outcome = both.await.map(|((), ())| ());
    if outcome.is_ok() {
        outcome = complete(link, &mut send, confirms, progress).await;
    }
    let (sent_bytes, received_bytes) = progress.bytes();
    match outcome {
        Ok(()) => Ok(Summary { sent_bytes, received_bytes, output_closed: false }),
        Err(PipeError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            recv.stop(CODE_RESET);
            let _unless_ended = send.finish();
            // The peer, told that its bytes are not wanted, may end before it has ours.
            let tell = |text: &str| progress.tell(text);
            let what = "nobody reads the output any more; waiting for the peer to have everything that was sent";
            let _or_not = patiently(what, &tell, arrived(&mut send, sent_bytes)).await;
            Ok(Summary { sent_bytes, received_bytes, output_closed: true })
        }
        Err(mut error) => {
            if matches!(&error, PipeError::Agree(error) if error.is_mutual()) {
                agree::arrived(&mut send).await;
            }
            recv.stop(CODE_RESET);
            send.reset(CODE_RESET);
            // One that cannot be written has lost it.
            let is_written =
                matches!(timeout(WRITTEN_WITHIN, output.written_out()).await, Ok(Ok(())));
            let received_bytes = progress.bytes().1;
            // Everything has come, and nothing was under way to the peer: its leaving leaves nothing out.
            if has_all && is_written && sent_bytes == 0 && error.is_leaving() {
                return Ok(Summary { sent_bytes, received_bytes, output_closed: false });
            }
            if let PipeError::Incomplete(bytes) = &mut error {
                *bytes = received_bytes;
            }
            Err(error)
        }
    }
}

/// What the system says of an output, and what lies behind it where that is known.
fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return format!("{error}: its file system, or `ulimit -f`, allows no larger one");
    }
    error.to_string()
}

impl PipeError {
    /// Whether the peer has just gone, or wants nothing.
    fn is_leaving(&self) -> bool {
        match self {
            Self::NotTaken(_) => true,
            Self::Link(error) | Self::Unconfirmed(error) => is_orderly(error),
            Self::Agree(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::Incomplete(_)
            | Self::Silent(_) => false,
        }
    }
}

/// Both directions are at their end here: returns when the peer has everything, and both know.
async fn complete(
    link: &Link,
    send: &mut Sending,
    confirms: bool,
    progress: &Progress,
) -> Result<(), PipeError> {
    let tell = |text: &str| progress.tell(text);
    let sent_bytes = progress.bytes().0;
    let what = "everything has come; waiting for the peer to have everything that was sent";
    patiently(what, &tell, arrived(send, sent_bytes)).await??;
    if !confirms {
        return Ok(());
    }
    let what = "everything has come and has arrived; waiting for the peer to know that, too";
    match patiently(what, &tell, ending::confirm(link)).await? {
        Err(LinkError::ClosedByPeer(close)) if close.code == CloseCode::Done => Ok(()),
        confirmed => confirmed.map_err(PipeError::Unconfirmed),
    }
}

/// The peer closes the link with [`CloseCode::Done`] when it has read to the end, which may come before the last
/// acknowledgement.
async fn arrived(send: &mut Sending, sent_bytes: u64) -> Result<(), PipeError> {
    ending::acknowledged(send, CloseCode::Done).await.map_err(|error| match error {
        WriteError::Link(error) => error.into(),
        WriteError::Stopped(_) | WriteError::Finished | _ => PipeError::NotTaken(sent_bytes),
    })
}

/// `early` bytes have been sent already.
async fn forth(
    input: &mut Input,
    early: usize,
    send: &mut Sending,
    progress: &Progress,
    all_is_written: impl Future<Output = ()>,
) -> Result<(), PipeError> {
    tokio::pin!(all_is_written);
    progress.sent.fetch_add(early as u64, Ordering::Relaxed);
    let input_is_typed = input.is_typed();
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
            read = input.next() => read?,
            stopped = send.stopped() => {
                stopped.map_err(|error| broken(error, progress))?;
                return Err(PipeError::NotTaken(progress.bytes().0));
            }
            // Somebody who has typed has something to say still, or ends it.
            () = &mut all_is_written, if input_is_typed && progress.bytes().0 == 0 => {
                progress.tell(NOTHING_TYPED);
                None
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
        WriteError::Link(error) => error.into(),
        WriteError::Stopped(_) | WriteError::Finished | _ => {
            PipeError::NotTaken(progress.bytes().0)
        }
    }
}

/// Writes what comes. `has_all` is set when nothing more will: whoever reads the output may act on its end, and the peer
/// leave, before this returns.
async fn back(
    recv: &mut RecvStream,
    output: &mut Output,
    has_all: &mut bool,
) -> Result<(), PipeError> {
    let mut pieces = vec![Bytes::new(); PIECES_READ_MAX];
    loop {
        let read = tokio::select! {
            read = recv.read_chunks(&mut pieces) => read,
            error = output.failed() => return Err(PipeError::Output(error)),
        };
        let read = read.map_err(|error| match error {
            // How many were written is known later.
            ReadError::Link(error) => error.into(),
            ReadError::Reset(_) | ReadError::Stopped | _ => PipeError::Incomplete(0),
        })?;
        let Some(read) = read else { break };
        output.put(&mut pieces[..read]).await.map_err(PipeError::Output)?;
    }
    *has_all = true;
    output.finish().await.map_err(PipeError::Output)
}

#[cfg(test)]
mod tests;
