//! Handshakes that go on by another route.
//!
//! The side that connects is through with its handshake when it has sent its last flight. Where that is lost
//! because the direct path is cut at that moment, it makes a [detour](super::exchange) by the relay, and
//! sends the flight again there. But a server takes the packets of a handshake from one address only
//! (RFC 9000 §9). They bear the connection id that this side has chosen for itself (§7.2): by that it is
//! known that they belong to the other route, and the two routes are exchanged on this side too.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::relay::datagrams;

use super::{Mux, write};

/// Connection ids that are remembered; the oldest are forgotten.
const SHOWN_MAX: usize = 256;
/// Longer than a handshake may take.
const SHOWN_FOR: Duration = Duration::from_secs(15);
/// Of a connection id (RFC 9000 §17.2).
const ID_BYTES_MAX: usize = 20;

#[derive(Debug)]
struct Shown {
    id: Vec<u8>,
    label: SocketAddr,
    at: Instant,
}

/// The connection ids that the own side has chosen for itself, and where it has sent them, newest last.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    shown: VecDeque<Shown>,
}

impl Handshakes {
    /// A packet is sent to where this label leads.
    pub(super) fn sent(&mut self, packet: &[u8], label: SocketAddr, now: Instant) {
        let Some((_, id)) = connection_ids(packet) else { return };
        if id.is_empty() {
            return;
        }
        self.shown.retain(|shown| shown.id != id && now < shown.at + SHOWN_FOR);
        if self.shown.len() == SHOWN_MAX {
            self.shown.pop_front();
        }
        self.shown.push_back(Shown { id: id.to_vec(), label, at: now });
    }

    /// A packet has come by where this label leads. If it belongs to a handshake by another one, that: it is
    /// told once.
    pub(super) fn moved(
        &mut self,
        packet: &[u8],
        label: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let (id, _) = connection_ids(packet).filter(|_| is_handshake(packet))?;
        let is = |shown: &Shown| shown.id == id && now < shown.at + SHOWN_FOR;
        let at = self.shown.iter().position(is)?;
        if self.shown.get(at)?.label == label {
            return None;
        }
        self.shown.remove(at).map(|shown| shown.label)
    }
}

impl Mux {
    /// QUIC sends a datagram.
    pub(super) fn note_sent(&self, datagram: &[u8], label: SocketAddr) {
        if is_long(datagram) {
            write(&self.handshakes).sent(datagram, label, Instant::now());
        }
    }

    /// A frame has come by a relay: a handshake that its peer goes on with there goes on there.
    pub(super) fn follow_handshakes(&self, own: SocketAddr, frame: &[u8]) {
        // Nearly no frame has one; and a relay that stands for another route already is not made to stand for many.
        if !datagrams(frame).any(is_handshake) || self.named(own) != own {
            return;
        }
        let (mut handshakes, now) = (write(&self.handshakes), Instant::now());
        let moved = datagrams(frame).find_map(|it| handshakes.moved(it, own, now));
        if let Some(moved) = moved {
            let _unless_there_are_too_many = self.exchange_own([self.own_of(moved), own]);
        }
    }
}

/// Whether a packet has a long header (RFC 9000 §17.2).
fn is_long(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 6 == 0b11)
}

/// Whether it is one of a handshake, behind the Initial ones (RFC 9000 §17.2.4).
fn is_handshake(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 0b1110)
}

/// To and from which connection id a packet with a long header is.
fn connection_ids(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_first_and_version, rest) = packet.split_at_checked(5).filter(|_| is_long(packet))?;
    let (to, rest) = connection_id(rest)?;
    let (from, _) = connection_id(rest)?;
    Some((to, from))
}

fn connection_id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    rest.split_at_checked(length).filter(|_| length <= ID_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: u8 = 0xc3;
    const HANDSHAKE: u8 = 0xe1;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn packet(first: u8, to: &[u8], from: &[u8]) -> Vec<u8> {
        let length = |id: &[u8]| u8::try_from(id.len()).unwrap();
        [&[first, 0, 0, 0, 1, length(to)], to, &[length(from)], from, &[7; 30]].concat()
    }

    #[test]
    fn the_last_flight_by_another_route_tells_which_one_it_belongs_to() {
        let (now, mut handshakes) = (Instant::now(), Handshakes::default());
        handshakes.sent(&packet(INITIAL, b"theirs", b"own"), at(1), now);
        let flight = packet(HANDSHAKE, b"own", b"theirs");
        assert_eq!(handshakes.moved(&flight, at(1), now), None, "it comes where it should");
        assert_eq!(handshakes.moved(&packet(HANDSHAKE, b"none", b""), at(2), now), None);
        let initial = packet(INITIAL, b"own", b"theirs");
        assert_eq!(handshakes.moved(&initial, at(2), now), None, "nobody is known to be there yet");
        assert_eq!(handshakes.moved(&flight, at(2), now), Some(at(1)));
        assert_eq!(handshakes.moved(&flight, at(2), now), None, "once is enough");
    }

    #[test]
    fn handshakes_are_forgotten_in_time_and_when_there_are_many() {
        let (now, mut handshakes) = (Instant::now(), Handshakes::default());
        for number in 0..=u16::try_from(SHOWN_MAX).unwrap() {
            let own = number.to_be_bytes();
            handshakes.sent(&packet(HANDSHAKE, b"", &own), at(1), now);
            handshakes.sent(&packet(HANDSHAKE, b"", &own), at(1), now);
        }
        assert_eq!(handshakes.shown.len(), SHOWN_MAX);
        let flight = |number: u16| packet(HANDSHAKE, &number.to_be_bytes(), b"");
        assert_eq!(handshakes.moved(&flight(0), at(2), now), None);
        assert_eq!(handshakes.moved(&flight(1), at(2), now), Some(at(1)));
        let late = now + SHOWN_FOR;
        assert_eq!(handshakes.moved(&flight(2), at(2), late), None);
    }

    #[test]
    fn what_is_not_a_long_header_is_nothing() {
        let (now, mut handshakes) = (Instant::now(), Handshakes::default());
        let whole = packet(HANDSHAKE, &[1; ID_BYTES_MAX], b"own");
        for length in 0..BEHIND_THE_IDS {
            handshakes.sent(&whole[..length], at(1), now);
            assert_eq!(handshakes.moved(&whole[..length], at(2), now), None);
        }
        handshakes.sent(&packet(0x43, b"", b"own"), at(1), now);
        handshakes.sent(&packet(HANDSHAKE, &[1; ID_BYTES_MAX + 1], b"own"), at(1), now);
        assert!(handshakes.shown.is_empty());
        handshakes.sent(&whole[..BEHIND_THE_IDS], at(1), now);
        assert_eq!(handshakes.shown.len(), 1);
    }

    const BEHIND_THE_IDS: usize = 5 + 1 + ID_BYTES_MAX + 1 + 3;
}
