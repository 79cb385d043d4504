//! The client's half: a Binding request and what comes back.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeType, ErrorCode, MappedSocketAddr, RawAttribute, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteExt, MessageWriteVec,
};

use super::binding::ChangeRequest;
use super::proof::{ADDRESS_PROOF, AddressProof, PROOF_NONCE, ProofNonce};
use super::{
    CHANGE_IP, CHANGE_PORT, CHANGE_REQUEST, MAPPED_ADDRESS, OTHER_ADDRESS, RESPONSE_ORIGIN,
    RESPONSE_PORT,
};

/// The 96-bit transaction id (RFC 8489 §5), which a stranger cannot guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(u128);

impl TransactionId {
    /// That of any STUN message (RFC 8489 §5); `None` for a datagram that cannot be one.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let bytes = datagram.get(8..20).filter(|_| super::looks_like_stun(datagram))?;
        Some(Self(bytes.iter().fold(0, |bits, byte| (bits << 8) | u128::from(*byte))))
    }
}

impl From<u128> for TransactionId {
    /// Takes the lower 96 bits.
    fn from(bits: u128) -> Self {
        Self(bits & ((1 << 96) - 1))
    }
}

impl From<TransactionId> for u128 {
    fn from(transaction: TransactionId) -> Self {
        transaction.0
    }
}

/// A Binding request without attributes: what every server understands.
#[must_use]
pub fn binding_request(transaction: TransactionId) -> Vec<u8> {
    binding_request_with(transaction, &RequestOptions::default())
}

/// What a Binding request asks for beside the address. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// From where the answer is to come (CHANGE-REQUEST). A server that cannot do that refuses with
    /// 420, and one that does not know RFC 5780 may do so, too.
    pub change: ChangeRequest,
    /// Asks for a proof of address (PROOF-NONCE); a server that knows nothing of it ignores it.
    pub nonce: Option<ProofNonce>,
    /// To which port of the own external address the answer is to go (RESPONSE-PORT, RFC 5780 §7.5);
    /// without it, to the one that the request came from.
    pub response_port: Option<u16>,
    /// Whether the request has a FINGERPRINT, so that the answer gets one.
    pub fingerprint: bool,
}

/// Longest request of ours: header, CHANGE-REQUEST, RESPONSE-PORT, PROOF-NONCE and FINGERPRINT, in
/// bytes.
const REQUEST_BYTES_MAX: usize = 20 + 8 + 8 + 20 + 8;

/// A Binding request with these options.
#[must_use]
pub fn binding_request_with(transaction: TransactionId, options: &RequestOptions) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let out = MessageWriteVec::with_capacity(REQUEST_BYTES_MAX);
    let mut out = Message::builder(kind, transaction.0.into(), out);
    if options.change != ChangeRequest::default() {
        let ip = if options.change.ip { CHANGE_IP } else { 0 };
        let port = if options.change.port { CHANGE_PORT } else { 0 };
        out.push_attribute_unchecked(&RawAttribute::new(CHANGE_REQUEST, &[0, 0, 0, ip | port]));
    }
    if let Some(port) = options.response_port {
        let [high, low] = port.to_be_bytes();
        out.push_attribute_unchecked(&RawAttribute::new(RESPONSE_PORT, &[high, low, 0, 0]));
    }
    if let Some(nonce) = options.nonce {
        out.push_attribute_unchecked(&RawAttribute::new(PROOF_NONCE, &nonce.0));
    }
    if options.fingerprint {
        let added = out.add_fingerprint();
        debug_assert!(added.is_ok(), "invariant: FINGERPRINT is added once, last");
    }
    out.finish()
}

/// A response to a Binding request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingResponse {
    /// The request that it answers.
    pub transaction: TransactionId,
    /// What it says.
    pub outcome: BindingOutcome,
    /// The server's other address (OTHER-ADDRESS, RFC 5780 §7.4). Any address at all may stand here.
    pub other: Option<SocketAddr>,
    /// Where the server says that it answers from (RESPONSE-ORIGIN, RFC 5780 §7.3).
    pub origin: Option<SocketAddr>,
    /// The proof of the address, where one was asked for.
    pub proof: Option<AddressProof>,
}

