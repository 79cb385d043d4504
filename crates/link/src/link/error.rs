//! Why a link ends, and why an operation on it does.

use std::io;

use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;

use crate::failure::{Blame, FailureCode};
use crate::links::PROOF_BYTES;

/// Longest reason of a close that is kept, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 256;

/// The code with which a link is closed on purpose.
pub(crate) const CODE_DONE: u32 = 0;
/// The code of a side that has a room secret, for a peer that has none.
const CODE_SECRET_NEEDED: u32 = 2;
/// The code of a side that has no room secret, for a peer that has one.
const CODE_NO_SECRET: u32 = 3;
/// The code for a peer that has shown not to know the room's secret.
const CODE_WRONG_SECRET: u32 = 4;
/// The code for a peer with which no protocol is in common.
pub(crate) const CODE_NO_PROTOCOL: u32 = 5;

/// The code of a side that closes a link at once that it has just proved its knowledge for: the proof, which the close may
/// overtake, stands before the reason.
pub(crate) const CODE_PROVED: u32 = 6;

/// The side that says it has a room secret, and the peer none.
pub(crate) const REFUSED_HERE: LinkError =
    LinkError::SecretMissing("this side has a room secret, and the peer has none");
/// The side that says it has no room secret, and the peer one.
pub(crate) const REFUSED_THERE: LinkError =
    LinkError::SecretMissing("the peer has a room secret, and this side has none");

/// Why a link has ended, or never came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// This side has closed it.
    #[error("this side has closed the link: {0}")]
    Closed(String),
    /// The peer has closed it.
    #[error("the peer has closed the link: {0}")]
    ClosedByPeer(String),
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
    #[error("the peer does not know this room's secret, or somebody stands in between")]
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
    /// The peer broke the protocol, or is of a version that this one does not understand.
    #[error("the peer does not speak the protocol of a link: {0}")]
    Protocol(String),
}

/// With which code a side refuses the peer, why, and what the peer makes of the code.
const REFUSALS: [(u32, LinkError, LinkError); 3] = [
    (CODE_SECRET_NEEDED, REFUSED_HERE, REFUSED_THERE),
    (CODE_NO_SECRET, REFUSED_THERE, REFUSED_HERE),
    (CODE_WRONG_SECRET, LinkError::WrongSecret, LinkError::WrongSecret),
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
            Self::Unreachable(_) => FailureCode::NoPath,
            Self::Protocol(_) => FailureCode::Protocol,
        }
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code().blame()
    }

    /// The code by which the peer knows why this side ends the connection.
    pub(crate) fn close_code(&self) -> u32 {
        let refusal = REFUSALS.into_iter().find(|(_, why, _)| why == self);
        refusal.map_or(CODE_DONE, |(code, ..)| code)
    }

    pub(crate) fn from_connection(error: &noq::ConnectionError) -> Self {
        match error {
            noq::ConnectionError::ApplicationClosed(close) => {
                let mut refusals = REFUSALS.into_iter();
                if let Some((.., refusal)) =
                    refusals.find(|(code, ..)| close.error_code == (*code).into())
                {
                    return refusal;
                }
                let is_behind_proof = close.error_code == CODE_PROVED.into();
                let reason = close.reason.get(if is_behind_proof { PROOF_BYTES } else { 0 }..);
                let reason = String::from_utf8_lossy(reason.unwrap_or_default());
                let reason = reason.chars().filter(|c| !c.is_control()).take(REASON_BYTES_MAX);
                if close.error_code == CODE_NO_PROTOCOL.into() {
                    Self::NoProtocol(reason.collect())
                } else {
                    Self::ClosedByPeer(reason.collect())
                }
            }
            noq::ConnectionError::LocallyClosed => Self::Closed("the link was dropped".to_owned()),
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
