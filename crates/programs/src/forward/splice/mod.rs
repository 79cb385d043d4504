//! One TCP connection and one stream, as if they were one.

mod down;
mod up;

use std::io;
use std::sync::{Mutex, PoisonError};

use holepunch_link::{LinkError, ReadError, RecvStream, WriteError};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::frames::Malformed;
use crate::sending::{CODE_RESET, Sending};

pub(super) use down::down;
pub(super) use up::up;

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
        let Some(source) = error.get_ref() else { return Self::Peer(CODE_RESET) };
        match source.downcast_ref() {
            Some(ReadError::Reset(code)) => Self::Peer(*code),
            _ if source.is::<LinkError>() => Self::Link,
            Some(ReadError::Stopped | ReadError::Link(_) | _) | None => Self::Peer(CODE_RESET),
        }
    }
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Peer(code),
            WriteError::Link(_) => Self::Link,
            WriteError::Finished | _ => Self::Peer(CODE_RESET),
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

/// Tells the peer that the connection is broken.
pub(super) fn give_up(send: &mut Sending, recv: &mut RecvStream, code: u64) {
    send.reset(code);
    recv.stop(code);
}