/// What a Binding response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingOutcome {
    /// The address that the server saw, from XOR-MAPPED-ADDRESS or else MAPPED-ADDRESS.
    Mapped(SocketAddr),
    /// An error response (RFC 8489 §14.8).
    Refused {
        /// Its code, 300–699.
        code: u16,
    },
    /// A success response without an address.
    NoAddress,
}

/// Why a datagram is not a Binding response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// It is not a well-formed STUN message.
    #[error("not a well-formed STUN message")]
    Malformed,
    /// It is a STUN message of another class or method.
    #[error("a STUN message that is not a Binding response")]
    NotAResponse,
}

impl BindingResponse {
    /// Reads one datagram.
    ///
    /// # Errors
    /// It is not a Binding response.
    pub fn parse(datagram: &[u8]) -> Result<Self, StunError> {
        let message = Message::from_bytes(datagram).map_err(|_| StunError::Malformed)?;
        if !message.has_method(BINDING) {
            return Err(StunError::NotAResponse);
        }
        let outcome = match message.class() {
            MessageClass::Success => mapped(&message),
            MessageClass::Error => {
                let code = message.attribute::<ErrorCode>().map_or(500, |error| error.code());
                BindingOutcome::Refused { code }
            }
            MessageClass::Request | MessageClass::Indication => {
                return Err(StunError::NotAResponse);
            }
        };
        let proof = message
            .raw_attribute(ADDRESS_PROOF)
            .and_then(|raw| AddressProof::from_bytes(&raw.value));
        Ok(Self {
            transaction: u128::from(message.transaction_id()).into(),
            outcome,
            other: address(&message, OTHER_ADDRESS),
            origin: address(&message, RESPONSE_ORIGIN),
            proof,
        })
    }
}

/// An address in plain form, if it is there and valid; an IPv4-mapped IPv6 address becomes IPv4.
fn address(message: &Message<'_>, kind: AttributeType) -> Option<SocketAddr> {
    let address = MappedSocketAddr::from_raw(&message.raw_attribute(kind)?).ok()?.addr();
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn mapped(message: &Message<'_>) -> BindingOutcome {
    let xor = message.attribute::<XorMappedAddress>().ok();
    let xor = xor.map(|address| address.addr(message.transaction_id()));
    let xor = xor.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    match xor.or_else(|| address(message, MAPPED_ADDRESS)) {
        Some(address) => BindingOutcome::Mapped(address),
        None => BindingOutcome::NoAddress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_the_bare_header() {
        let request = binding_request(TransactionId::from(7));
        assert_eq!(request.len(), 20);
        assert!(super::super::looks_like_stun(&request));
        assert_eq!(BindingResponse::parse(&request), Err(StunError::NotAResponse));
    }

    #[test]
    fn an_answer_of_a_server_that_knows_only_mapped_address_is_read() {
        let mut response = binding_request(TransactionId::from(9));
        response[0] = 0x01;
        response[3] = 12;
        response.extend_from_slice(&[0, 1, 0, 8, 0, 1, 0x10, 0x20, 203, 0, 113, 5]);
        let response = BindingResponse::parse(&response).unwrap();
        assert_eq!(response.transaction, TransactionId::from(9));
        assert_eq!(response.outcome, BindingOutcome::Mapped("203.0.113.5:4128".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = BindingResponse::parse(&bytes);
            let header = binding_request(TransactionId::from(1));
            let count = bytes.len().min(20);
            bytes[..count].copy_from_slice(&header[..count]);
            if count == 20 {
                bytes[0] = 1;
                let length = bytes.len() - 20;
                bytes[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
            }
            let _outcome = BindingResponse::parse(&bytes);
        }
    }
}
