//! The direction to the peer.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::net::tcp::ReadHalf;
use tokio::time::sleep;

use super::super::counts::Sent;
use super::super::frames::{Frame, HEAD_BYTES, Malformed};
use super::super::window::WINDOW_BYTES_MIN;
use super::{Broken, CODE_BUSY, CODE_REFUSED, Turns};
use crate::sending::Sending;

/// Bytes read from TCP at once. An idle connection holds no more than this.
const COPY_BYTES: usize = 32 * 1024;
/// The rest of a buffer is used for as long as it has so many bytes: small reads share one.
const READ_BYTES_MIN: usize = 4 * 1024;
/// A sender that has had nothing to send for so long gives back what it may send beyond the least: others
/// may need it.
const IDLE: Duration = Duration::from_secs(1);
/// As long as a connection has had no more to send than this, about a packet, its bytes go before those of
/// others, so that it does not wait its turn among a thousand that are busy.
const FIRST_BYTES: usize = 1024;
const PRIORITY_FIRST: i32 = 1;
const PRIORITY_USUAL: i32 = 0;

/// From TCP to the peer; passes the end on. `lead` stands before everything on the stream, `first` before
/// everything of the connection.
pub(in crate::forward) async fn up(
    tcp: ReadHalf<'_>,
    send: &mut Sending,
    (lead, first): (Vec<u8>, Bytes),
    turns: &Turns,
    sent: &Sent<'_>,
) -> Result<(), Broken> {
    let up = Up { out: BytesMut::from(&lead[..]), credit: WINDOW_BYTES_MIN, is_done: false };
    match up.run(tcp, send, first, turns, sent).await {
        // Whoever reads the answer learns why.
        Err(Broken::Peer(CODE_REFUSED | CODE_BUSY)) => Ok(()),
        outcome => outcome,
    }
}

/// The direction to the peer.
struct Up {
    /// What is written next.
    out: BytesMut,
    /// What the peer takes of the connection.
    credit: u32,
    /// The connection's end was passed on.
    is_done: bool,
}

impl Up {
    async fn run(
        mut self,
        tcp: ReadHalf<'_>,
        send: &mut Sending,
        first: Bytes,
        turns: &Turns,
        sent: &Sent<'_>,
    ) -> Result<(), Broken> {
        send.set_priority(PRIORITY_FIRST);
        self.append(&first);
        sent.add(first.len());
        let mut early = FIRST_BYTES;
        loop {
            let told = turns.take();
            self.credit = self.credit.checked_add(told.credit).ok_or(Malformed)?;
            if told.grant > 0 {
                self.out.extend_from_slice(&Frame::Credit(told.grant).head());
            }
            let read = if self.may_read() { self.read(&tcp)? } else { 0 };
            sent.add(read);
            if !self.out.is_empty() {
                let chunk = self.out.split().freeze();
                let more = early.saturating_sub(chunk.len());
                send.write_chunk(chunk).await?;
                // The first packet is queued as it was; what does not fit into it is not.
                if early > 0 && more == 0 {
                    send.set_priority(PRIORITY_USUAL);
                }
                early = more;
            } else if self.is_done && told.peer_is_done {
                // The connection has ended both ways, whatever becomes of the stream.
                let _unless_the_link_has_ended = send.finish();
                return Ok(());
            } else {
                self.wait(&tcp, turns).await?;
            }
        }
    }

    fn may_read(&self) -> bool {
        !self.is_done && self.credit > 0
    }

    async fn wait(&mut self, tcp: &ReadHalf<'_>, turns: &Turns) -> io::Result<()> {
        let gives_back = self.may_read() && self.credit > WINDOW_BYTES_MIN;
        tokio::select! {
            () = turns.changed.notified() => {}
            readable = tcp.readable(), if self.may_read() => readable?,
            () = sleep(IDLE), if gives_back => {
                let more = self.credit - WINDOW_BYTES_MIN;
                self.credit = WINDOW_BYTES_MIN;
                self.out.extend_from_slice(&Frame::Return(more).head());
            }
        }
        Ok(())
    }

    /// Reads what is there, without waiting, and appends it as a frame; how many bytes.
    fn read(&mut self, tcp: &ReadHalf<'_>) -> io::Result<usize> {
        if self.out.capacity() - self.out.len() < READ_BYTES_MIN {
            self.out.reserve(COPY_BYTES);
        }
        let at = self.out.len();
        self.out.extend_from_slice(&Frame::End.head());
        let bytes_max = usize::try_from(self.credit).unwrap_or(usize::MAX).min(COPY_BYTES);
        let read = tcp.try_read_buf(&mut (&mut self.out).limit(bytes_max));
        match read {
            Ok(0) => self.is_done = true,
            Ok(read) => {
                let bytes = u32::try_from(read).unwrap_or(u32::MAX);
                self.out[at..at + HEAD_BYTES].copy_from_slice(&Frame::Data(bytes).head());
                self.credit -= bytes;
            }
            Err(error) => {
                self.out.truncate(at);
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
            }
        }
        read
    }

    /// What a SOCKS client has sent behind its request: less than the smallest window.
    fn append(&mut self, first: &Bytes) {
        let bytes = u32::try_from(first.len()).unwrap_or(u32::MAX).min(self.credit);
        if bytes > 0 {
            self.credit -= bytes;
            self.out.extend_from_slice(&Frame::Data(bytes).head());
            self.out.extend_from_slice(first);
        }
    }
}
