//! Why a worker's calls fail, by code and by blame.

use std::io;

use holepunch_link::{Blame, FailureCode, LinkError};
use holepunch_wire::WorkerId;

/// Why there is no connection to the rendezvous.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct RendezvousError {
    code: FailureCode,
    why: String,
    /// What it hangs on may be another by the next attempt.
    may_change: bool,
}

impl RendezvousError {
    pub(crate) fn new(code: FailureCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), may_change: false }
    }

    /// The same where the worker's token may be another one by the next attempt.
    pub(crate) fn where_token_changes(self, may_change: bool) -> Self {
        Self { may_change, ..self }
    }

    /// The connection was there, and is no longer.
    pub(crate) fn lost(why: impl Into<String>) -> Self {
        Self::new(FailureCode::ConnectionLost, why)
    }

    /// The code, for programs.
    #[must_use]
    pub fn code(&self) -> FailureCode {
        self.code
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code.blame()
    }

    /// Whether the next attempt would end alike: the rendezvous does not take this worker, and its token is no other one by then;
    /// or another worker has its id.
    #[must_use]
    pub fn is_final(&self) -> bool {
        (self.is_refusal() && !self.may_change) || self.code == FailureCode::Replaced
    }

    /// Whether the rendezvous does not take this worker as it is.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self.code,
            FailureCode::NotAdmitted | FailureCode::TokenRefused | FailureCode::NotAllowed
        )
    }

    /// The text, and the code.
    pub(crate) fn into_parts(self) -> (String, FailureCode) {
        (self.why, self.code)
    }
}

/// Why there is no link with a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no connection to the rendezvous, and there was none yet; or it does not take this worker.
    #[error("no connection to the rendezvous: {0}")]
    Rendezvous(#[from] RendezvousError),
    /// The rendezvous knows of no worker with this id in this room.
    #[error("no worker {0} is registered in this room")]
    NotRegistered(WorkerId),
    /// The rendezvous does not bring the two together.
    #[error("the rendezvous does not bring this worker together with {peer}: {why}")]
    NotCallable {
        /// The peer.
        peer: WorkerId,
        /// What the rendezvous says, for people.
        why: String,
    },
    /// The two were brought together, and no link came of it.
    #[error("no link with the peer: {0}")]
    Link(#[from] LinkError),
    /// The rendezvous speaks the baseline alone, or this worker is to make no links.
    #[error("there are no links here: the rendezvous or this worker speaks the baseline alone")]
    NoLinks,
    /// There is a link with this peer.
    #[error("there is a link with {0} already")]
    AlreadyLinked(WorkerId),
    /// This peer is being called.
    #[error("{0} is being called already")]
    AlreadyCalling(WorkerId),
    /// As many peers are being called as may be at once.
    #[error("{0} peers are being called, and that is as many as may be at once")]
    TooManyCalls(usize),
    /// The worker that is called is this one.
    #[error("{0} is this worker itself")]
    OwnId(WorkerId),
    /// The worker has ended.
    #[error("the worker has ended")]
    WorkerEnded,
}

impl ConnectError {
    /// The code, for programs.
    #[must_use]
    pub fn code(&self) -> FailureCode {
        match self {
            Self::Rendezvous(error) => error.code(),
            Self::NotRegistered(_) => FailureCode::NotRegistered,
            Self::NotCallable { .. } => FailureCode::NotCallable,
            Self::Link(error) => error.code(),
            Self::NoLinks => FailureCode::NoLinks,
            Self::AlreadyLinked(_) => FailureCode::AlreadyLinked,
            Self::AlreadyCalling(_) => FailureCode::AlreadyCalling,
            Self::TooManyCalls(_) => FailureCode::TooManyCalls,
            Self::OwnId(_) => FailureCode::OwnId,
            Self::WorkerEnded => FailureCode::WorkerEnded,
        }
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code().blame()
    }
}

/// Why no link comes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// There is no connection to the rendezvous, and there was none yet; or it does not take this worker.
    #[error("no connection to the rendezvous: {0}")]
    Rendezvous(#[from] RendezvousError),
    /// The rendezvous speaks the baseline alone, or this worker is to make no links.
    #[error("there are no links here: the rendezvous or this worker speaks the baseline alone")]
    NoLinks,
    /// The worker has ended.
    #[error("the worker has ended")]
    WorkerEnded,
}

impl AcceptError {
    /// The code, for programs.
    #[must_use]
    pub fn code(&self) -> FailureCode {
        match self {
            Self::Rendezvous(error) => error.code(),
            Self::NoLinks => FailureCode::NoLinks,
            Self::WorkerEnded => FailureCode::WorkerEnded,
        }
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code().blame()
    }
}

/// What an IO error on the way to the rendezvous means: its inner error.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Told {
    code: FailureCode,
    text: String,
}

impl Told {
    /// An IO error of this kind, with a code.
    pub(crate) fn io(code: FailureCode, kind: io::ErrorKind, text: impl Into<String>) -> io::Error {
        io::Error::new(kind, Self { code, text: text.into() })
    }

    /// The code that an IO error has been given.
    pub(crate) fn code_of(error: &io::Error) -> Option<FailureCode> {
        error.get_ref()?.downcast_ref::<Self>().map(|told| told.code)
    }
}
