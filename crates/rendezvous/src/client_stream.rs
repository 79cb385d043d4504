//! A client's connection: TCP, and TLS over it where the server speaks that.
//!
//! Reading and writing take a shared reference, and never wait: a relayed message is written by the task of whoever sent it.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that are encrypted before the kernel has taken those before: those of one record (RFC 8446 §5.1). What a client does
/// not read waits where its bounds are, in the outbox or in the relay's queue.
const UNSENT_BYTES_MAX: usize = 16 * 1024;
/// Reads of a client that says nothing by them (records may be empty, RFC 8446 §5.1), before the others of this thread have a
/// turn. A long record needs five.
const READS_PER_TURN: usize = 16;

/// One connection.
#[derive(Debug)]
pub(crate) struct ClientStream {
    tcp: TcpStream,
    /// What encrypts it, from the handshake on.
    tls: OnceLock<Box<Mutex<ServerConnection>>>,
}

impl ClientStream {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, tls: OnceLock::new() }
    }

    /// From here on it speaks TLS, and shakes hands first.
    pub(crate) fn begin_tls(&self, mut tls: ServerConnection) {
        tls.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        let _only_once = self.tls.set(Box::new(Mutex::new(tls)));
    }

    /// The first byte of a client, which stays where it is; `None` at its end.
    pub(crate) fn poll_first_byte(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut byte = [0];
        let peeked = ready!(self.tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte)));
        Poll::Ready(peeked.map(|bytes| (bytes > 0).then_some(byte[0])))
    }

    /// Shakes hands, to the last byte that the client waits for.
    pub(crate) fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(mut tls) = self.tls() else { return Poll::Ready(Ok(())) };
            let done = if tls.wants_write() {
                ready!(self.tcp.poll_write_ready(cx))?;
                self.send(&mut tls)
            } else if tls.is_handshaking() {
                ready!(self.tcp.poll_read_ready(cx))?;
                self.receive(&mut tls)
            } else {
                return Poll::Ready(Ok(()));
            };
            unless_blocked(done)?;
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_read_ready(cx)
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    /// Returns when something may be read. What TLS has decrypted is always read before it waits for more.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        // It may be readable all the time, and say nothing.
        tokio::task::consume_budget().await;
        self.tcp.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads what has come, as far as there is room; nothing is the client's end.
    pub(crate) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let Some(mut tls) = self.tls() else {
            let room = buffer.chunk_mut().len();
            return read_once(&self.tcp, room, || self.tcp.try_read_buf(buffer));
        };
        for _ in 0..READS_PER_TURN {
            match read_decrypted(&mut tls, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Some say no goodbye. Where something is missing, HTTP and WebSockets see that themselves.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.receive(&mut tls)?;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Writes what the kernel takes. With TLS a part of it may [wait](Self::has_unsent) for the kernel still.
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(mut tls) = self.tls() else { return self.tcp.try_write_vectored(pieces) };
        self.send(&mut tls)?;
        let bytes = tls.writer().write_vectored(pieces)?;
        unless_blocked(self.send(&mut tls))?;
        Ok(bytes)
    }

    /// Whether something was written that the kernel has not taken.
    pub(crate) fn has_unsent(&self) -> bool {
        self.tls().is_some_and(|tls| tls.wants_write())
    }

    /// Gives that to the kernel.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        self.tls().map_or(Ok(()), |mut tls| self.send(&mut tls))
    }

    /// Says that nothing more is written.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.say_goodbye();
        SockRef::from(&self.tcp).shutdown(Shutdown::Write)
    }

    /// The end of what TLS carries, as far as the kernel takes it.
    pub(crate) fn say_goodbye(&self) {
        if let Some(mut tls) = self.tls()
            && !tls.is_handshaking()
        {
            tls.send_close_notify();
            let _best_effort = self.send(&mut tls);
        }
    }

    /// Answers a client that speaks no TLS where it has to, as far as the kernel takes it.
    pub(crate) fn answer_in_plain(&self, answer: &[u8]) {
        // A socket that is closed with unread bytes is reset, and the answer lost with it.
        let _best_effort = self.tcp.try_read(&mut [0; 8 * 1024]);
        let _best_effort = self.tcp.try_write(answer);
        let _best_effort = SockRef::from(&self.tcp).shutdown(Shutdown::Write);
    }

    pub(crate) fn set_zero_linger(&self) -> io::Result<()> {
        self.tcp.set_zero_linger()
    }

    /// Whether a client says nothing: no byte has come that is not read yet. At its end it says nothing either.
    pub(crate) fn is_silent(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        !SockRef::from(&self.tcp).peek(&mut byte).is_ok_and(|bytes| bytes > 0)
    }

    fn tls(&self) -> Option<MutexGuard<'_, ServerConnection>> {
        Some(self.tls.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what has come, and decrypts it.
    fn receive(&self, tls: &mut ServerConnection) -> io::Result<()> {
        if tls.read_tls(&mut Tcp(&self.tcp))? == 0 && tls.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = tls.process_new_packets() {
            // The client is told why.
            let _best_effort = self.send(tls);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        unless_blocked(self.send(tls))
    }

    fn send(&self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            if tls.write_tls(&mut Tcp(&self.tcp))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// A client that waits for the end of what it reads is told of it, however the connection ends.
impl Drop for ClientStream {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

/// Reads what the kernel has.
///
/// Less than there was room for is all of it, where readiness is told by epoll: what comes later is told anew. So the socket
/// counts as empty without a second call that would say so, which would be a third of all system calls of an echo.
fn read_once(
    tcp: &TcpStream,
    room: usize,
    read: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = Err(io::ErrorKind::WouldBlock.into());
    // The readiness from before the read is what ends: what comes while it goes on is not lost.
    let _emptied = tcp.try_io(Interest::READABLE, || {
        done = read();
        match done {
            Ok(bytes) if cfg!(target_os = "linux") && bytes > 0 && bytes < room => {
                Err(io::Error::from(io::ErrorKind::WouldBlock))
            }
            _ => Ok(()),
        }
    });
    done
}

/// All that is decrypted and fits.
fn read_decrypted(tls: &mut ServerConnection, buffer: &mut impl BufMut) -> io::Result<usize> {
    let mut read = 0;
    loop {
        let room = if buffer.has_remaining_mut() { buffer.chunk_mut().len() } else { 0 };
        let mut reader = tls.reader();
        let chunk = match reader.fill_buf() {
            Ok(chunk) if room > 0 => &chunk[..chunk.len().min(room)],
            Err(error) if read == 0 => return Err(error),
            Ok(_) | Err(_) => return Ok(read),
        };
        let bytes = chunk.len();
        if bytes == 0 {
            return Ok(read);
        }
        buffer.put_slice(chunk);
        reader.consume(bytes);
        read += bytes;
    }
}

/// What could not be done at once is done later.
fn unless_blocked(done: io::Result<()>) -> io::Result<()> {
    done.or_else(
        |error| {
            if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
        },
    )
}

/// The TCP connection, for the library.
struct Tcp<'a>(&'a TcpStream);

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // It counts as readable until the kernel says otherwise: what was decrypted beside the last record waits to be read.
        self.0.try_read(buffer)
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
