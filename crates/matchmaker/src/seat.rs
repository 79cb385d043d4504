//! What crosses between the parts: plain data, so that the two ends may be in two processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holepunch_wire::WorkerId;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_wire::signal::v1::{ErrorCode, ServerV1, WorkerV1};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::doors::ConnectionId;

/// One rendezvous of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u64);

/// Where a worker's WebSocket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// At this rendezvous,
    pub instance: InstanceId,
    /// this one.
    pub connection: ConnectionId,
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
    },
    /// The worker is there again: it takes up its sessions with a token, and the others of it are over.
    Return {
        /// What is known of it.
        card: Arc<Card>,
        /// That of an earlier welcome.
        token: Option<String>,
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
    /// Whether it has said that the path is direct.
    pub direct: bool,
    /// Whether it has said that the relay serves.
    pub relayed: bool,
}

/// What a hall tells a desk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The worker is in the room, which has this mode.
    Entered(RoomMode),
    /// It waits for a peer again, without having asked.
    Waits,
    /// To be said to the worker.
    Say(ServerV1),
    /// A peer, for a worker of the baseline or with one.
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
