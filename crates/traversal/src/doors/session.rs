//! What happens to a session, and how it stands.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::SessionOffer;

use super::SocketId;

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session of this offer has begun: checks leave by its plan.
    Started(Box<SessionOffer>),
    /// The rendezvous has another plan.
    Replanned(Box<Plan>),
    /// A plan's search is not made.
    SearchRefused(SearchRefusal),
    /// The peer's first check has come, by this socket and from this address: a packet to there will
    /// most likely reach it.
    Heard(SocketId, SocketAddr),
    /// Both sides have accepted the plan: the search begins.
    SearchStarted(Strategy),
    /// A check was answered for the first time.
    Linked(PathInfo),
    /// Another path is used from now on.
    PathChanged(PathInfo),
    /// On the path in use, the peer sees this side at another address than before: this one.
    Rebound(SocketAddr),
    /// What is sent by this socket to this address is answered from another one, where the two NATs map
    /// by destination: what comes from there belongs to this path. `None`: no more.
    AnswersFrom(SocketId, SocketAddr, Option<SocketAddr>),
    /// The path answers no more; others are tried.
    Suspect(SocketAddr),
    /// A path answers again.
    Repaired(PathInfo),
    /// No direct path is to be expected.
    Verdict(String),
    /// Every strategy has been tried in vain.
    Failed(SessionFailure),
    /// It is over: the peer has left, or the rendezvous has ended it; why, for programs and for people.
    Ended(EndReason, String),
}

/// A path that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathInfo {
    /// The socket that is sent from.
    pub socket: SocketId,
    /// The address that is sent to.
    pub remote: SocketAddr,
    /// How that address was learnt.
    pub kind: CandidateKind,
    /// Time from a check to its answer.
    pub rtt: Duration,
    /// Time from the offer to the first answer.
    pub after: Duration,
    /// Packets sent in this session.
    pub probes: u32,
}

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The session.
    pub id: SessionId,
    /// The peer.
    pub peer: WorkerId,
    /// The strategy of its plan.
    pub strategy: Strategy,
    /// The path in use, once there is one.
    pub path: Option<PathInfo>,
    /// When that path answered last.
    pub answered_at: Option<Instant>,
    /// Whether it has stopped answering, and others are tried.
    pub is_suspect: bool,
    /// Packets sent in this session.
    pub probes: u32,
}

/// Why a session came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionFailure {
    /// Nothing of the peer arrived.
    #[error("no check of the peer arrived: one of the two NATs lets nothing through")]
    Silence,
    /// Checks arrived, but no answer.
    #[error("the peer's checks arrive, but none of ours is answered: they do not reach it")]
    Unanswered,
    /// A search was never begun.
    #[error("the search could not begin: one of the two was not ready for it in time")]
    SearchUnready,
    /// A search has used up its budget.
    #[error("the search has used up its budget of packets without a hit")]
    SearchExhausted,
    /// The path that there was answers no more.
    #[error("the path has not answered for so long that the peer's consent has expired")]
    Lost,
}

/// Why a search is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchRefusal {
    /// Nobody vouches for the peer's address.
    #[error(
        "nothing proves that the peer's address is its own, and many packets could harm another"
    )]
    Unproven,
    /// There is no address to send to.
    #[error("the peer has no IPv4 endpoint")]
    NoEndpoint,
    /// Another search is under way.
    #[error("another search is under way")]
    Busy,
    /// There have been too many searches toward that address.
    #[error("there has been a search toward that address within a minute, or four within an hour")]
    TooMany,
    /// The worker's own settings forbid it.
    #[error("this worker takes part in no searches")]
    Unwanted,
    /// No socket could be opened.
    #[error("no further UDP socket could be opened")]
    NoSocket,
}
