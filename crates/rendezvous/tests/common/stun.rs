//! STUN written by hand from RFC 3489, 5780 and 8489.

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use super::within;

pub(crate) const BINDING_REQUEST: u16 = 0x0001;
pub(crate) const BINDING_INDICATION: u16 = 0x0011;
pub(crate) const BINDING_SUCCESS: u16 = 0x0101;
pub(crate) const BINDING_ERROR: u16 = 0x0111;

pub(crate) const MAPPED_ADDRESS: u16 = 0x0001;
pub(crate) const CHANGE_REQUEST: u16 = 0x0003;
pub(crate) const SOURCE_ADDRESS: u16 = 0x0004;
pub(crate) const CHANGED_ADDRESS: u16 = 0x0005;
pub(crate) const ERROR_CODE: u16 = 0x0009;
pub(crate) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub(crate) const SOFTWARE: u16 = 0x8022;
pub(crate) const FINGERPRINT: u16 = 0x8028;
pub(crate) const RESPONSE_ORIGIN: u16 = 0x802b;
pub(crate) const OTHER_ADDRESS: u16 = 0x802c;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A message to send. `id` holds the cookie, too: without it the message is a classic one.
pub(crate) fn message(kind: u16, id: [u8; 16], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = kind.to_be_bytes().to_vec();
    message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&id);
    message.extend_from_slice(&body);
    message
}

/// An id of a modern message.
pub(crate) fn modern(number: u8) -> [u8; 16] {
    let mut id = [number; 16];
    id[..4].copy_from_slice(&COOKIE);
    id
}

/// An id of a classic message.
pub(crate) fn classic(number: u8) -> [u8; 16] {
    [number; 16]
}

/// Adds FINGERPRINT (RFC 8489 §14.7).
pub(crate) fn with_fingerprint(mut message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len() - 20 + 8).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let value = fingerprint(&message).to_be_bytes();
    message.extend_from_slice(&FINGERPRINT.to_be_bytes());
    message.extend_from_slice(&[0, 4]);
    message.extend_from_slice(&value);
    message
}

/// The FINGERPRINT over what precedes it.
pub(crate) fn fingerprint(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc ^ 0x5354_554e
}

/// A message that came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) from: SocketAddr,
    pub(crate) kind: u16,
    pub(crate) id: [u8; 16],
    pub(crate) attributes: Vec<(u16, Vec<u8>)>,
    pub(crate) bytes: Vec<u8>,
}

impl Response {
    fn read(from: SocketAddr, bytes: &[u8]) -> Self {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(usize::from(word(2)), bytes.len() - 20, "the length in the header");
        let mut attributes = Vec::new();
        let mut at = 20;
        while at < bytes.len() {
            let length = usize::from(word(at + 2));
            attributes.push((word(at), bytes[at + 4..at + 4 + length].to_vec()));
            at += 4 + length.next_multiple_of(4);
        }
        let id = bytes[4..20].try_into().unwrap();
        Self { from, kind: word(0), id, attributes, bytes: bytes.to_vec() }
    }

    /// The types of the attributes, in their order.
    pub(crate) fn kinds(&self) -> Vec<u16> {
        self.attributes.iter().map(|(kind, _)| *kind).collect()
    }

    /// The value of an attribute that must be there, once.
    pub(crate) fn value(&self, kind: u16) -> &[u8] {
        let mut values = self.attributes.iter().filter(|(other, _)| *other == kind);
        let (_, value) = values.next().unwrap_or_else(|| panic!("no {kind:#06x} in {self:?}"));
        assert!(values.next().is_none(), "{kind:#06x} twice");
        value
    }

    /// An address in plain form.
    pub(crate) fn address(&self, kind: u16) -> SocketAddr {
        address(self.value(kind))
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub(crate) fn xor_mapped(&self) -> SocketAddr {
        let mut value = self.value(XOR_MAPPED_ADDRESS).to_vec();
        let (port, ip) = value[2..].split_at_mut(2);
        port.iter_mut().zip(COOKIE).for_each(|(byte, mask)| *byte ^= mask);
        ip.iter_mut().zip(self.id).for_each(|(byte, mask)| *byte ^= mask);
        address(&value)
    }
}

fn address(value: &[u8]) -> SocketAddr {
    let ip: IpAddr = match value[1] {
        1 => <[u8; 4]>::try_from(&value[4..]).unwrap().into(),
        2 => <[u8; 16]>::try_from(&value[4..]).unwrap().into(),
        other => panic!("address family {other}"),
    };
    SocketAddr::new(ip, u16::from_be_bytes([value[2], value[3]]))
}

/// A UDP socket on loopback that asks and listens.
pub(crate) struct StunClient {
    pub(crate) udp: UdpSocket,
}

impl StunClient {
    pub(crate) async fn bind() -> Self {
        Self { udp: UdpSocket::bind(super::loopback()).await.unwrap() }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    pub(crate) async fn send(&self, server: SocketAddr, datagram: &[u8]) {
        self.udp.send_to(datagram, server).await.unwrap();
    }

    pub(crate) async fn receive(&self) -> Response {
        let mut buffer = [0; 2048];
        let (length, from) =
            within("a STUN answer", self.udp.recv_from(&mut buffer)).await.unwrap();
        Response::read(from, &buffer[..length])
    }

    pub(crate) async fn ask(&self, server: SocketAddr, datagram: &[u8]) -> Response {
        self.send(server, datagram).await;
        self.receive().await
    }
}
