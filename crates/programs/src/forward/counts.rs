//! What has been forwarded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Serialize;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes of one connection to the peer, which count once it is made: they follow the request at once.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    counts: &'a Counts,
    is_made: AtomicBool,
    before: AtomicU64,
}

impl<'a> Sent<'a> {
    /// Of a connection that is asked for.
    pub(super) fn before(counts: &'a Counts) -> Self {
        Self { counts, is_made: AtomicBool::new(false), before: AtomicU64::new(0) }
    }

    /// The connection is made.
    pub(super) fn made(&self) {
        self.is_made.store(true, Ordering::Relaxed);
        self.counts.sent_bytes.add(self.before.swap(0, Ordering::Relaxed));
    }

    pub(super) fn add(&self, bytes: usize) {
        if self.is_made.load(Ordering::Relaxed) {
            self.counts.sent_bytes.add(bytes as u64);
        } else {
            self.before.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// The counts of a running program, for whoever wants to know them before its end, too.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) opened: Count,
    pub(super) served: Count,
    pub(super) turned_away: Count,
    pub(super) without_link: Count,
    pub(super) refused_by_peer: Count,
    pub(super) forbidden: Count,
    pub(super) busy: Count,
    pub(super) malformed: Count,
    pub(super) failed: Count,
    pub(super) broken: Count,
    pub(super) udp_opened: Count,
    pub(super) udp_served: Count,
    pub(super) udp_sent: Count,
    pub(super) udp_received: Count,
    pub(super) udp_dropped: Count,
    pub(super) sent_bytes: Count,
    pub(super) received_bytes: Count,
}

/// What has been forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Connections made through the peer.
    pub opened: u64,
    /// Connections made for the peer.
    pub served: u64,
    /// Connections of programs here beyond the limit.
    pub turned_away: u64,
    /// Connections of programs here that came while there was no link.
    pub without_link: u64,
    /// Connections that the peer refused or could not make.
    pub refused_by_peer: u64,
    /// Requests of the peer's for what it may not reach.
    pub forbidden: u64,
    /// Streams of the peer's beyond the limit.
    pub busy: u64,
    /// Streams of the peer's that began with no request, or with none in time.
    pub malformed: u64,
    /// Requests of the peer's that came to nothing: no such name, nothing that listens, no answer.
    pub failed: u64,
    /// Connections that were reset, or lost with the link.
    pub broken: u64,
    /// UDP flows made through the peer.
    pub udp_opened: u64,
    /// UDP flows made for the peer.
    pub udp_served: u64,
    /// UDP datagrams sent to the peer.
    pub udp_sent: u64,
    /// UDP datagrams of the peer's that were passed on.
    pub udp_received: u64,
    /// UDP datagrams that this side has dropped: there was no link or no flow, too much waited, or pieces were missing.
    pub udp_dropped: u64,
    /// Bytes of connections and of UDP sent to the peer.
    pub sent_bytes: u64,
    /// Bytes of connections and of UDP that came from the peer.
    pub received_bytes: u64,
}

impl Counts {
    /// What has been forwarded so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            opened: self.opened.get(),
            served: self.served.get(),
            turned_away: self.turned_away.get(),
            without_link: self.without_link.get(),
            refused_by_peer: self.refused_by_peer.get(),
            forbidden: self.forbidden.get(),
            busy: self.busy.get(),
            malformed: self.malformed.get(),
            failed: self.failed.get(),
            broken: self.broken.get(),
            udp_opened: self.udp_opened.get(),
            udp_served: self.udp_served.get(),
            udp_sent: self.udp_sent.get(),
            udp_received: self.udp_received.get(),
            udp_dropped: self.udp_dropped.get(),
            sent_bytes: self.sent_bytes.get(),
            received_bytes: self.received_bytes.get(),
        }
    }
}
