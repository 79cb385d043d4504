//! Several rendezvous as one: who owns which room, and what crosses between them.
//!
//! A room is owned by one instance at a time, for as long as that instance has its lease; each new owner has a higher
//! [`Epoch`]. What a hall has is not stored: a new owner learns it from the desks, which hold the sockets. The store keeps
//! what must outlive an owner, and answers late, or not at all.

mod store;
mod switch;
mod trunk;

use std::net::IpAddr;
use std::time::Duration;

use holepunch_wire::identity::PublicKey;
use holepunch_wire::tenant::Tenant;
use serde::{Deserialize, Serialize};

use crate::doors::{ConnectionId, NotAdmitted};
use crate::names::{Member, Room};
use crate::registry::{Claimed, Listed, Whereabouts};
use crate::seat::{Command, Effect, InstanceId, Seat};
pub use store::Store;
pub(crate) use switch::{Switch, SwitchOut};

/// An instance is one for so long after it has said so to the store.
pub const LEASE: Duration = Duration::from_millis(2500);
/// It says so this often.
pub(crate) const RENEWED_EVERY: Duration = Duration::from_millis(400);
/// A hall that has been taken over pairs nobody before this: every desk is to have told what it knows. Each instance learns
/// of the end of an owner with its next lease, and asks for the next one.
pub(crate) const LEARNED_WITHIN: Duration = Duration::from_secs(1);
/// By its own clock, an owner stops this long before its lease ends, since two clocks do not run alike.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_millis(300);
/// A question that the store has not answered by then is asked again.
pub(crate) const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often a room has had another owner: what an owner of before says is not carried out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// What one instance sends another; in order, and once, or never: see [`Packet`]. What is added to it gets a default, so that an
/// envelope of the version before can be read; one of the version behind which cannot be is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The room that it is about.
    pub room: Room,
    /// That of the hall for which it is, or from which it comes.
    pub epoch: Epoch,
    /// What is in it.
    pub letter: Letter,
}

/// What an envelope holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Letter {
    /// A desk says this to the hall.
    Command(Seat, Command),
    /// The hall says this to a desk.
    Effect(Seat, Effect),
    /// The hall is not here, or not of this epoch.
    NotOwned,
    /// The id of a connection is another one's now; no hall says this.
    Replaced(ConnectionId),
}

/// What goes over the fabric: it may be lost, come twice, and out of order. Instances of two versions understand each other's
/// packets for as long as these two fields stay what they are, whatever becomes of [`Envelope`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Which envelope this is, counted from 1; `None`: nothing but an acknowledgement. An envelope that is `None` has come from
    /// another version, and is none that this one can read: nobody sends that.
    pub sent: Option<(u64, Option<Envelope>)>,
    /// Every envelope up to this one has arrived.
    pub received: u64,
}

/// What the store is asked, or told. To ask again does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// This instance is there, and is owner of its rooms for another [`LEASE`].
    Renew {
        /// It has had a lease under this number. Where that is over by the store's clock, the others take it for gone, and it
        /// has none any more.
        again: bool,
    },
    /// This instance stops: it owns nothing any more, and has no connections.
    Resign,
    /// Who owns a room: this instance, unless another one does that is there. The epoch is higher than `known`.
    Own {
        /// The room.
        room: Room,
        /// The highest epoch that is known here.
        known: Epoch,
    },
    /// A room of this instance has nobody in it.
    Disown {
        /// The room.
        room: Room,
        /// Where it has been another's since, this is of before.
        epoch: Epoch,
    },
    /// Whether there is room for a worker. It may be taken by somebody else before the worker connects.
    Admits {
        /// Its id.
        worker: Member,
        /// Where it comes from.
        ip: IpAddr,
    },
    /// Who is registered.
    List {
        /// Of this tenant alone; `None`: of all.
        within: Option<Tenant>,
        /// Behind this one.
        after: Option<Member>,
        /// At most so many.
        limit: usize,
    },
    /// A worker wants to connect.
    Arrive {
        /// Where.
        seat: Seat,
        /// Its id.
        worker: Member,
        /// Where it comes from.
        ip: IpAddr,
    },
    /// A connection claims its id.
    Claim {
        /// The connection.
        seat: Seat,
        /// The id.
        worker: Member,
        /// Where it comes from.
        ip: IpAddr,
        /// The key that it has proved.
        key: Option<PublicKey>,
        /// It has had the id before, at this seat: another connection that has come since keeps it.
        again: Option<Seat>,
    },
    /// Where a worker is.
    Find {
        /// The connection that asks.
        seat: Seat,
        /// The worker.
        worker: Member,
    },
    /// A worker is to be found there.
    Is {
        /// Its connection.
        seat: Seat,
        /// The worker.
        worker: Member,
        /// Where.
        is: Whereabouts,
    },
    /// A connection is gone.
    Release {
        /// The connection.
        seat: Seat,
        /// Its worker.
        worker: Member,
        /// Where it came from.
        ip: IpAddr,
        /// Whether its key keeps the id.
        outlives: bool,
        /// Whether it has sessions that it may take up.
        has_sessions: bool,
    },
}

impl Request {
    /// The connection that has come, or is to stay: it has another seat, when its instance has another number. (One that is
    /// gone is gone from where it was.)
    pub(crate) fn seat_mut(&mut self) -> Option<&mut Seat> {
        match self {
            Self::Arrive { seat, .. }
            | Self::Claim { seat, .. }
            | Self::Find { seat, .. }
            | Self::Is { seat, .. } => Some(seat),
            Self::Renew { .. }
            | Self::Resign
            | Self::Own { .. }
            | Self::Disown { .. }
            | Self::Admits { .. }
            | Self::List { .. }
            | Self::Release { .. } => None,
        }
    }
}

/// What the store answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// These are there.
    Renewed {
        /// The instances.
        live: Vec<InstanceId>,
        /// Another number: the store may have forgotten what it was told last.
        store: u64,
    },
    /// A room's owner.
    Owner {
        /// The room.
        room: Room,
        /// Who.
        owner: InstanceId,
        /// Its epoch.
        epoch: Epoch,
        /// Whether there has been another one before, whose desks know more than the new one.
        was_owned: bool,
    },
    /// Whether there is room.
    Admits(Result<(), NotAdmitted>),
    /// Who is registered.
    Listed(Listed),
    /// Whether a worker may connect, and whether it has to prove a key.
    Arrived(Seat, Result<bool, NotAdmitted>),
    /// Whether the id is this connection's.
    Claimed(Seat, Result<Claimed, ClaimError>),
    /// Whether it is so still.
    Reclaimed(Seat, Result<Claimed, ClaimError>),
    /// Where the worker is.
    Found(Seat, Option<(Seat, Room)>),
    /// The instance of the connection has no lease, so that it may be taken for gone: it is asked again, later.
    NotLive,
    /// Done.
    Done,
}

/// Why an id is not a connection's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimError {
    /// It is bound to another key.
    OtherKey,
    /// Another connection has come since.
    Replaced,
}
