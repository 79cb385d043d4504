//! Connectivity checks between two workers, in ICE's standard form (RFC 8445 §7): STUN Binding with
//! short-term credentials, MESSAGE-INTEGRITY over SHA-1 as ICE asks, and FINGERPRINT.
//!
//! The life of a check: the sender writes a [`CheckRequest`] with the key of the *receiver's*
//! password. The receiver reads it with [`ParsedCheck::parse`], finds the session by the username,
//! and believes nothing until [`ParsedCheck::verify`] with its own key. It answers with
//! [`encode_success`] or [`encode_role_conflict`], with that same key, so the sender verifies the
//! answer with the key that it wrote the request with.

mod key;
mod request;
mod response;

use std::net::SocketAddr;

use stun_types::attribute::{Attribute, AttributeType, RawAttribute, XorMappedAddress};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteExt, MessageWriteVec,
};

pub use crate::credentials::IceRole;
use crate::stun::{HEADER_BYTES, TransactionId};

pub use key::CheckKey;
pub use request::{CheckRequest, Username};
pub use response::{ROLE_CONFLICT, encode_role_conflict, encode_success};

use key::MAC_BYTES;

/// Longest datagram that is read as a check, in bytes: one packet on every IPv6 path. The longest
/// check that this program writes has 596.
pub const CHECK_BYTES_MAX: usize = 1280;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Length of an attribute's type and length, in bytes (RFC 8489 §14).
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Length of FINGERPRINT with its header, in bytes.
const FINGERPRINT_BYTES: usize = 8;

/// What a check says. Nothing of it is to be believed before [`ParsedCheck::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check<'a> {
    /// A Binding request.
    Request {
        /// For which session.
        username: Username<'a>,
        /// The priority of the candidate that the receiver would learn from it (RFC 8445 §7.1.1).
        priority: u32,
        /// The sender's role.
        role: IceRole,
        /// Decides who keeps a role that both claim (RFC 8445 §7.3.1.1).
        tie_breaker: u64,
        /// Whether the sender nominates this pair.
        use_candidate: bool,
    },
    /// A success response.
    Success {
        /// The address that the peer saw.
        mapped: SocketAddr,
    },
    /// An error response.
    Error {
        /// Its code, 300–699; [`ROLE_CONFLICT`] has a meaning of its own.
        code: u16,
    },
    /// An indication: it keeps a mapping alive and wants no answer.
    Indication,
}

/// Why a datagram is not a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// It is longer than [`CHECK_BYTES_MAX`].
    #[error("a check has at most {CHECK_BYTES_MAX} bytes, this datagram has {0}")]
    TooLong(usize),
    /// It is not a well-formed STUN message, its length is not what its header says, or its
    /// FINGERPRINT is wrong.
    #[error("not a well-formed STUN message")]
    Malformed,
    /// It is a STUN message of another method.
    #[error("a STUN message that is not Binding")]
    NotBinding,
    /// An attribute is not there that such a message must have.
    #[error("a check without {0}")]
    Missing(&'static str),
    /// An attribute has a value that it must not have.
    #[error("a check whose {0} is not valid")]
    Invalid(&'static str),
    /// It claims both roles.
    #[error("a check that is both ICE-CONTROLLING and ICE-CONTROLLED")]
    BothRoles,
    /// It has an attribute that must be understood (RFC 8489 §14) and is not.
    #[error("a check with attribute {0:#06x}, which must be understood and is not known")]
    UnknownRequired(u16),
}

/// A check as it came, not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedCheck<'a> {
    /// Of the request, or the request that this answers.
    pub transaction: TransactionId,
    /// What it says.
    pub check: Check<'a>,
    seal: Option<Seal<'a>>,
}

/// MESSAGE-INTEGRITY of a message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seal<'a> {
    /// What stands before it, with the header's length as it stood in the datagram.
    covered: &'a [u8],
    mac: [u8; MAC_BYTES],
}

