//! One question of the profiler to a STUN server, with its few repetitions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::stun::{ChangeRequest, RequestOptions, TransactionId, binding_request_with};

use crate::doors::{SocketId, Transmit};
use crate::schedule;

/// When a question is asked, after the first time. The profile is to be known within a second, so
/// these are closer together than the retransmissions of RFC 8489.
const ASKED_AT: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(150), Duration::from_millis(350)];
/// An answer to the last may take so long, or two round trips.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is to be learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The mapping of the own socket toward another destination.
    Map,
    /// The mapping of a fresh socket.
    FreshMap,
    /// Whether an answer from another address and port gets in.
    OtherAddress,
    /// Whether an answer from another port gets in.
    OtherPort,
    /// The mapping toward an address whose packet was not let in.
    AfterInbound,
    /// Whether a packet with a small TTL has opened the NATs for an answer from another address and port.
    Opener,
    /// Whether a packet to the own external endpoint comes back.
    Hairpin,
    /// Whether a port is used twice.
    Reuse,
}

impl Purpose {
    fn change(self) -> ChangeRequest {
        match self {
            Self::OtherAddress | Self::Opener => ChangeRequest { ip: true, port: true },
            Self::OtherPort => ChangeRequest { ip: false, port: true },
            Self::Map | Self::FreshMap | Self::AfterInbound | Self::Hairpin | Self::Reuse => {
                ChangeRequest::default()
            }
        }
    }

    fn repetitions(self) -> usize {
        match self {
            // A lost sample is one of many.
            Self::Reuse => 1,
            Self::Opener => 2,
            Self::Hairpin => 2,
            Self::Map
            | Self::FreshMap
            | Self::OtherAddress
            | Self::OtherPort
            | Self::AfterInbound => ASKED_AT.len(),
        }
    }
}

/// A question that has not been answered yet.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) purpose: Purpose,
    pub(super) transaction: TransactionId,
    pub(super) socket: SocketId,
    pub(super) to: SocketAddr,
    /// Its place among the samples: the order in which mappings were made.
    pub(super) order: u32,
    started: Instant,
    asked: usize,
    pub(super) next_at: Instant,
    patience: Duration,
}

impl Exchange {
    pub(super) fn new(
        purpose: Purpose,
        transaction: TransactionId,
        (socket, to): (SocketId, SocketAddr),
        order: u32,
        rtt: Duration,
        now: Instant,
    ) -> Self {
        let patience = PATIENCE.max(rtt * 2);
        Self {
            purpose,
            transaction,
            socket,
            to,
            order,
            started: now,
            asked: 0,
            next_at: now,
            patience,
        }
    }

    /// Asks again where it is time; `Err` when there has been time enough.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<Option<Transmit>, ()> {
        if self.next_at > now {
            return Ok(None);
        }
        if self.asked >= self.purpose.repetitions() {
            return Err(());
        }
        self.asked += 1;
        let next = ASKED_AT.get(self.asked).filter(|_| self.asked < self.purpose.repetitions());
        self.next_at =
            next.map_or(now + self.patience, |after| schedule::apart(self.started + *after, now));
        let options = RequestOptions { change: self.purpose.change(), ..RequestOptions::default() };
        let payload = binding_request_with(self.transaction, &options);
        Ok(Some(Transmit { socket: self.socket, to: self.to, payload, ttl: None }))
    }
}
