//! Why datagrams of the relay go nowhere, and how many.

use crate::metrics::ByWord;

/// Why a datagram of the relay goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayDrop {
    /// It is none that a worker sends.
    Malformed,
    /// Its sender has not proved its address, or too long ago.
    Unproved,
    /// Its sender has no token of that session that is still good.
    Token,
    /// No such channel is at the address that it comes from.
    Unknown,
    /// An address that has proved nothing has been answered enough.
    Unanswered,
    /// The rate of the session, of the address or of all is used up for now.
    OverRate,
    /// The quota is used up: the channel is closed.
    OverQuota,
    /// The other end's WebSocket takes no more for now.
    PeerBusy,
    /// The kernel does not take it: too long for the path, or too much at once.
    NotSent,
}

impl RelayDrop {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Unproved,
        Self::Token,
        Self::Unknown,
        Self::Unanswered,
        Self::OverRate,
        Self::OverQuota,
        Self::PeerBusy,
        Self::NotSent,
    ];

    /// Its name in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unproved => "unproved",
            Self::Token => "token",
            Self::Unknown => "unknown_channel",
            Self::Unanswered => "unanswered",
            Self::OverRate => "over_rate",
            Self::OverQuota => "over_quota",
            Self::PeerBusy => "peer_busy",
            Self::NotSent => "not_sent",
        }
    }
}

/// How many of each.
#[derive(Debug, Clone)]
pub(crate) struct Drops(ByWord);

impl Default for Drops {
    fn default() -> Self {
        Self(ByWord::new("reason", RelayDrop::ALL.map(RelayDrop::name)))
    }
}

impl Drops {
    pub(in crate::relay) fn count(&self, why: RelayDrop, datagrams: usize) {
        self.0.add(why as usize, datagrams as u64);
    }

    pub(in crate::relay) fn all(&self) -> Vec<(RelayDrop, u64)> {
        RelayDrop::ALL.into_iter().zip(self.0.counts()).collect()
    }

    /// What is registered.
    pub(crate) fn words(&self) -> &ByWord {
        &self.0
    }
}
