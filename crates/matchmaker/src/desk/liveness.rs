//! Half-open connections are found by ping.

use std::time::{Duration, Instant};

/// A ping that has been out for so long is overdue: the connection is not offered to anybody until it
/// answers. A reachable client answers within one round trip, so five seconds lie far above what a
/// slow mobile network takes and far below the time-out that ends the connection.
const OVERDUE_AFTER: Duration = Duration::from_secs(5);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// For the time of its next ping.
    Quiet {
        /// When to ping.
        ping_at: Instant,
    },
    /// For the answer to a ping that is out.
    Pinged {
        /// When the connection stops being offered.
        overdue_at: Instant,
        /// When the connection ends.
        gone_at: Instant,
    },
    /// For the answer to a ping that is overdue.
    Overdue {
        /// When the connection ends.
        gone_at: Instant,
    },
}

/// Why the machine wants to be called at its next time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// A connection is to be pinged.
    Ping,
    /// A connection's ping becomes overdue.
    PingOverdue,
    /// A connection's ping was never answered: the connection ends.
    PingTimeout,
    /// Two that were paired before may be paired again.
    Rematch,
    /// It is the turn of the next one that has called a worker from another room.
    CallerTurn,
    /// A connection's worker has not come back.
    SessionExpiry,
    /// The tokens of a session's relay are made anew.
    RelayRenewal,
    /// A connection has not proved its key in time: it ends.
    ProofTimeout,
    /// The lease, or something that is to be said to the store or another rendezvous again.
    Switch,
}

impl Liveness {
    pub(crate) fn quiet(now: Instant, interval: Duration) -> Self {
        Self::Quiet { ping_at: now + interval }
    }

    pub(crate) fn pinged(now: Instant, timeout: Duration) -> Self {
        Self::Pinged { overdue_at: now + timeout.min(OVERDUE_AFTER), gone_at: now + timeout }
    }

    /// The same, when as much time as `late` has passed in which nobody could have answered.
    pub(crate) fn later(self, late: Duration) -> Self {
        match self {
            Self::Quiet { ping_at } => Self::Quiet { ping_at },
            Self::Pinged { overdue_at, gone_at } => {
                Self::Pinged { overdue_at: overdue_at + late, gone_at: gone_at + late }
            }
            Self::Overdue { gone_at } => Self::Overdue { gone_at: gone_at + late },
        }
    }

    /// When this state ends by itself, and with what.
    pub(crate) fn deadline(self) -> (Instant, WakeReason) {
        match self {
            Self::Quiet { ping_at } => (ping_at, WakeReason::Ping),
            Self::Pinged { overdue_at, gone_at } if overdue_at < gone_at => {
                (overdue_at, WakeReason::PingOverdue)
            }
            Self::Pinged { gone_at, .. } | Self::Overdue { gone_at } => {
                (gone_at, WakeReason::PingTimeout)
            }
        }
    }
}