impl<'a> ParsedCheck<'a> {
    /// Reads one datagram. Of an attribute that stands twice the first counts; what follows
    /// MESSAGE-INTEGRITY, but for FINGERPRINT, does not count at all (RFC 8489 §14, §14.5).
    ///
    /// # Errors
    /// It is not a check.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, CheckError> {
        if datagram.len() > CHECK_BYTES_MAX {
            return Err(CheckError::TooLong(datagram.len()));
        }
        let message = Message::from_bytes(datagram).map_err(|_| CheckError::Malformed)?;
        let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
        if datagram.len() != HEADER_BYTES + length {
            return Err(CheckError::Malformed);
        }
        if !message.has_method(BINDING) {
            return Err(CheckError::NotBinding);
        }
        let found = Attributes::find(&message, datagram)?;
        let check = match message.class() {
            MessageClass::Request => found.request()?,
            MessageClass::Success => Check::Success { mapped: mapped(&message)? },
            MessageClass::Error => Check::Error { code: found.error_code()? },
            MessageClass::Indication => Check::Indication,
        };
        let transaction = u128::from(message.transaction_id()).into();
        Ok(Self { transaction, check, seal: found.seal(datagram)? })
    }

    /// Whether MESSAGE-INTEGRITY is there at all. An answer of a STUN server has none.
    #[must_use]
    pub fn has_integrity(&self) -> bool {
        self.seal.is_some()
    }

    /// Whether whoever wrote this knows the password of `key`. A message without MESSAGE-INTEGRITY
    /// never verifies.
    #[must_use]
    pub fn verify(&self, key: &CheckKey) -> bool {
        self.seal.is_some_and(|seal| key.verify(seal.covered, &seal.mac))
    }
}

/// The first of each attribute that matters.
#[derive(Default)]
struct Attributes<'a> {
    username: Option<&'a [u8]>,
    priority: Option<&'a [u8]>,
    controlled: Option<&'a [u8]>,
    controlling: Option<&'a [u8]>,
    use_candidate: bool,
    error_code: Option<&'a [u8]>,
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, &'a [u8])>,
}

