//! What was dropped between the sockets, the relays, QUIC and the traversal machine, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Datagrams that were lost inside of this worker, or that its system refused, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketDrops {
    /// From QUIC to a relay that took nothing for too long.
    pub relay_stuck: u64,
    /// From QUIC to a relay, and longer than that takes.
    pub relay_too_long: u64,
    /// From QUIC to a route, relay or socket that is gone.
    pub no_route: u64,
    /// From QUIC, and refused by the system: longer than the path takes, or nowhere to go.
    pub send_refused: u64,
    /// From a socket to the traversal machine, which was too far behind.
    pub machine_busy: u64,
    /// From a socket or a relay to QUIC, which was too far behind with all or with one link.
    pub quic_busy: u64,
    /// From a socket or a relay to QUIC, and longer than peers are told to send.
    pub quic_too_long: u64,
    /// From a socket to QUIC, and from where no peer is.
    pub unknown_sender: u64,
}

/// Why datagrams were dropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Drop {
    RelayStuck,
    RelayTooLong,
    NoRoute,
    SendRefused,
    MachineBusy,
    QuicBusy,
    QuicTooLong,
    UnknownSender,
}

/// The counts so far.
#[derive(Debug, Default)]
pub(super) struct Drops([AtomicU64; Drop::UnknownSender as usize + 1]);

impl Drops {
    pub(super) fn count(&self, why: Drop, datagrams: usize) {
        let datagrams = u64::try_from(datagrams).unwrap_or(u64::MAX);
        self.0[why as usize].fetch_add(datagrams, Ordering::Relaxed);
    }

    pub(super) fn so_far(&self) -> PacketDrops {
        let of = |why: Drop| self.0[why as usize].load(Ordering::Relaxed);
        PacketDrops {
            relay_stuck: of(Drop::RelayStuck),
            relay_too_long: of(Drop::RelayTooLong),
            no_route: of(Drop::NoRoute),
            send_refused: of(Drop::SendRefused),
            machine_busy: of(Drop::MachineBusy),
            quic_busy: of(Drop::QuicBusy),
            quic_too_long: of(Drop::QuicTooLong),
            unknown_sender: of(Drop::UnknownSender),
        }
    }
}

/// Datagrams in a batch.
pub(super) fn datagrams(bytes: usize, segment: Option<usize>) -> usize {
    bytes.div_ceil(segment.unwrap_or(bytes).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let drops = Drops::default();
        drops.count(Drop::RelayStuck, 2);
        drops.count(Drop::UnknownSender, datagrams(2500, Some(1200)));
        let expected = PacketDrops { relay_stuck: 2, unknown_sender: 3, ..PacketDrops::default() };
        assert_eq!(drops.so_far(), expected);
        assert_eq!((datagrams(0, None), datagrams(7, None), datagrams(7, Some(0))), (1, 1, 7));
    }
}
