//! What goes to the peer.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{COPY_BYTES, PipeError};
use crate::sending::Sending;

/// Bytes that go to a peer which has not said yet what it is. They are kept until it has, for the next one.
const EARLY_BYTES_MAX: usize = 64 * 1024;

/// An input, from which nothing is lost on a peer that refuses the link before it takes its part: what was
/// on its way to it goes to the next one from the beginning.
#[derive(Debug)]
pub struct Input<R> {
    reader: R,
    early: BytesMut,
    has_ended: bool,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// The input that `reader` reads.
    pub fn new(reader: R) -> Self {
        Self { reader, early: BytesMut::new(), has_ended: false }
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
            let read = self.reader.read_buf(&mut (&mut self.early).limit(room)).await;
            self.has_ended = read.map_err(PipeError::Input)? == 0;
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
    pub(super) async fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, PipeError> {
        if self.has_ended {
            return Ok(None);
        }
        buffer.reserve(COPY_BYTES);
        let read = self.reader.read_buf(buffer).await.map_err(PipeError::Input)?;
        self.has_ended = read == 0;
        Ok((read > 0).then(|| buffer.split().freeze()))
    }
}
