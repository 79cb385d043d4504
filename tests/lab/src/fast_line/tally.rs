//! What one direction of a line has done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A packet that arrives later than this behind its time counts as late.
pub(super) const LATE: Duration = Duration::from_millis(1);
/// Protocol numbers of IP.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Packets, and bytes with their IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneCounts {
    /// Packets that came to the line.
    pub offered: u64,
    /// Packets that have arrived at the other end.
    pub passed: u64,
    /// Bytes that have arrived.
    pub passed_bytes: u64,
    /// Of these, bytes of TCP.
    pub tcp_bytes: u64,
    /// Of these, bytes of UDP.
    pub udp_bytes: u64,
    /// Packets lost on the line, as they are to be.
    pub lost: u64,
    /// Packets for which the queue had no room.
    pub queue_dropped: u64,
    /// Packets beyond the limit of those under way, or that a device does not take: nothing that the line was told
    /// to do, so a measurement with such packets means nothing.
    pub failed: u64,
    /// Packets that arrived more than 1 ms behind their time, since this machine was busy.
    pub late: u64,
    /// The longest time by which one was late, in microseconds.
    pub latest_us: u64,
}

/// A packet that has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    bytes: u64,
    protocol: Option<u8>,
    /// So long behind its time.
    behind: Duration,
}

impl Arrived {
    pub(super) fn new(packet: &[u8], behind: Duration) -> Self {
        Self { bytes: packet.len() as u64, protocol: protocol(packet), behind }
    }
}

/// The counters of a direction; one thread writes, another one reads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    offered: AtomicU64,
    passed: AtomicU64,
    passed_bytes: AtomicU64,
    tcp_bytes: AtomicU64,
    udp_bytes: AtomicU64,
    lost: AtomicU64,
    queue_dropped: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
    latest_us: AtomicU64,
}

impl Tally {
    pub(super) fn offered(&self) {
        add(&self.offered, 1);
    }

    pub(super) fn lost(&self) {
        add(&self.lost, 1);
    }

    pub(super) fn queue_dropped(&self) {
        add(&self.queue_dropped, 1);
    }

    pub(super) fn failed(&self) {
        add(&self.failed, 1);
    }

    pub(super) fn passed(&self, arrived: &Arrived) {
        let Arrived { bytes, protocol, behind } = *arrived;
        add(&self.passed, 1);
        add(&self.passed_bytes, bytes);
        match protocol {
            Some(TCP) => add(&self.tcp_bytes, bytes),
            Some(UDP) => add(&self.udp_bytes, bytes),
            Some(_) | None => {}
        }
        if behind > LATE {
            add(&self.late, 1);
        }
        let behind_us = u64::try_from(behind.as_micros()).unwrap_or(u64::MAX);
        self.latest_us.fetch_max(behind_us, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> LaneCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LaneCounts {
            offered: read(&self.offered),
            passed: read(&self.passed),
            passed_bytes: read(&self.passed_bytes),
            tcp_bytes: read(&self.tcp_bytes),
            udp_bytes: read(&self.udp_bytes),
            lost: read(&self.lost),
            queue_dropped: read(&self.queue_dropped),
            failed: read(&self.failed),
            late: read(&self.late),
            latest_us: read(&self.latest_us),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The protocol of an IPv4 packet; the laboratory's lines carry no IPv6 that counts.
fn protocol(packet: &[u8]) -> Option<u8> {
    let is_v4 = packet.first()? >> 4 == 4;
    packet.get(9).copied().filter(|_| is_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_counted_by_protocol_and_lateness() {
        let tally = Tally::default();
        let packet = |first: u8, protocol: u8| {
            let mut packet = vec![0; 100];
            (packet[0], packet[9]) = (first, protocol);
            packet
        };
        let on_time = Duration::from_micros(300);
        for _ in 0..2 {
            tally.passed(&Arrived::new(&packet(0x45, TCP), on_time));
        }
        tally.passed(&Arrived::new(&packet(0x45, UDP), 2 * LATE));
        tally.passed(&Arrived::new(&packet(0x60, UDP), on_time));
        tally.passed(&Arrived::new(&[], on_time));
        let counts = tally.counts();
        assert_eq!((counts.passed, counts.passed_bytes), (5, 400));
        assert_eq!((counts.tcp_bytes, counts.udp_bytes), (200, 100));
        assert_eq!((counts.late, counts.latest_us), (1, 2000));
    }
}
