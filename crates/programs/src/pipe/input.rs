//! What goes to the peer.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::PipeError;
use super::reading::Reading;
use crate::sending::Sending;

/// Bytes that go to a peer which has not said yet what it is. They are kept until it has, for the next one.
const EARLY_BYTES_MAX: usize = 64 * 1024;

/// An input, from which nothing is lost on a peer that refuses the link before it takes its part: what was
/// on its way to it goes to the next one from the beginning.
#[derive(Debug)]
pub struct Input {
    source: Source,
    early: BytesMut,
    /// What was read behind these.
    behind: Bytes,
    has_ended: bool,
    /// Whether somebody may type, who need not.
    is_typed: bool,
}

/// Nothing is read before there is a link.
enum Source {
    Unread(Box<dyn Read + Send>),
    Reading(Reading),
    Failed,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unread(_) => "unread",
            Self::Reading(_) => "being read",
            Self::Failed => "failed",
        })
    }
}

impl Source {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Self::Unread(_) = self
            && let Self::Unread(reader) = std::mem::replace(self, Self::Failed)
        {
            *self = Self::Reading(Reading::start(reader)?);
        }
        match self {
            Self::Reading(reading) => reading.next().await,
            // The error was told before.
            Self::Unread(_) | Self::Failed => Ok(None),
        }
    }
}

impl Input {
    /// The input that `reader` reads, on a thread of its own, from the first link on.
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        let source = Source::Unread(Box::new(reader));
        let (early, behind) = (BytesMut::new(), Bytes::new());
        Self { source, early, behind, has_ended: false, is_typed: false }
    }

    /// One at which somebody types, perhaps: where nothing has come from it when the peer has sent everything, that is its
    /// end.
    #[must_use]
    pub fn typed(self, is_typed: bool) -> Self {
        Self { is_typed, ..self }
    }

    /// Whether the end of what the peer sends is the end of this, too, as long as nothing has come.
    pub(super) fn is_typed(&self) -> bool {
        self.is_typed
    }

    /// Sends the first bytes, and counts in `sent` how many have been. Dropping the future loses nothing.
    pub(super) async fn send_early(
        &mut self,
        send: &mut Sending,
        sent: &mut usize,
    ) -> Result<Infallible, PipeError> {
        loop {
            while *sent < self.early.len() {
                // What is wrong with the stream, the peer's greeting or the end of the link tells.
                let Ok(written) = send.write(&self.early[*sent..]).await else {
                    return std::future::pending().await;
                };
                *sent += written;
            }
            let room = EARLY_BYTES_MAX.saturating_sub(self.early.len());
            if self.has_ended || room == 0 {
                break;
            }
            match self.source.next().await.map_err(PipeError::Input)? {
                Some(mut read) => {
                    self.behind = read.split_off(room.min(read.len()));
                    self.early.extend_from_slice(&read);
                }
                None => self.has_ended = true,
            }
        }
        if self.has_ended {
            let _unless_stopped = send.finish();
        }
        std::future::pending().await
    }

    /// The peer takes its part: of the first bytes, those that have not been sent.
    pub(super) fn rest(&mut self, sent: usize) -> Bytes {
        std::mem::take(&mut self.early).freeze().split_off(sent)
    }

    /// The next bytes; `None` at the end. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, PipeError> {
        if !self.behind.is_empty() {
            return Ok(Some(std::mem::take(&mut self.behind)));
        }
        if self.has_ended {
            return Ok(None);
        }
        let read = self.source.next().await.map_err(PipeError::Input)?;
        self.has_ended = read.is_none();
        Ok(read)
    }
}