impl<'a> Attributes<'a> {
    fn find(message: &Message<'_>, datagram: &'a [u8]) -> Result<Self, CheckError> {
        let mut found = Self::default();
        for (offset, attribute) in message.iter_attributes() {
            let start = offset + ATTRIBUTE_HEADER_BYTES;
            let end = start + usize::from(attribute.length());
            let value = datagram.get(start..end).ok_or(CheckError::Malformed)?;
            let kind = attribute.get_type();
            match kind.value() {
                USERNAME => _ = found.username.get_or_insert(value),
                PRIORITY => _ = found.priority.get_or_insert(value),
                ICE_CONTROLLED => _ = found.controlled.get_or_insert(value),
                ICE_CONTROLLING => _ = found.controlling.get_or_insert(value),
                USE_CANDIDATE => found.use_candidate = true,
                ERROR_CODE => _ = found.error_code.get_or_insert(value),
                MESSAGE_INTEGRITY => _ = found.integrity.get_or_insert((offset, value)),
                MAPPED_ADDRESS
                | XOR_MAPPED_ADDRESS
                | UNKNOWN_ATTRIBUTES
                | MESSAGE_INTEGRITY_SHA256 => {}
                unknown if kind.comprehension_required() => {
                    return Err(CheckError::UnknownRequired(unknown));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn request(&self) -> Result<Check<'a>, CheckError> {
        let username = self.username.ok_or(CheckError::Missing("USERNAME"))?;
        let username = Username::parse(username).ok_or(CheckError::Invalid("USERNAME"))?;
        let priority = self.priority.ok_or(CheckError::Missing("PRIORITY"))?;
        let priority = fixed(priority).ok_or(CheckError::Invalid("PRIORITY"))?;
        let (role, tie_breaker, name) = match (self.controlling, self.controlled) {
            (Some(value), None) => (IceRole::Controlling, value, "ICE-CONTROLLING"),
            (None, Some(value)) => (IceRole::Controlled, value, "ICE-CONTROLLED"),
            (None, None) => return Err(CheckError::Missing("ICE-CONTROLLING or ICE-CONTROLLED")),
            (Some(_), Some(_)) => return Err(CheckError::BothRoles),
        };
        Ok(Check::Request {
            username,
            priority: u32::from_be_bytes(priority),
            role,
            tie_breaker: u64::from_be_bytes(fixed(tie_breaker).ok_or(CheckError::Invalid(name))?),
            use_candidate: self.use_candidate,
        })
    }

    /// The code of ERROR-CODE: a class in three bits, and a number (RFC 8489 §14.8).
    fn error_code(&self) -> Result<u16, CheckError> {
        let value = self.error_code.ok_or(CheckError::Missing("ERROR-CODE"))?;
        match *value {
            [_, _, class, number, ..] if (3..=6).contains(&(class & 7)) && number < 100 => {
                Ok(u16::from(class & 7) * 100 + u16::from(number))
            }
            _ => Err(CheckError::Invalid("ERROR-CODE")),
        }
    }

    fn seal(&self, datagram: &'a [u8]) -> Result<Option<Seal<'a>>, CheckError> {
        let Some((offset, value)) = self.integrity else { return Ok(None) };
        let mac = fixed(value).ok_or(CheckError::Invalid("MESSAGE-INTEGRITY"))?;
        Ok(Some(Seal { covered: &datagram[..offset], mac }))
    }
}

/// XOR-MAPPED-ADDRESS; an IPv4-mapped IPv6 address becomes IPv4.
fn mapped(message: &Message<'_>) -> Result<SocketAddr, CheckError> {
    let raw = message.raw_attribute(AttributeType::new(XOR_MAPPED_ADDRESS));
    let raw = raw.ok_or(CheckError::Missing("XOR-MAPPED-ADDRESS"))?;
    let attribute =
        XorMappedAddress::try_from(&raw).map_err(|_| CheckError::Invalid("XOR-MAPPED-ADDRESS"))?;
    let address = attribute.addr(message.transaction_id());
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// A value of just `N` bytes.
fn fixed<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

/// The start of a message of at most `attributes_bytes` before MESSAGE-INTEGRITY.
fn begin(
    class: MessageClass,
    transaction: TransactionId,
    attributes_bytes: usize,
) -> MessageWriteVec {
    let kind = MessageType::from_class_method(class, BINDING);
    let sealed = ATTRIBUTE_HEADER_BYTES + MAC_BYTES + FINGERPRINT_BYTES;
    let out = MessageWriteVec::with_capacity(HEADER_BYTES + attributes_bytes + sealed);
    Message::builder(kind, u128::from(transaction).into(), out)
}

/// Adds an attribute and corrects the length in the header.
fn push(out: &mut MessageWriteVec, kind: u16, value: &[u8]) {
    out.push_attribute_unchecked(&RawAttribute::new(AttributeType::new(kind), value));
}

/// Adds MESSAGE-INTEGRITY and FINGERPRINT.
fn seal(mut out: MessageWriteVec, key: &CheckKey) -> Vec<u8> {
    let covered = out.len();
    // The code covers the header's length as it is with MESSAGE-INTEGRITY (RFC 8489 §14.5).
    push(&mut out, MESSAGE_INTEGRITY, &[0; MAC_BYTES]);
    let mac = key.compute(&out[..covered]);
    out[covered + ATTRIBUTE_HEADER_BYTES..].copy_from_slice(&mac);
    let added = out.add_fingerprint();
    debug_assert!(added.is_ok(), "invariant: FINGERPRINT is added once, last");
    out.finish()
}

#[cfg(test)]
mod tests;
