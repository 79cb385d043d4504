//! One end of a session at one address.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use holepunch_wire::relay;
use holepunch_wire::relay::udp::{
    self, Channel as Number, Echo, HEADER_BYTES, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_SAFE,
};
use noq_udp::Transmit;

use super::super::Pair;
use super::super::budget::Payer;
use super::RelayDrop;
use crate::stun::Socket;

/// Where a worker is, and by which socket it is reached. The sockets end with the server, and not with the last channel.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) sockets: Weak<[Socket]>,
    pub(super) own: usize,
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
}

#[derive(Debug)]
pub(in crate::relay) struct Channel {
    pub(super) number: Number,
    pub(super) payer: Payer,
    pub(super) own: usize,
    pub(super) pair: Arc<Pair>,
    pub(super) place: Place,
    pub(super) echo: Echo,
    opened_at: Instant,
    /// In milliseconds since it was opened.
    heard_ms: AtomicU64,
    slow_until_ms: AtomicU64,
    /// Longest datagram of a link that has come there.
    proved_bytes: AtomicUsize,
    /// What has come by it and was handed on.
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Channel {
    pub(super) fn new(
        number: Number,
        payer: Payer,
        own: usize,
        pair: Arc<Pair>,
        place: Place,
        echo: Echo,
        now: Instant,
    ) -> Self {
        Self {
            number,
            payer,
            own,
            pair,
            place,
            echo,
            opened_at: now,
            heard_ms: AtomicU64::new(0),
            slow_until_ms: AtomicU64::new(0),
            proved_bytes: AtomicUsize::new(PAYLOAD_BYTES_SAFE),
            datagrams: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Whether it was opened by this question, from there.
    pub(super) fn is(&self, echo: Echo, address: SocketAddr) -> bool {
        self.echo == echo && self.place.to == address
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.opened_at).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    pub(super) fn heard(&self, now: Instant) {
        self.heard_ms.store(self.ms(now), Ordering::Relaxed);
    }

    pub(super) fn is_silent_for(&self, time: Duration, now: Instant) -> bool {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.opened_at) >= heard + time
    }

    /// Its rate is used up until then: what comes before is dropped, where a WebSocket would not be read from.
    pub(super) fn slow_down(&self, until: Instant) {
        self.slow_until_ms.store(self.ms(until), Ordering::Relaxed);
    }

    pub(super) fn is_slowed(&self, now: Instant) -> bool {
        self.slow_until_ms.load(Ordering::Relaxed) > self.ms(now)
    }

    pub(super) fn carried(&self, datagrams: usize, bytes: usize) {
        self.datagrams.fetch_add(datagrams as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many datagrams have come by it and were handed on, and how many bytes.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.datagrams.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Its worker says that datagrams of this length come there.
    pub(super) fn proved(&self, bytes: usize) {
        let bytes = bytes.clamp(PAYLOAD_BYTES_SAFE, PAYLOAD_BYTES_MAX);
        self.proved_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(in crate::relay) fn takes(&self, payload_bytes: usize) -> bool {
        payload_bytes <= self.proved_bytes.load(Ordering::Relaxed)
    }

    /// Sends datagrams of `stride` bytes, each behind another channel's header, on as its own.
    pub(super) fn send_in_place(&self, run: &mut [u8], stride: usize) -> Result<(), RelayDrop> {
        let header = udp::data_header(self.number);
        for datagram in run.chunks_mut(stride) {
            let (head, _) = datagram.split_at_mut(HEADER_BYTES.min(datagram.len()));
            head.copy_from_slice(&header[..head.len()]);
        }
        self.send(run, Some(stride))
    }

    /// Sends the datagrams of a WebSocket's frame; `false` where one is longer than is proved to come there.
    pub(in crate::relay) fn send_frame(&self, frame: &[u8]) -> bool {
        if !relay::datagrams(frame).all(|datagram| self.takes(datagram.len())) {
            return false;
        }
        let header = udp::data_header(self.number);
        let mut run = Vec::with_capacity(frame.len() + frame.len() / 32);
        let mut stride = 0;
        for datagram in relay::datagrams(frame) {
            let bytes = HEADER_BYTES + datagram.len();
            // A run goes on with datagrams of its length; a shorter one is its last.
            let goes_on = bytes <= stride && run.len() % stride.max(1) == 0;
            if !goes_on {
                let _best_effort = self.send(&run, Some(stride));
                run.clear();
                stride = bytes;
            }
            run.extend_from_slice(&header);
            run.extend_from_slice(datagram);
        }
        let _best_effort = self.send(&run, Some(stride));
        true
    }

    /// Sends one datagram, or those of `stride` bytes each, the last perhaps shorter.
    pub(super) fn send(&self, bytes: &[u8], stride: Option<usize>) -> Result<(), RelayDrop> {
        let Place { sockets, own, to, from } = &self.place;
        let sockets = sockets.upgrade().ok_or(RelayDrop::NotSent)?;
        let socket = &sockets[*own];
        let stride = stride.unwrap_or(bytes.len()).max(1);
        for contents in bytes.chunks(socket.run_max(stride) * stride) {
            let segment_size = (contents.len() > stride).then_some(stride);
            let transmit =
                Transmit { destination: *to, ecn: None, contents, segment_size, src_ip: *from };
            socket.send(&transmit).map_err(|_| RelayDrop::NotSent)?;
        }
        Ok(())
    }
}
