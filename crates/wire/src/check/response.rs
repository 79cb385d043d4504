//! The answers to a check.

use std::net::SocketAddr;

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{MessageClass, MessageWrite};

use super::{ATTRIBUTE_HEADER_BYTES, CheckKey, ERROR_CODE, begin, push, seal};
use crate::stun::TransactionId;

/// The error code that tells the sender to change its role (RFC 8445 §7.3.1.1).
pub const ROLE_CONFLICT: u16 = 487;

/// ERROR-CODE's value for [`ROLE_CONFLICT`]: two bytes reserved, class, number, and the phrase.
const ROLE_CONFLICT_VALUE: &[u8] = b"\0\0\x04\x57Role Conflict";

/// Length of XOR-MAPPED-ADDRESS of an IPv6 address, in bytes.
const MAPPED_BYTES_MAX: usize = ATTRIBUTE_HEADER_BYTES + 20;

/// The success response to the request `transaction` that came from `mapped`. `key` is that of the
/// own password, which verified the request.
#[must_use]
pub fn encode_success(transaction: TransactionId, mapped: SocketAddr, key: &CheckKey) -> Vec<u8> {
    let mut out = begin(MessageClass::Success, transaction, MAPPED_BYTES_MAX);
    let mapped = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
    out.push_attribute_unchecked(&XorMappedAddress::new(mapped, u128::from(transaction).into()));
    seal(out, key)
}

/// The 487 response to the request `transaction`: the sender is to change its role. `key` is that of
/// the own password, which verified the request.
#[must_use]
pub fn encode_role_conflict(transaction: TransactionId, key: &CheckKey) -> Vec<u8> {
    let attributes_bytes = ATTRIBUTE_HEADER_BYTES + ROLE_CONFLICT_VALUE.len().next_multiple_of(4);
    let mut out = begin(MessageClass::Error, transaction, attributes_bytes);
    push(&mut out, ERROR_CODE, ROLE_CONFLICT_VALUE);
    seal(out, key)
}
