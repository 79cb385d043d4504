//! An IPv4 packet, a UDP datagram in it, and what a router changes in them.

use std::net::{Ipv4Addr, SocketAddrV4};

const IPV4: u8 = 4;
const UDP: u8 = 17;
/// Octets of an IPv4 header without options, and of a UDP header.
const IP_HEADER_MIN: usize = 20;
const UDP_HEADER: usize = 8;
/// The bits of the fragment field that are set in a fragment: more fragments follow, or the offset.
const FRAGMENT: u16 = 0x3FFF;
/// Where things are in the IPv4 header.
const TOTAL_LENGTH: usize = 2;
const FLAGS: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const HEADER_CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;
/// Where the checksum is in the UDP header.
const UDP_CHECKSUM: usize = 6;

/// Why octets are no packet that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Malformed {
    #[error("expected {expected} octets, got {got}")]
    Short { expected: usize, got: usize },
    #[error("expected IP version 4, got {0}")]
    Version(u8),
    #[error("expected a header of 20 octets or more, got {0}")]
    Header(usize),
    #[error("expected protocol 17, got {0}")]
    Protocol(u8),
    #[error("expected a whole packet, got a fragment")]
    Fragment,
}

/// A packet of IPv4.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    bytes: &'a mut [u8],
    /// Octets of the header.
    header: usize,
}

impl<'a> Packet<'a> {
    /// Octets after the packet's own length are left away.
    pub(super) fn parse(bytes: &'a mut [u8]) -> Result<Self, Malformed> {
        let got = bytes.len();
        enough(IP_HEADER_MIN, got)?;
        let version = bytes[0] >> 4;
        if version != IPV4 {
            return Err(Malformed::Version(version));
        }
        let header = usize::from(bytes[0] & 0xF) * 4;
        if header < IP_HEADER_MIN {
            return Err(Malformed::Header(header));
        }
        let total = usize::from(word(bytes, TOTAL_LENGTH)).max(header);
        enough(total, got)?;
        Ok(Self { bytes: &mut bytes[..total], header })
    }

    pub(super) fn is_udp(&self) -> bool {
        self.bytes[PROTOCOL] == UDP
    }

    /// Adds one to the time to live. The kernel takes one on the way to this program and another one
    /// on the way from it, and both are one router.
    pub(super) fn restore_hop(&mut self) {
        self.bytes[TTL] = self.bytes[TTL].saturating_add(1);
        self.sum_header();
    }

    /// Takes so many hops from the time to live; false when it does not reach that far.
    pub(super) fn take_hops(&mut self, hops: u8) -> bool {
        let reaches = self.bytes[TTL] > hops;
        if reaches {
            self.bytes[TTL] -= hops;
            self.sum_header();
        }
        reaches
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn sum_header(&mut self) {
        self.bytes[HEADER_CHECKSUM..HEADER_CHECKSUM + 2].fill(0);
        let words = self.bytes[..self.header].chunks_exact(2);
        let sum = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let checksum = !folded(sum);
        self.bytes[HEADER_CHECKSUM..HEADER_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A whole UDP datagram.
#[derive(Debug)]
pub(super) struct Datagram<'a, 'b> {
    packet: &'a mut Packet<'b>,
}

impl<'a, 'b> Datagram<'a, 'b> {
    pub(super) fn of(packet: &'a mut Packet<'b>) -> Result<Self, Malformed> {
        if !packet.is_udp() {
            return Err(Malformed::Protocol(packet.bytes[PROTOCOL]));
        }
        if word(packet.bytes, FLAGS) & FRAGMENT != 0 {
            return Err(Malformed::Fragment);
        }
        enough(packet.header + UDP_HEADER, packet.bytes.len())?;
        Ok(Self { packet })
    }

    pub(super) fn source(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.ip(SOURCE), word(self.packet.bytes, self.packet.header))
    }

    pub(super) fn destination(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.ip(DESTINATION), word(self.packet.bytes, self.packet.header + 2))
    }

    pub(super) fn set_source(&mut self, source: SocketAddrV4) {
        self.set(SOURCE, self.packet.header, source);
    }

    pub(super) fn set_destination(&mut self, destination: SocketAddrV4) {
        self.set(DESTINATION, self.packet.header + 2, destination);
    }

    fn ip(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::from_octets([
            self.packet.bytes[at],
            self.packet.bytes[at + 1],
            self.packet.bytes[at + 2],
            self.packet.bytes[at + 3],
        ])
    }

    fn set(&mut self, ip_at: usize, port_at: usize, address: SocketAddrV4) {
        let ip = address.ip().octets();
        self.put(ip_at, u16::from_be_bytes([ip[0], ip[1]]));
        self.put(ip_at + 2, u16::from_be_bytes([ip[2], ip[3]]));
        self.put(port_at, address.port());
        self.packet.sum_header();
    }

    /// Changes a word that the UDP checksum covers, and the checksum with it (RFC 1624).
    fn put(&mut self, at: usize, new: u16) {
        let old = word(self.packet.bytes, at);
        self.packet.bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        let at = self.packet.header + UDP_CHECKSUM;
        let checksum = word(self.packet.bytes, at);
        // No checksum was computed by the sender.
        if checksum == 0 {
            return;
        }
        let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
        let checksum = match !folded(sum) {
            0 => u16::MAX,
            other => other,
        };
        self.packet.bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn enough(expected: usize, got: usize) -> Result<(), Malformed> {
    if got < expected { Err(Malformed::Short { expected, got }) } else { Ok(()) }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The sum in ones' complement.
fn folded(mut sum: u32) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    // The loop has left 16 bits.
    (sum & 0xFFFF) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with right checksums, computed apart from the code above.
    fn packet(from: &str, to: &str, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to): (SocketAddrV4, SocketAddrV4) = (from.parse().unwrap(), to.parse().unwrap());
        let length = u16::try_from(28 + payload.len()).unwrap();
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0x12, 0x34, 0x40, 0, ttl, UDP, 0, 0]);
        bytes.extend(from.ip().octets());
        bytes.extend(to.ip().octets());
        let ip_sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&ip_sum.to_be_bytes());
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend((length - 20).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(payload);
        let udp_sum = udp_checksum(&bytes);
        bytes[26..28].copy_from_slice(&udp_sum.to_be_bytes());
        bytes
    }

    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum: u64 = 0;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        !u16::try_from(sum % 0xFFFF).unwrap()
    }

