//! The direction from the peer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use holepunch_link::RecvStream;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::WriteHalf;

use super::super::buffer::Buffer;
use super::super::frames::{Malformed, Piece, Reader};
use super::super::station::Carrier;
use super::super::window::Window;
use super::{Broken, Turns};

/// Bytes read of a stream at once.
const SCRATCH_BYTES: usize = 16 * 1024;
/// Where the link does not know its round-trip time yet.
const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(100);

/// From the peer to TCP; passes the end on. What the peer sends is always read, so that no connection holds
/// up others: what TCP does not take waits within the window.
pub(in crate::forward) async fn down(
    recv: &mut RecvStream,
    mut tcp: WriteHalf<'_>,
    turns: &Turns,
    carrier: &Carrier,
) -> Result<(), Broken> {
    let window = Window::new(&carrier.pool, Instant::now());
    let mut down =
        Down { window, reader: Reader::default(), buffer: Buffer::default(), is_done: false };
    let (mut is_shut, mut is_over) = (false, false);
    while !(is_shut && is_over) {
        tokio::select! {
            biased;
            writable = tcp.writable(), if !down.buffer.is_empty() => {
                writable?;
                down.write(&tcp, turns, carrier)?;
            }
            read = poll_fn(|context| down.poll_read(recv, turns, context)), if !is_over => {
                is_over = match read {
                    // All of the connection has come; only the stream's own end has not.
                    Err(Broken::Link) if down.is_done => true,
                    read => read?,
                };
            }
        }
        if down.is_done && down.buffer.is_empty() && !is_shut {
            tcp.shutdown().await?;
            is_shut = true;
        }
    }
    Ok(())
}

/// The direction from the peer.
struct Down<'a> {
    window: Window<'a>,
    reader: Reader,
    buffer: Buffer,
    /// The connection's end has come.
    is_done: bool,
}

impl Down<'_> {
    /// Reads what there is of the stream, into no memory that an idle connection would hold; whether the
    /// stream is at its end.
    fn poll_read(
        &mut self,
        recv: &mut RecvStream,
        turns: &Turns,
        context: &mut Context<'_>,
    ) -> Poll<Result<bool, Broken>> {
        let mut bytes = [0; SCRATCH_BYTES];
        let mut read = ReadBuf::new(&mut bytes);
        if let Err(error) = ready!(Pin::new(recv).poll_read(context, &mut read)) {
            return Poll::Ready(Err(Broken::of_stream(error)));
        }
        let mut rest = read.filled();
        if rest.is_empty() {
            // Only a stream with the connection's end in it is whole.
            let is_whole = self.reader.may_end();
            return Poll::Ready(if is_whole { Ok(true) } else { Err(Malformed.into()) });
        }
        Poll::Ready(self.take(&mut rest, turns).map(|()| false).map_err(Broken::from))
    }

    fn take(&mut self, rest: &mut &[u8], turns: &Turns) -> Result<(), Malformed> {
        while let Some(piece) = self.reader.next(rest)? {
            match piece {
                Piece::Bytes(bytes) => {
                    self.window.received(bytes.len())?;
                    self.buffer.push(bytes);
                }
                Piece::End => {
                    self.is_done = true;
                    turns.tell(|told| told.peer_is_done = true);
                }
                // More than fits into a number is more than there is.
                Piece::Credit(more) => {
                    turns.tell(|told| told.credit = told.credit.saturating_add(more));
                }
                Piece::Return(bytes) => self.window.returned(bytes)?,
            }
        }
        Ok(())
    }

    /// Writes what TCP takes of what waits.
    fn write(&mut self, tcp: &WriteHalf<'_>, turns: &Turns, carrier: &Carrier) -> io::Result<()> {
        let written = match tcp.try_write(self.buffer.first()) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.buffer.take(written);
        carrier.station.counts.received_bytes.add(written as u64);
        let round_trip = || carrier.link.path().rtt.unwrap_or(ROUND_TRIP_UNKNOWN);
        let credit = self.window.taken(written, Instant::now(), round_trip);
        if let Some(credit) = credit.filter(|_| !self.is_done) {
            turns.tell(|told| told.grant += credit);
        }
        Ok(())
    }
}
