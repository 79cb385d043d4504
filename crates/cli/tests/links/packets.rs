//! The QUIC packets of a datagram, as far as anybody on the way can see them (RFC 9000 §17.2, §17.3).

/// Which kind, and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    Initial(usize),
    Handshake(usize),
    /// 0-RTT and Retry.
    OtherLong(usize),
    /// Of one that is through with its handshake.
    Short(usize),
}

/// All of them; none where the datagram is not QUIC's.
pub(crate) fn packets(datagram: &[u8]) -> Vec<Packet> {
    let (mut rest, mut packets) = (datagram, Vec::new());
    while let Some(first) = rest.first() {
        let (length, packet): (usize, fn(usize) -> Packet) = match first >> 4 {
            4..=7 => (rest.len(), Packet::Short),
            0xc => (long_length(rest, true), Packet::Initial),
            0xe => (long_length(rest, false), Packet::Handshake),
            0xd | 0xf => (rest.len(), Packet::OtherLong),
            _ => break,
        };
        packets.push(packet(length));
        rest = &rest[length.min(rest.len())..];
    }
    packets
}

fn long_length(packet: &[u8], has_token: bool) -> usize {
    let connection_id = |at: usize| at + 1 + usize::from(packet[at]);
    let mut at = connection_id(connection_id(5));
    if has_token {
        let (token, behind) = variable(packet, at);
        at = behind + token;
    }
    let (length, behind) = variable(packet, at);
    behind + length
}

/// A variable-length integer (RFC 9000 §16), and what is behind it.
fn variable(packet: &[u8], at: usize) -> (usize, usize) {
    let bytes = 1 << (packet[at] >> 6);
    let number =
        packet[at..at + bytes].iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    (number & ((1 << (8 * bytes - 2)) - 1), at + bytes)
}