    /// Over the pseudo-header and the datagram as it stands.
    fn udp_checksum(bytes: &[u8]) -> u16 {
        let mut covered = bytes[12..20].to_vec();
        covered.extend([0, UDP]);
        covered.extend(&bytes[24..26]);
        covered.extend(&bytes[20..]);
        checksum(&covered)
    }

    /// A sum over what includes its own checksum is all ones, so that its complement is zero.
    fn assert_sums_are_right(bytes: &[u8]) {
        let is_zero = |sum: u16| sum == 0 || sum == u16::MAX;
        assert!(is_zero(checksum(&bytes[..20])), "IPv4 header");
        assert!(is_zero(udp_checksum(bytes)), "UDP");
    }

    #[test]
    fn a_datagram_is_read_and_rewritten_with_right_checksums() {
        let mut bytes = packet("192.168.1.100:8081", "198.18.0.1:3478", 64, b"seven77");
        assert_sums_are_right(&bytes);
        let mut whole = Packet::parse(&mut bytes).unwrap();
        let mut datagram = Datagram::of(&mut whole).unwrap();
        assert_eq!(datagram.source(), "192.168.1.100:8081".parse().unwrap());
        assert_eq!(datagram.destination(), "198.18.0.1:3478".parse().unwrap());
        datagram.set_source("198.18.10.1:65535".parse().unwrap());
        datagram.set_destination("198.18.20.1:1024".parse().unwrap());
        whole.restore_hop();
        assert_eq!(bytes[TTL], 65);
        assert_sums_are_right(&bytes);
        assert_eq!(bytes, {
            let mut fresh = packet("198.18.10.1:65535", "198.18.20.1:1024", 65, b"seven77");
            // There are two ways to write the same sum; only zero matters.
            fresh[26..28].copy_from_slice(&bytes[26..28]);
            fresh
        });
    }

    #[test]
    fn the_time_to_live_is_used_up_by_hops() {
        let mut bytes = packet("10.0.0.1:1", "10.0.0.2:2", 5, b"");
        assert!(Packet::parse(&mut bytes).unwrap().take_hops(4));
        assert_eq!(bytes[TTL], 1);
        assert_sums_are_right(&bytes);
        assert!(!Packet::parse(&mut bytes).unwrap().take_hops(1));
    }

    #[test]
    fn a_datagram_without_checksum_stays_without() {
        let mut bytes = packet("10.0.0.1:1", "10.0.0.2:2", 1, b"");
        bytes[26..28].fill(0);
        let mut whole = Packet::parse(&mut bytes).unwrap();
        Datagram::of(&mut whole).unwrap().set_source("10.0.0.3:3".parse().unwrap());
        assert_eq!(bytes[26..28], [0, 0]);
    }

    #[test]
    fn octets_after_the_packet_are_left_away() {
        let mut bytes = packet("10.0.0.1:1", "10.0.0.2:2", 1, b"abc");
        let length = bytes.len();
        bytes.extend([0; 9]);
        assert_eq!(Packet::parse(&mut bytes).unwrap().bytes().len(), length);
    }

    #[test]
    fn what_is_no_whole_datagram_is_refused_with_the_reason() {
        let good = packet("10.0.0.1:1", "10.0.0.2:2", 1, b"abc");
        let short_udp = |bytes: &mut Vec<u8>| {
            bytes[TOTAL_LENGTH + 1] = 27;
        };
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let datagram = Packet::parse(&mut bytes)
                .and_then(|mut packet| Datagram::of(&mut packet).map(drop));
            datagram.unwrap_err()
        };
        assert_eq!(refused(&|bytes| bytes[0] = 0x65), Malformed::Version(6));
        assert_eq!(refused(&|bytes| bytes[0] = 0x44), Malformed::Header(16));
        assert_eq!(refused(&|bytes| bytes[PROTOCOL] = 6), Malformed::Protocol(6));
        assert_eq!(refused(&|bytes| bytes[FLAGS] = 0x20), Malformed::Fragment);
        assert_eq!(refused(&|bytes| bytes[FLAGS + 1] = 1), Malformed::Fragment);
        assert_eq!(
            refused(&|bytes| bytes.truncate(30)),
            Malformed::Short { expected: 31, got: 30 }
        );
        assert_eq!(refused(&short_udp), Malformed::Short { expected: 28, got: 27 });
        for length in 0..good.len() {
            let short = refused(&|bytes| bytes.truncate(length));
            assert!(matches!(short, Malformed::Short { .. }), "{length}: {short}");
        }
    }
}
