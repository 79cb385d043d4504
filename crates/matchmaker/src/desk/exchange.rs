//! What goes into a desk, and what comes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::RoomName;

use crate::cluster::ClaimError;
use crate::doors::{Action, Config, NotAdmitted, Observed, Protocol, Told};
use crate::names::Room;
use crate::permit::Permit;
use crate::registry::{Claimed, Whereabouts};
use crate::seat::{Command, Effect, InstanceId, Seat};

/// What surrounds a step of a desk.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// How the rendezvous behaves.
    pub config: &'a Config,
    /// The time.
    pub now: Instant,
    /// What the wall clock shows, since 1970, where that is known.
    pub unix: Option<Duration>,
}

/// A WebSocket that has just been opened.
#[derive(Debug)]
pub struct Arrival {
    /// The id in its path.
    pub worker: WorkerId,
    /// Where it comes from.
    pub observed: Observed,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The room in its URL.
    pub room: Option<RoomName>,
    /// What a signature on it has to be over.
    pub challenge: String,
    /// What its worker may do.
    pub permit: Arc<Permit>,
}

/// What a desk wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// This, on its WebSocket.
    Act(Action),
    /// The board is to see to this.
    Errand(Errand),
    /// This happened.
    Event(Told),
}

/// What a desk wants of others: see [`Board::take`](crate::Board::take).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// This command is for the hall of a room.
    Command(Room, Command),
    /// The registry is asked. But for [`Question::Reclaim`], the answer comes before anything else of the worker is looked at.
    Ask(Question),
    /// The registry is told where the worker is to be found.
    Is(Whereabouts),
    /// The connection is forgotten: the registry is told so.
    Gone {
        /// Whether its key keeps the id.
        outlives: bool,
        /// Whether it has sessions that it may take up.
        has_sessions: bool,
    },
}

/// What a desk asks the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// For a place.
    Arrive,
    /// For the id, with the key that is proved.
    Claim(Option<PublicKey>),
    /// Likewise, for one that this connection has had with another number of its rendezvous; nothing waits for the answer.
    Reclaim(Option<PublicKey>, InstanceId),
    /// Where a worker is.
    Find(WorkerId),
}

/// What the registry answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Whether there is a place, and whether the id is taken with the proof of a key alone.
    Arrived(Result<bool, NotAdmitted>),
    /// Whether the id is this connection's.
    Claim(Result<Claimed, ClaimError>),
    /// Whether it is so still.
    Reclaim(Result<Claimed, ClaimError>),
    /// Where the worker is.
    Found(Option<(Seat, Room)>),
}

/// What a desk is told: see [`Board::poll_note`](crate::Board::poll_note).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The registry has answered.
    Answer(Answer),
    /// The hall of a room says this.
    Effect(Room, Effect),
    /// The hall of a room is another one than before, which knows nothing of this worker.
    Rejoin(Room),
    /// It knows everything else by now, and is to be told whether the worker wants a peer.
    WantAgain(Room),
    /// What was said to the hall of a room when it had no owner is to be said now.
    SayAgain(Room, Command),
    /// The id is another connection's now.
    Replaced,
    /// What has let the worker in does so no longer.
    Expelled(CloseReason),
    /// The registry is to be asked anew for the id, which this connection had under this number of its rendezvous.
    Reclaim(InstanceId),
    /// The server stops.
    Shutdown,
    /// Likewise, and another rendezvous takes its workers.
    Move,
}

impl Note {
    /// Whether a peer is offered by it.
    #[must_use]
    pub fn is_offer(&self) -> bool {
        matches!(self, Self::Effect(_, Effect::Offer { .. } | Effect::Begin { .. }))
    }
}
