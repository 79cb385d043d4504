//! STUN Binding: RFC 8489 over the codec of `stun-types`, the NAT behaviour attributes of RFC 5780,
//! proofs of address ([`proof`]), and the classic form of RFC 3489 (no magic cookie), which old
//! clients still speak.

mod binding;
mod classic;
mod client;
pub mod proof;
mod server;

use std::net::SocketAddr;

use stun_types::attribute::{AttributeType, MappedSocketAddr, RawAttribute};

pub use binding::{BindingSuccess, ChangeRequest, NotAnswered};
pub use client::{
    BindingOutcome, BindingResponse, RequestOptions, StunError, TransactionId, binding_request,
    binding_request_with,
};
pub use server::BindingRequest;

const MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0001);
const CHANGE_REQUEST: AttributeType = AttributeType::new(0x0003);
const RESPONSE_PORT: AttributeType = AttributeType::new(0x0027);
const RESPONSE_ORIGIN: AttributeType = AttributeType::new(0x802b);
const OTHER_ADDRESS: AttributeType = AttributeType::new(0x802c);

/// CHANGE-REQUEST bits (RFC 5780 §7.2).
const CHANGE_IP: u8 = 0x04;
const CHANGE_PORT: u8 = 0x02;

/// Length of the fixed header (RFC 8489 §5), in bytes.
pub(crate) const HEADER_BYTES: usize = 20;

/// Our SOFTWARE value. Its length is a multiple of four on purpose: a classic client of wide use
/// steps over attributes without their padding and would lose its place.
pub const SOFTWARE: &str = "holepunch/v1";

/// Whether a datagram can be a STUN message at all: two zero bits and the magic cookie (RFC 8489
/// §5). Enough to tell it from a probe or from QUIC; the classic form is not meant.
#[must_use]
pub fn looks_like_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES
        && datagram[0] & 0xc0 == 0
        && datagram[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

/// An address in the plain form of MAPPED-ADDRESS (RFC 8489 §14.1) under any type.
fn plain_address(kind: AttributeType, address: SocketAddr) -> RawAttribute<'static> {
    MappedSocketAddr::new(address).to_raw(kind).into_owned()
}
