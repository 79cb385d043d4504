//! One TCP connection and one stream, as if they were one.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use holepunch_link::{ReadError, RecvStream, WriteError};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Shared;
use super::buffer::Buffer;
use super::counts::Counts;
use super::frames::{Frame, HEAD_BYTES, Malformed, Piece, Reader};
use super::window::{WINDOW_BYTES_MIN, Window};
use crate::sending::{CODE_RESET, Sending};

/// Bytes read from TCP at once. An idle connection holds no more than this.
const COPY_BYTES: usize = 32 * 1024;
/// The rest of a buffer is used for as long as it has so many bytes: small reads share one.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Bytes read of a stream at once.
const SCRATCH_BYTES: usize = 16 * 1024;
/// A sender that has had nothing to send for so long gives back what it may send beyond the least: others
/// may need it.
const IDLE: Duration = Duration::from_secs(1);
/// Where the link does not know its round-trip time yet.
const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(100);
/// As long as a connection has had no more to send than this, about a packet, its bytes go before those of
/// others, so that it does not wait its turn among a thousand that are busy.
const FIRST_BYTES: usize = 1024;
const PRIORITY_FIRST: i32 = 1;
const PRIORITY_USUAL: i32 = 0;
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
    #[error("what the peer says of the connection: {0}")]
    Malformed(#[from] Malformed),
    #[error("the link has ended")]
    Link,
}

impl Broken {
    /// What tokio's reading of a stream says.
    fn of_stream(error: io::Error) -> Self {
        let source = error.get_ref().and_then(|it| it.downcast_ref::<ReadError>());
        match source {
            Some(ReadError::Reset(code)) => Self::Peer(*code),
            Some(ReadError::Link(_)) => Self::Link,
            Some(ReadError::Stopped) | None => Self::Peer(CODE_RESET),
        }
    }
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

/// What the two directions of a connection tell each other: one reads what the peer says, the other one
/// alone writes to it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    told: Mutex<Told>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Told {
    /// More that the peer takes.
    credit: u32,
    /// More that this side takes, to be told.
    grant: u32,
    /// The peer's direction is at its end: it needs no credit any more.
    peer_is_done: bool,
}

impl Turns {
    fn tell(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn take(&self) -> Told {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let peer_is_done = told.peer_is_done;
        std::mem::replace(&mut told, Told { peer_is_done, ..Told::default() })
    }
}

/// From TCP to the peer; passes the end on. `lead` stands before everything on the stream, `first` before
/// everything of the connection.
pub(super) async fn up(
    tcp: ReadHalf<'_>,
    send: &mut Sending,
    (lead, first): (Vec<u8>, Bytes),
    turns: &Turns,
    counts: &Counts,
) -> Result<(), Broken> {
    let up = Up { out: BytesMut::from(&lead[..]), credit: WINDOW_BYTES_MIN, is_done: false };
    match up.run(tcp, send, first, turns, counts).await {
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
        counts: &Counts,
    ) -> Result<(), Broken> {
        send.set_priority(PRIORITY_FIRST);
        self.append(&first);
        counts.sent_bytes.add(first.len() as u64);
        let mut early = FIRST_BYTES;
        loop {
            let told = turns.take();
            self.credit = self.credit.checked_add(told.credit).ok_or(Malformed)?;
            if told.grant > 0 {
                self.out.extend_from_slice(&Frame::Credit(told.grant).head());
            }
            let read = if self.may_read() { self.read(&tcp)? } else { 0 };
            counts.sent_bytes.add(read as u64);
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
                return Ok(send.finish()?);
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

/// From the peer to TCP; passes the end on. What the peer sends is always read, so that no connection holds
/// up others: what TCP does not take waits within the window.
pub(super) async fn down(
    recv: &mut RecvStream,
    mut tcp: WriteHalf<'_>,
    turns: &Turns,
    shared: &Shared,
) -> Result<(), Broken> {
    let window = Window::new(&shared.pool, Instant::now());
    let mut down =
        Down { window, reader: Reader::default(), buffer: Buffer::default(), is_done: false };
    let (mut is_shut, mut is_over) = (false, false);
    while !(is_shut && is_over) {
        tokio::select! {
            biased;
            writable = tcp.writable(), if !down.buffer.is_empty() => {
                writable?;
                down.write(&tcp, turns, shared)?;
            }
            read = poll_fn(|context| down.poll_read(recv, turns, context)), if !is_over => {
                is_over = read?;
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
    fn write(&mut self, tcp: &WriteHalf<'_>, turns: &Turns, shared: &Shared) -> io::Result<()> {
        let written = match tcp.try_write(self.buffer.first()) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.buffer.take(written);
        shared.counts.received_bytes.add(written as u64);
        let round_trip = || shared.link.path().rtt.unwrap_or(ROUND_TRIP_UNKNOWN);
        let credit = self.window.taken(written, Instant::now(), round_trip);
        if let Some(credit) = credit.filter(|_| !self.is_done) {
            turns.tell(|told| told.grant += credit);
        }
        Ok(())
    }
}

/// Tells the peer that the connection is broken.
pub(super) fn give_up(send: &mut Sending, recv: &mut RecvStream, code: u64) {
    send.reset(code);
    recv.stop(code);
}
