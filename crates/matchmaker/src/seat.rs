//! What crosses between the parts: plain data, so that the two ends may be in two processes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holepunch_wire::WorkerId;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::{RoomMode, SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::{ErrorCode, ServerV1, WorkerV1};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::doors::ConnectionId;

/// One rendezvous of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u64);

impl InstanceId {
    /// The number of the same process, when it has lost what it had under this one. The lower half stays.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1 << 32))
    }

    /// The lower half, which is the same for as long as the process lives.
    #[must_use]
    pub fn process(self) -> u32 {
        self.0 as u32
    }
}

/// Where a worker's WebSocket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// At this rendezvous,
    pub instance: InstanceId,
    /// this one.
    pub connection: ConnectionId,
}

/// The last sessions of a worker that it knows to be over: a hall that is taken over may not know, nor the desk of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Over(VecDeque<SessionId>);

impl Over {
    /// One more, which may be one of them already.
    pub(crate) fn add(&mut self, session: SessionId) {
        if !self.has(session) {
            self.0.truncate(SESSIONS_MAX - 1);
            self.0.push_front(session);
        }
    }

    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.0.contains(&session)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.0.iter().copied()
    }
}

/// What a desk asks of a hall, or tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The worker wants to be in this room; it may be there already.
    Enter {
        /// What is known of it.
        card: Arc<Card>,
        /// The mode that it wants.
        mode: Option<RoomMode>,
        /// Only if nobody is there.
        fresh: bool,
        /// The room has been this worker's own.
        own: bool,
    },
    /// What is known of the worker by now.
    Announce(Arc<Card>),
    /// The worker wants a peer.
    Want {
        /// For so long it has waited for one, in a hall of before.
        waited: Option<Duration>,
    },
    /// The hall is another one than before: this is what the desk knows of it.
    Rejoin {
        /// What is known of the worker.
        card: Arc<Card>,
        /// Where it is in the room: the mode that it was told, and whether the room is its own.
        member: Option<(RoomMode, bool)>,
        /// Its sessions there.
        sessions: Vec<Held>,
        /// Those that are over.
        over: Over,
        /// It has lost a connection, and takes up its sessions with this one.
        resumes: Resumes,
    },
    /// The worker is there again. What it does not take up, and what could not go on without it, is over.
    Return {
        /// What is known of it.
        card: Arc<Card>,
        /// It is the one that has lost its connection, and takes up its sessions.
        resumes: Resumes,
        /// What it knows of them, and this hall need not.
        sessions: Vec<Held>,
    },
    /// The worker wants a session with one that is in this room.
    Call {
        /// What is known of the caller.
        card: Arc<Card>,
        /// Whom it calls.
        worker: WorkerId,
        /// Where that one is.
        seat: Seat,
    },
    /// What the worker says of a session: [`PlanAccepted`](WorkerV1::PlanAccepted), [`TurnAddress`](WorkerV1::TurnAddress),
    /// [`LinkState`](WorkerV1::LinkState) or [`Leave`](WorkerV1::Leave).
    Say(WorkerV1),
    /// The worker goes to another room.
    Exit,
    /// The worker's connection is gone.
    Depart {
        /// It has said so.
        leaves: bool,
        /// The offer of a peer that it was to get did not reach it: that peer wants another one.
        unsent: bool,
    },
}

/// Which sessions of a lost connection a worker takes up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Resumes {
    /// None: it is not known to be the one that has lost it.
    #[default]
    Nothing,
    /// These, and the others are over.
    These(Vec<SessionId>),
    /// Whatever there is.
    Everything,
}

impl Resumes {
    /// A session that no hall knows any more goes on: where one is told of it, it is none of those that are over.
    pub(crate) fn keep(&mut self, session: SessionId) {
        if let Self::These(sessions) = self
            && !sessions.contains(&session)
        {
            sessions.truncate(SESSIONS_MAX - 1);
            sessions.push(session);
        }
    }
}

/// What a desk knows of a session: enough for a hall to know it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The session.
    pub session: SessionId,
    /// Which of the two the worker is.
    pub own: usize,
    /// The other one.
    pub peer: WorkerId,
    /// The plan that the worker was told last.
    pub plan: Plan,
    /// Whether it was taken off the queue for this: it waits again after its end.
    pub was_waiting: bool,
    /// Whether it has said that the path is direct.
    pub direct: bool,
    /// Whether it has said that the relay serves.
    pub relayed: bool,
    /// No hall has told the desk of it, but the worker that takes it up.
    pub is_recovered: bool,
}

/// What a hall tells a desk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The worker is in the room, which has this mode.
    Entered(RoomMode),
    /// Whether it waits for a peer: it has been taken off the queue, since it has one again, or waits again without having asked.
    Waits(bool),
    /// To be said to the worker.
    Say(ServerV1),
    /// A session is offered to the worker.
    Begin {
        /// This is said to it.
        offer: ServerV1,
        /// Whether it has been taken off the queue for this.
        was_waiting: bool,
    },
    /// A peer, for a worker of the baseline or with one: it has been taken off the queue for this.
    Offer {
        /// Its id.
        peer: WorkerId,
        /// Where it is.
        endpoint: SocketAddr,
    },
    /// The worker is not in this room.
    ShownOut {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: String,
    },
    /// These sessions are this connection's now.
    Resumed(Vec<Held>),
    /// A session is over, and the worker knows, or need not.
    Over(SessionId),
    /// The worker is nobody to this hall any more: it is no member, has no session and waits for nobody.
    SeenOff,
}
