//! Binding in the form of RFC 3489: sixteen bytes of transaction id, no cookie. Small enough to
//! write out; the codec for the modern form refuses it.

use std::net::{IpAddr, SocketAddr};

use super::HEADER_BYTES;
use super::binding::{BindingSuccess, NotAnswered};

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_RESPONSE: [u8; 2] = [0x01, 0x01];
const MAPPED_ADDRESS: u16 = 0x0001;
const SOURCE_ADDRESS: u16 = 0x0004;
const CHANGED_ADDRESS: u16 = 0x0005;

/// A classic Binding request: all that matters of it is its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClassicRequest {
    transaction: [u8; 16],
}

impl ClassicRequest {
    /// Reads a datagram that does not carry the magic cookie. Its attributes must add up.
    pub(super) fn parse(datagram: &[u8]) -> Result<Self, NotAnswered> {
        let Some((header, mut attributes)) = datagram.split_first_chunk::<HEADER_BYTES>() else {
            return Err(NotAnswered::Malformed);
        };
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] & 0xc0 != 0 || attributes.len() != length {
            return Err(NotAnswered::Malformed);
        }
        if header[..2] != BINDING_REQUEST {
            return Err(NotAnswered::NotARequest);
        }
        while let Some(([_, _, high, low], rest)) = attributes.split_first_chunk::<4>() {
            let value = usize::from(u16::from_be_bytes([*high, *low]));
            attributes = rest.get(value..).ok_or(NotAnswered::Malformed)?;
        }
        if !attributes.is_empty() {
            return Err(NotAnswered::Malformed);
        }
        let mut transaction = [0; 16];
        transaction.copy_from_slice(&header[4..]);
        Ok(Self { transaction })
    }

    /// The response with the three addresses that RFC 3489 §8.1 asks for. Where the server has one
    /// address only, CHANGED-ADDRESS repeats it: a client that asks there learns nothing new, but
    /// one that was given none would fail.
    pub(super) fn success(self, success: &BindingSuccess) -> Vec<u8> {
        let mut body = Vec::with_capacity(3 * 24);
        push_address(&mut body, MAPPED_ADDRESS, success.mapped);
        push_address(&mut body, SOURCE_ADDRESS, success.origin);
        push_address(&mut body, CHANGED_ADDRESS, success.other.unwrap_or(success.origin));
        self.response(&body)
    }

    /// The response with the mapped address and no other, for those who would get none else.
    pub(super) fn success_alone(self, mapped: SocketAddr) -> Vec<u8> {
        let mut body = Vec::with_capacity(24);
        push_address(&mut body, MAPPED_ADDRESS, mapped);
        self.response(&body)
    }

    fn response(self, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("invariant: three addresses are short");
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(&BINDING_RESPONSE);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.transaction);
        out.extend_from_slice(body);
        out
    }
}

fn push_address(body: &mut Vec<u8>, kind: u16, address: SocketAddr) {
    let (family, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let length = u16::try_from(4 + octets.len()).expect("invariant: an address is short");
    body.extend_from_slice(&kind.to_be_bytes());
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(&[0, family]);
    body.extend_from_slice(&address.port().to_be_bytes());
    body.extend_from_slice(&octets);
}
