//! Why a link ends, and why an operation on it does.

use std::io;

use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::reason::EndReason;

use super::close::{Close, CloseCode};
use crate::failure::{Blame, FailureCode};

/// The side that says it has a room secret, and the peer none.
pub(crate) const REFUSED_HERE: LinkError = LinkError::SecretMissing(CloseCode::SecretNeeded.text());
/// The side that says it has no room secret, and the peer one.
pub(crate) const REFUSED_THERE: LinkError = LinkError::SecretMissing(CloseCode::NoSecret.text());

/// Why a link has ended, or never came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// This side has closed it.
    #[error("this side has closed the link: {0}")]
    Closed(Close),
    /// The peer has closed it.
    #[error("the peer has closed the link: {0}")]
    ClosedByPeer(Close),
    /// The peer is not who it should be.
    #[error(
        "the peer shows the key {shown}, expected {expected}: it is not who it should be, or the \
         rendezvous has put another in its place"
    )]
    WrongKey {
        /// The key that it should have.
        expected: PublicKey,
        /// The key that it has shown.
        shown: PublicKey,
    },
    /// The rendezvous names a key from which the peer's id was not made.
    #[error(
        "the rendezvous names the key {shown} for {id}, but this id was made from another: it has put \
         somebody in the peer's place"
    )]
    Impostor {
        /// The peer's id.
        id: WorkerId,
        /// The key that the rendezvous names.
        shown: PublicKey,
    },
    /// The peer does not know the secret of the room.
    #[error("{}", CloseCode::WrongSecret.text())]
    WrongSecret,
    /// Only one of the two has a room secret.
    #[error("{0}")]
    SecretMissing(&'static str),
    /// The two speak no protocol in common.
    #[error("{0}")]
    NoProtocol(String),
    /// No route to the peer is left.
    #[error("{0}")]
    Unreachable(String),
    /// The session that the link is of has ended, and no route is left; why, for programs and for people.
    #[error("{1}")]
    SessionEnded(EndReason, String),
    /// The peer broke the protocol, or is of a version that this one does not understand.
    #[error("the peer does not speak the protocol of a link: {0}")]
    Protocol(String),
}

/// With which code a side refuses the peer, why, and what the peer makes of the code.
const REFUSALS: [(CloseCode, LinkError, LinkError); 3] = [
    (CloseCode::SecretNeeded, REFUSED_HERE, REFUSED_THERE),
    (CloseCode::NoSecret, REFUSED_THERE, REFUSED_HERE),
    (CloseCode::WrongSecret, LinkError::WrongSecret, LinkError::WrongSecret),
];

impl LinkError {
    /// The code, for programs.
    #[must_use]
    pub fn code(&self) -> FailureCode {
        match self {
            Self::Closed(_) => FailureCode::Closed,
            Self::ClosedByPeer(_) => FailureCode::ClosedByPeer,
            Self::WrongKey { .. } => FailureCode::WrongKey,
            Self::Impostor { .. } => FailureCode::Impostor,
            Self::WrongSecret => FailureCode::WrongSecret,
            Self::SecretMissing(_) => FailureCode::SecretMissing,
            Self::NoProtocol(_) => FailureCode::NoProtocol,
            Self::Unreachable(_) | Self::SessionEnded(..) => FailureCode::NoPath,
            Self::Protocol(_) => FailureCode::Protocol,
        }
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code().blame()
    }

    /// The code by which the peer knows why this side ends the connection.
    pub(crate) fn close_code(&self) -> CloseCode {
        let refusal = REFUSALS.into_iter().find(|(_, why, _)| why == self);
        refusal.map_or(CloseCode::Other, |(code, ..)| code)
    }

    pub(crate) fn from_connection(error: &noq::ConnectionError) -> Self {
        match error {
            noq::ConnectionError::ApplicationClosed(close) => {
                let close = Close::read(close);
                if close.code == CloseCode::NoProtocol {
                    return Self::NoProtocol(close.reason);
                }
                let refusal = REFUSALS.into_iter().find(|(code, ..)| *code == close.code);
                refusal.map_or(Self::ClosedByPeer(close), |(.., refusal)| refusal)
            }
            noq::ConnectionError::LocallyClosed => Self::Closed("the link was dropped".into()),
            noq::ConnectionError::TimedOut => {
                Self::Unreachable("the peer has not answered for too long".to_owned())
            }
            noq::ConnectionError::VersionMismatch
            | noq::ConnectionError::TransportError(_)
            | noq::ConnectionError::ConnectionClosed(_)
            | noq::ConnectionError::Reset
            | noq::ConnectionError::CidsExhausted => Self::Protocol(error.to_string()),
        }
    }
}

/// Why nothing more can be written to a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The peer wants no more of it; the code is the application's.
    #[error("the peer wants no more of this stream (code {0})")]
    Stopped(u64),
    /// The stream is finished or reset already.
    #[error("the stream is finished")]
    Finished,
    /// The link has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Why nothing more can be read from a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer has given it up; the code is the application's.
    #[error("the peer has given this stream up (code {0})")]
    Reset(u64),
    /// The stream was stopped on this side.
    #[error("the stream is stopped")]
    Stopped,
    /// The link has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It is longer than the path takes.
    #[error("the datagram has {length} bytes, the path takes {max}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// What the path takes, in bytes.
        max: usize,
    },
    /// The link has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl From<LinkError> for io::Error {
    fn from(error: LinkError) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, error)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) => Self::new(io::ErrorKind::BrokenPipe, error),
            WriteError::Finished => Self::new(io::ErrorKind::NotConnected, error),
            WriteError::Link(error) => error.into(),
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(_) => Self::new(io::ErrorKind::ConnectionReset, error),
            ReadError::Stopped => Self::new(io::ErrorKind::NotConnected, error),
            ReadError::Link(error) => error.into(),
        }
    }
}
