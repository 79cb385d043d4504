//! How far away the own outermost NAT is: the smallest TTL that takes a packet through all NATs in front of the
//! worker. Only a NAT that an early packet disturbs makes this worth knowing.
//!
//! Each of a few fresh sockets sends packets with a TTL of its own to the server's other address, and then asks the
//! server to answer from there. A NAT with this filtering lets the answer in only where one of the packets has
//! passed it. Nobody's ICMP messages are needed, and a packet that goes too far arrives at a STUN server.
//! What is repeated is the question alone: an answer that was not let in has moved later packets to another port.

use holepunch_wire::stun::{TransactionId, binding_request};
use rand::RngExt;

use super::Profiler;
use super::exchange::Purpose;
use crate::doors::{SocketId, Transmit, Turn};

/// TTLs that are tried: with the first of them a packet passes one NAT, with the last one seven boxes, a carrier's
/// routers perhaps.
const TTL_FIRST: u8 = 2;
const TTL_LAST: u8 = 8;
/// Packets with each of them, before the answer is asked for: one may be lost.
const PACKETS: usize = 2;

/// The sockets that ask, and with which TTL.
#[derive(Debug, Default)]
pub(super) struct Openers {
    sockets: Vec<(SocketId, u8)>,
    /// How many sockets have not opened yet.
    pub(super) coming: u16,
}

impl Profiler {
    /// Begins the test, where there is something to be learnt by it, and it has not been made.
    pub(super) fn test_openers(&mut self) {
        if self.profile.remaps_after_inbound != Some(true) || self.openers.is_some() {
            return;
        }
        let coming = u16::from(TTL_LAST - TTL_FIRST + 1);
        self.sockets_wanted += coming;
        self.openers = Some(Openers { sockets: Vec::new(), coming });
    }

    /// Whether the test is under way.
    pub(super) fn tests_openers(&self) -> bool {
        let is_coming = self.openers.as_ref().is_some_and(|openers| openers.coming > 0);
        is_coming || self.is_out(&[Purpose::Opener])
    }

    /// A socket of the test has opened.
    pub(super) fn opener_opened(&mut self, socket: SocketId, (now, rng): Turn<'_>) {
        let (Some(server), Some(other), Some(openers)) =
            (self.server, self.other, &mut self.openers)
        else {
            return self.to_close.push(socket);
        };
        let ttl = openers.sockets.last().map_or(TTL_FIRST, |(_, ttl)| ttl + 1);
        openers.coming = openers.coming.saturating_sub(1);
        openers.sockets.push((socket, ttl));
        for _ in 0..PACKETS {
            let payload = binding_request(TransactionId::from(rng.random::<u128>()));
            self.transmits.push_back(Transmit { socket, to: other, payload, ttl: Some(ttl) });
        }
        self.ask(Purpose::Opener, socket, server, (now, rng));
    }

    /// An answer was let in on this socket.
    pub(super) fn opener_answered(&mut self, socket: SocketId) {
        let openers = self.openers.iter().flat_map(|openers| openers.sockets.iter());
        let ttl = openers.filter(|(known, _)| *known == socket).map(|(_, ttl)| *ttl).next();
        // That with the smallest TTL was sent first, but need not come first.
        self.profile.opener_ttl = self.profile.opener_ttl.into_iter().chain(ttl).min();
    }

    /// The sockets of the test, once it is over.
    pub(super) fn openers_over(&mut self) {
        let openers = self.openers.iter_mut().flat_map(|openers| openers.sockets.drain(..));
        self.to_close.extend(openers.map(|(socket, _)| socket));
    }

    /// The sockets that the test has open, for the invariants.
    #[cfg(debug_assertions)]
    pub(super) fn opener_sockets(&self) -> impl Iterator<Item = SocketId> {
        self.openers.iter().flat_map(|openers| openers.sockets.iter()).map(|(socket, _)| *socket)
    }
}
