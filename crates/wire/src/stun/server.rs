//! The server's half: what a Binding request asks for, and the answers.

use std::net::SocketAddr;

use stun_types::attribute::{
    Attribute, AttributeExt, AttributeStaticType, AttributeType, ErrorCode, Fingerprint,
    RawAttribute, Software, UnknownAttributes, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec,
};

use super::binding::{BindingSuccess, ChangeRequest, NotAnswered};
use super::classic::ClassicRequest;
use super::proof::{ADDRESS_PROOF, PROOF_NONCE, ProofNonce};
use super::{
    CHANGE_IP, CHANGE_PORT, CHANGE_REQUEST, HEADER_BYTES, MAPPED_ADDRESS, OTHER_ADDRESS,
    RESPONSE_ORIGIN, RESPONSE_PORT, SOFTWARE, looks_like_stun, plain_address,
};

/// Most attribute types that a 420 answer names: it must not outgrow its question.
const UNKNOWN_NAMED_MAX: usize = 8;

/// USERNAME, MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM and
/// USERHASH: known, and not needed by a server that asks nobody for credentials.
const CREDENTIALS: [u16; 7] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e];

/// A Binding request that deserves an answer.
#[derive(Debug)]
pub struct BindingRequest<'a> {
    form: Form<'a>,
}

#[derive(Debug)]
enum Form<'a> {
    /// RFC 8489, 5389: with the magic cookie.
    Modern(Message<'a>),
    /// RFC 3489: without.
    Classic(ClassicRequest),
}

/// How much an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// With SOFTWARE, and with MAPPED-ADDRESS for clients of old.
    Full,
    /// Without.
    Short,
}

