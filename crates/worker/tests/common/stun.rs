//! A STUN server played by the test, written by hand from RFC 8489.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::within;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const MAPPED_ADDRESS: u16 = 0x0001;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const CHANGE_REQUEST: u16 = 0x0003;
const OTHER_ADDRESS: u16 = 0x802c;
const PROOF_NONCE: u16 = 0xc07e;
const ADDRESS_PROOF: u16 = 0xc07f;

/// The name of a host that is not there, for which no resolver even asks: a label has at most 63
/// characters (RFC 1035 §2.3.4), and `.invalid` is nobody's (RFC 6761 §6.4).
pub(crate) const NOWHERE: &str =
    "no-such-host-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.invalid";

/// A server that answers when the test says so.
pub(crate) struct StunServer {
    socket: UdpSocket,
    pub(crate) address: SocketAddr,
}

/// A Binding request that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BindingRequest {
    pub(crate) from: SocketAddr,
    /// The cookie and the transaction id.
    pub(crate) id: [u8; 16],
    /// What a proof of address is asked for with.
    pub(crate) nonce: Option<[u8; 16]>,
    /// The flags of CHANGE-REQUEST, 0 without one (RFC 5780 §7.2).
    pub(crate) change: u8,
}

impl StunServer {
    pub(crate) async fn bind() -> Self {
        Self::bind_on(Ipv4Addr::LOCALHOST).await
    }

    /// On another address of the loopback network: another server as far as NATs are concerned.
    pub(crate) async fn bind_on(ip: Ipv4Addr) -> Self {
        Self::bind_at((ip, 0).into()).await.unwrap()
    }

    pub(crate) async fn bind_at(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The next datagram, which must be a Binding request.
    pub(crate) async fn request(&self) -> BindingRequest {
        let mut bytes = [0; 512];
        let (length, from) =
            within("a STUN request", self.socket.recv_from(&mut bytes)).await.unwrap();
        assert!(length >= 20 && length % 4 == 0, "{length} bytes");
        assert_eq!(bytes[..2], [0, 1], "a Binding request");
        assert_eq!(usize::from(bytes[2]) * 256 + usize::from(bytes[3]), length - 20);
        assert_eq!(bytes[4..8], COOKIE);
        let attributes = &bytes[20..length];
        BindingRequest {
            from,
            id: bytes[4..20].try_into().unwrap(),
            nonce: attribute(attributes, PROOF_NONCE).map(|value| value.try_into().unwrap()),
            change: attribute(attributes, CHANGE_REQUEST).map_or(0, |value| value[3]),
        }
    }

    /// The next request that is not `earlier` sent again.
    pub(crate) async fn request_after(&self, earlier: BindingRequest) -> BindingRequest {
        within("another STUN request", async {
            loop {
                let request = self.request().await;
                if request.id != earlier.id {
                    return request;
                }
            }
        })
        .await
    }

    /// Says that the sender of `request` is seen as `mapped`.
    pub(crate) async fn answer(&self, request: BindingRequest, mapped: SocketAddr) {
        self.send(&success(request.id, mapped), request.from).await;
    }

    /// Waits for a request and answers it; where it came from.
    pub(crate) async fn answer_next(&self, mapped: SocketAddr) -> SocketAddr {
        let request = self.request().await;
        self.answer(request, mapped).await;
        request.from
    }

    pub(crate) async fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).await.unwrap();
    }
}

/// A Binding success with XOR-MAPPED-ADDRESS.
pub(crate) fn success(id: [u8; 16], mapped: SocketAddr) -> Vec<u8> {
    message(BINDING_SUCCESS, id, &[(XOR_MAPPED_ADDRESS, &xored(mapped))])
}

/// The same of a server that answers from another address on request (RFC 5780).
pub(crate) fn success_with_other(id: [u8; 16], mapped: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let (mapped, other) = (xored(mapped), address(other));
    message(BINDING_SUCCESS, id, &[(XOR_MAPPED_ADDRESS, &mapped), (OTHER_ADDRESS, &other)])
}

/// The same with a proof of address.
pub(crate) fn success_with_proof(id: [u8; 16], mapped: SocketAddr, proof: [u8; 24]) -> Vec<u8> {
    message(BINDING_SUCCESS, id, &[(XOR_MAPPED_ADDRESS, &xored(mapped)), (ADDRESS_PROOF, &proof)])
}

/// A Binding success as a server of RFC 3489 writes it.
pub(crate) fn plain_success(id: [u8; 16], mapped: SocketAddr) -> Vec<u8> {
    message(BINDING_SUCCESS, id, &[(MAPPED_ADDRESS, &address(mapped))])
}

/// A Binding error 500.
pub(crate) fn error(id: [u8; 16]) -> Vec<u8> {
    message(BINDING_ERROR, id, &[(ERROR_CODE, &[0, 0, 5, 0])])
}

fn address(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not IPv4") };
    let mut value = vec![0, 1];
    value.extend_from_slice(&address.port().to_be_bytes());
    value.extend_from_slice(&ip.octets());
    value
}

/// An address as XOR-MAPPED-ADDRESS holds it (RFC 8489 §14.2).
fn xored(mapped: SocketAddr) -> Vec<u8> {
    let mut value = address(mapped);
    value[2..].iter_mut().zip(COOKIE).take(2).for_each(|(byte, mask)| *byte ^= mask);
    value[4..].iter_mut().zip(COOKIE).for_each(|(byte, mask)| *byte ^= mask);
    value
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [k0, k1, l0, l1, rest @ ..] = attributes {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if u16::from_be_bytes([*k0, *k1]) == wanted {
            return Some(&rest[..length]);
        }
        attributes = &rest[length.next_multiple_of(4)..];
    }
    None
}

fn message(kind: u16, id: [u8; 16], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute, value) in attributes {
        assert_eq!(value.len() % 4, 0, "these values need no padding");
        body.extend_from_slice(&attribute.to_be_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
    }
    let mut message = kind.to_be_bytes().to_vec();
    message.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&id);
    message.extend_from_slice(&body);
    message
}
