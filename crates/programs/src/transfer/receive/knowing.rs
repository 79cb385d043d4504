//! The end: everything is on the disk, and the sender is to know it.

use std::time::Duration;

use holepunch_link::{CloseCode, Link, LinkError, RecvStream, SendStream, WriteError};
use tokio::io::BufReader;
use tokio::time::timeout;

use super::super::error::TransferError;
use super::super::progress::Progress;
use super::super::summary::Phase;
use super::super::wire::{self, FromSender};
use super::protocol;
use crate::ending::{acknowledged, patiently};

/// A sender that says nothing more, or looks at nothing more, has closed the link within so long, and said why.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// Whether the sender knows that everything is here decides whether this side has succeeded, since the sender has only
/// then. A sender that `confirms` says so, and of another one it is enough that it has what was said.
pub(super) async fn until_known(
    link: &Link,
    (send, recv): (&mut SendStream, &mut BufReader<RecvStream>),
    confirms: bool,
    progress: &Progress,
) -> Result<(), TransferError> {
    progress.is_at(Phase::End);
    let tell = |text: &str| progress.waits(text);
    let what = "everything is here and on the disk; waiting for the sender to know that";
    let knows = async { if confirms { hears(recv).await } else { has_arrived(send).await } };
    if patiently(what, &tell, knows).await?? {
        return Ok(());
    }
    match timeout(CLOSED_WITHIN, link.closed()).await {
        Ok(LinkError::ClosedByPeer(close)) if close.code == CloseCode::Complete => Ok(()),
        Ok(error) => Err(TransferError::Unconfirmed(error)),
        // One that confirms would have said so; another one stops reading once it knows.
        Err(_) if confirms => Err(TransferError::Ended),
        Err(_) => Ok(()),
    }
}

/// Whether the sender has said that it knows. `false`: its stream has ended before, of which the link may tell more.
async fn hears(recv: &mut BufReader<RecvStream>) -> Result<bool, TransferError> {
    let mut json = Vec::new();
    match wire::read_json(recv, &mut json).await {
        Ok(true) if FromSender::parse(&json)? == (FromSender::Known {}) => Ok(true),
        Ok(true) => Err(protocol("it goes on behind its end")),
        Ok(false) | Err(TransferError::Ended | TransferError::Link(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the sender has everything that was said. `false`: it looks at nothing more, which is what one does that knows, and
/// one that was interrupted.
async fn has_arrived(send: &mut SendStream) -> Result<bool, TransferError> {
    match acknowledged(send, CloseCode::Complete).await {
        Ok(()) => Ok(true),
        Err(WriteError::Link(error)) => Err(TransferError::Unconfirmed(error)),
        Err(WriteError::Stopped(_) | WriteError::Finished | _) => Ok(false),
    }
}
