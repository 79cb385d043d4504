//! Sessions: two workers of the sub-protocol that were offered each other.

use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::RelayToken;

use crate::doors::ConnectionId;
use crate::queue::Place;

/// A session whose worker has lost its connection waits so long for it to come back.
pub(crate) const RESUME_WITHIN: Duration = Duration::from_secs(30);
/// Two whose session came to nothing are not offered each other again before this.
pub(crate) const REMATCH_AFTER: Duration = Duration::from_secs(5);
/// Sessions of one worker.
pub(crate) const SESSIONS_PER_WORKER_MAX: usize = 64;
/// Plans of one session: a profile that becomes better, and strategies that fail, need a handful.
pub(crate) const PLANS_MAX: u32 = 32;
/// Workers in a room where everyone is offered everyone.
pub(crate) const MESH_WORKERS_MAX: usize = 32;

/// One of the two.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) connection: ConnectionId,
    pub(crate) worker: WorkerId,
    /// From which place in the queue it came.
    pub(crate) place: Option<Place>,
    /// Whether it says that the path is direct.
    pub(crate) direct: bool,
    /// Whether it says that the relay serves.
    pub(crate) relayed: bool,
    /// The token with which it takes the session to another connection.
    pub(crate) resume: String,
    /// Until when its connection may come back, where it is gone.
    pub(crate) gone_until: Option<Instant>,
}

/// Two workers that were offered each other.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) ends: [End; 2],
    pub(crate) number: u32,
    pub(crate) plans: [Plan; 2],
    /// Whether checks to every address of the peer have been in vain.
    pub(crate) plain_failed: bool,
    /// The last plan whose search each of the two was ready for.
    pub(crate) accepted: [Option<u32>; 2],
    /// What opens the relay for each of the two, where they have one.
    pub(crate) relay: Option<[RelayToken; 2]>,
}

impl Session {
    pub(crate) fn new(ends: [End; 2], plans: [Plan; 2], relay: Option<[RelayToken; 2]>) -> Self {
        Self { ends, number: 1, plans, plain_failed: false, accepted: [None; 2], relay }
    }

    /// Whether the search of the current plan has been made.
    pub(crate) fn has_searched(&self) -> bool {
        self.accepted == [Some(self.number); 2]
    }

    /// Which of the two a connection is.
    pub(crate) fn index(&self, connection: ConnectionId) -> Option<usize> {
        self.ends.iter().position(|end| end.connection == connection)
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.ends.iter().any(|end| end.direct)
    }

    /// Whether the two talk, directly or through the relay: such a session waits for a worker that has
    /// lost its connection.
    pub(crate) fn is_linked(&self) -> bool {
        self.ends.iter().any(|end| end.direct || end.relayed)
    }
}
