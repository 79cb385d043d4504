//! Which datagrams are QUIC's, and which the traversal machine's.

use holepunch_wire::probe;
use noq::udp::RecvMeta;

use crate::quic::PAYLOAD_BYTES_MAX;

/// The version of QUIC that links speak (RFC 9000 §15).
const VERSION: [u8; 4] = [0, 0, 0, 1];

/// Whether a datagram is QUIC's: by its first byte (RFC 9443), and not by the prefix of a baseline
/// probe, which could also begin a short header. A long header of another version is not: links have no
/// other, and a stranger would be told which there are (RFC 9000 §6).
pub(crate) fn is_quic(datagram: &[u8]) -> bool {
    match datagram.first() {
        Some(0x80..) => datagram.get(1..5) == Some(&VERSION),
        // Short headers have the fixed bit, which is never greased here.
        Some(0x40..=0x7f) => !probe::looks_like_probe(datagram),
        Some(_) | None => false,
    }
}

/// Whether QUIC takes a datagram of this length: no peer is told to send longer ones.
pub(super) fn is_short_enough(bytes: usize) -> bool {
    bytes <= usize::from(PAYLOAD_BYTES_MAX)
}

/// Takes everything that is not QUIC's, or too long for it, out of a buffer of datagrams that came together (each of
/// `meta.stride` bytes, the last perhaps shorter), and moves the rest to its beginning. How many were too long.
pub(crate) fn split(buffer: &mut [u8], meta: &mut RecvMeta, mut other: impl FnMut(&[u8])) -> usize {
    let mut too_long = 0;
    let (length, stride) = (meta.len.min(buffer.len()), meta.stride.max(1));
    let mut kept = 0;
    let mut from = 0;
    while from < length {
        let to = (from + stride).min(length);
        if !is_quic(&buffer[from..to]) {
            other(&buffer[from..to]);
        } else if !is_short_enough(to - from) {
            too_long += 1;
        } else {
            if kept != from {
                buffer.copy_within(from..to, kept);
            }
            kept += to - from;
        }
        from = to;
    }
    meta.len = kept;
    too_long
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_all(datagrams: &[&[u8]], stride: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut buffer = datagrams.concat();
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (buffer.len(), stride);
        let mut other = Vec::new();
        split(&mut buffer, &mut meta, |datagram| other.push(datagram.to_vec()));
        buffer.truncate(meta.len);
        (buffer, other)
    }

    #[test]
    fn every_segment_is_looked_at_and_not_the_first_alone() {
        let (quic, stun) = ([0x41; 20], [0x00; 20]);
        let mut long = [0xc1; 20];
        long[1..5].copy_from_slice(&VERSION);
        let (kept, other) = split_all(&[&quic, &stun, &long, &stun[..8]], 20);
        assert_eq!(kept, [quic, long].concat());
        assert_eq!(other, [stun.to_vec(), stun[..8].to_vec()]);
        let (kept, other) = split_all(&[&stun, &quic, &quic[..5]], 20);
        assert_eq!((kept.len(), other.len()), (25, 1));
    }

    #[test]
    fn datagrams_that_are_longer_than_advertised_are_left_out_and_counted() {
        let longest = usize::from(PAYLOAD_BYTES_MAX);
        let split_of = |length: usize, stride: usize| {
            let (mut buffer, mut meta) = (vec![0x41; length], RecvMeta::default());
            (meta.len, meta.stride) = (length, stride);
            let too_long = split(&mut buffer, &mut meta, |_| {});
            (meta.len, too_long)
        };
        assert_eq!(split_of(3 * longest, longest), (3 * longest, 0));
        assert_eq!(split_of(longest + 1, longest + 1), (0, 1));
        assert_eq!(split_of(2 * 9000 + 100, 9000), (100, 2));
    }

    #[test]
    fn a_probe_of_the_baseline_is_not_mistaken_for_a_short_header() {
        assert!(!is_quic(b"P2P_PING_FROM_a_TO_b_1"));
        assert!(!is_quic(b"P2P_PONG_FROM_a_TO_b_1"));
        assert!(is_quic(b"P2P_PINGxFROM"));
        assert!(!is_quic(b"") && !is_quic(&[0x16, 0xfe]));
    }

    #[test]
    fn a_long_header_of_another_version_is_not_ours() {
        assert!(is_quic(&[0xc0, 0, 0, 0, 1, 8]));
        for other in [&[0xc0, 0, 0, 0, 0, 8][..], &[0xc0, 0x6b, 0x33, 0x43, 0xcf, 8], &[0xc0, 0, 0]]
        {
            assert!(!is_quic(other), "{other:02x?}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_do_no_harm() {
        let mut buffer = [0x41; 10];
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (50, 0);
        split(&mut buffer, &mut meta, |_| {});
        assert_eq!(meta.len, 10);
    }
}