impl<'a> BindingRequest<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// It gets no answer: a malformed message, or not a Binding request.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, NotAnswered> {
        if !looks_like_stun(datagram) {
            let classic = ClassicRequest::parse(datagram)?;
            return Ok(Self { form: Form::Classic(classic) });
        }
        let message = Message::from_bytes(datagram).map_err(|_| NotAnswered::Malformed)?;
        let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
        if datagram.len() != HEADER_BYTES + length {
            return Err(NotAnswered::Malformed);
        }
        if !message.has_method(BINDING) || !message.has_class(MessageClass::Request) {
            return Err(NotAnswered::NotARequest);
        }
        Ok(Self { form: Form::Modern(message) })
    }

    /// Whether this is the form of RFC 3489. Such a client gets its answer from the address that it
    /// asked, whatever it requests, and never an error: one of wide use takes its mapped address
    /// from the last test alone, and repeats a request for ever when it is refused.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        matches!(self.form, Form::Classic(_))
    }

    /// From where the client wants its answer.
    #[must_use]
    pub fn change(&self) -> ChangeRequest {
        let Form::Modern(message) = &self.form else { return ChangeRequest::default() };
        let flags = message.raw_attribute(CHANGE_REQUEST).map_or(0, |raw| match *raw.value {
            [_, _, _, flags] => flags,
            _ => 0,
        });
        ChangeRequest { ip: flags & CHANGE_IP != 0, port: flags & CHANGE_PORT != 0 }
    }

    /// The port of the client's own address that the answer is to go to (RFC 5780 §7.5), where it is
    /// not the one that the request came from.
    #[must_use]
    pub fn response_port(&self) -> Option<u16> {
        let Form::Modern(message) = &self.form else { return None };
        let raw = message.raw_attribute(RESPONSE_PORT)?;
        match raw.value[..] {
            [high, low, ..] => Some(u16::from_be_bytes([high, low])).filter(|port| *port != 0),
            _ => None,
        }
    }

    /// The nonce that the client wants a proof of its address for, if it wants one.
    #[must_use]
    pub fn proof_nonce(&self) -> Option<ProofNonce> {
        let Form::Modern(message) = &self.form else { return None };
        let raw = message.raw_attribute(PROOF_NONCE)?;
        raw.value[..].try_into().ok().map(ProofNonce)
    }

    /// The comprehension-required attributes (RFC 8489 §14) that this program does not know. Where
    /// `change` is not served, CHANGE-REQUEST is one of them (RFC 5780 §6.1).
    #[must_use]
    pub fn unknown_required(&self, change_is_served: bool) -> Vec<u16> {
        let Form::Modern(message) = &self.form else { return Vec::new() };
        message
            .iter_attributes()
            .map(|(_, attribute)| attribute.get_type())
            .filter(|kind| kind.comprehension_required())
            .filter(|kind| !(*kind == CHANGE_REQUEST && change_is_served))
            .filter(|kind| *kind != RESPONSE_PORT)
            .map(|kind| kind.value())
            .filter(|kind| !CREDENTIALS.contains(kind))
            .take(UNKNOWN_NAMED_MAX)
            .collect()
    }

    /// The success response.
    #[must_use]
    pub fn success(&self, success: &BindingSuccess) -> Vec<u8> {
        self.answer(success, Length::Full)
    }

    /// The success response that goes to another port than the request came from, or comes from another
    /// address than it went to: with what RFC 5780 §6.1 asks for, and no more. Whoever asks in somebody
    /// else's name gets no longer ones sent to where he likes.
    #[must_use]
    pub fn success_elsewhere(&self, success: &BindingSuccess) -> Vec<u8> {
        self.answer(success, Length::Short)
    }

    /// The shortest success response, for those who have had their share: the mapped address, and FINGERPRINT
    /// where the request had one.
    #[must_use]
    pub fn success_alone(&self, mapped: SocketAddr) -> Vec<u8> {
        let message = match &self.form {
            Form::Classic(classic) => return classic.success_alone(mapped),
            Form::Modern(message) => message,
        };
        let mut out = Message::builder_success(message, MessageWriteVec::with_capacity(64));
        add(&mut out, &XorMappedAddress::new(mapped, message.transaction_id()));
        finish(message, out, Length::Short)
    }

    fn answer(&self, success: &BindingSuccess, length: Length) -> Vec<u8> {
        let message = match &self.form {
            Form::Classic(classic) => return classic.success(success),
            Form::Modern(message) => message,
        };
        let mut out = Message::builder_success(message, MessageWriteVec::with_capacity(128));
        add(&mut out, &XorMappedAddress::new(success.mapped, message.transaction_id()));
        if length == Length::Full {
            add(&mut out, &plain_address(MAPPED_ADDRESS, success.mapped));
        }
        if let Some(other) = success.other {
            add(&mut out, &plain_address(RESPONSE_ORIGIN, success.origin));
            add(&mut out, &plain_address(OTHER_ADDRESS, other));
        }
        if let Some(proof) = success.proof {
            add(&mut out, &RawAttribute::new(ADDRESS_PROOF, &proof.to_bytes()));
        }
        finish(message, out, length)
    }

    /// The 420 response that names the attributes not known (RFC 8489 §6.3.1); `None` for a classic
    /// client.
    #[must_use]
    pub fn unknown_attributes(&self, unknown: &[u16]) -> Option<Vec<u8>> {
        let Form::Modern(message) = &self.form else { return None };
        let mut out = Message::builder_error(message, MessageWriteVec::with_capacity(64));
        if let Ok(code) = ErrorCode::new(420, "") {
            add(&mut out, &code);
        }
        let types: Vec<AttributeType> = unknown.iter().copied().map(AttributeType::new).collect();
        add(&mut out, &UnknownAttributes::new(&types));
        Some(finish(message, out, Length::Full))
    }
}

fn add(out: &mut MessageWriteVec, attribute: &dyn stun_types::attribute::AttributeWrite) {
    let added = out.add_attribute(attribute);
    debug_assert!(added.is_ok(), "invariant: each attribute is added once, before FINGERPRINT");
}

/// Adds SOFTWARE to a full answer, and FINGERPRINT where the request had one (RFC 8489 §14.7).
fn finish(request: &Message<'_>, mut out: MessageWriteVec, length: Length) -> Vec<u8> {
    let software = Software::new(SOFTWARE).ok().filter(|_| length == Length::Full);
    if let Some(software) = software {
        debug_assert_eq!(software.padded_len() % 4, 0);
        add(&mut out, &software);
    }
    if request.has_attribute(Fingerprint::TYPE) {
        let added = out.add_fingerprint();
        debug_assert!(added.is_ok(), "invariant: FINGERPRINT is added once, last");
    }
    out.finish()
}

#[cfg(test)]
mod tests;
