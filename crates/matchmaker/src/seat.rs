//! What crosses between the parts: plain data, so that the two ends may be in two processes.

use std::net::SocketAddr;
use std::sync::Arc;

use holepunch_wire::WorkerId;
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
    Want,
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

/// What a hall tells a desk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
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
    Resumed(Vec<SessionId>),
    /// A session is over, and the worker knows, or need not.
    Over(SessionId),
    /// The worker is nobody to this hall any more: it is no member, has no session and waits for nobody.
    SeenOff,
}
