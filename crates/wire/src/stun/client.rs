//! The client's half: a Binding request and what comes back.

use std::net::SocketAddr;

use stun_types::attribute::{ErrorCode, MappedSocketAddr, XorMappedAddress};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteVec,
};

use super::MAPPED_ADDRESS;

/// The 96-bit transaction id (RFC 8489 §5), which a stranger cannot guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(u128);

impl From<u128> for TransactionId {
    /// Takes the lower 96 bits.
    fn from(bits: u128) -> Self {
        Self(bits & ((1 << 96) - 1))
    }
}

/// A Binding request without attributes: what every server understands.
#[must_use]
pub fn binding_request(transaction: TransactionId) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    Message::builder(kind, transaction.0.into(), MessageWriteVec::with_capacity(20)).finish()
}

/// A response to a Binding request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingResponse {
    /// The request that it answers.
    pub transaction: TransactionId,
    /// What it says.
    pub outcome: BindingOutcome,
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
        Ok(Self { transaction: u128::from(message.transaction_id()).into(), outcome })
    }
}

fn mapped(message: &Message<'_>) -> BindingOutcome {
    let xor = message.attribute::<XorMappedAddress>().ok();
    let plain = || {
        let raw = message.raw_attribute(MAPPED_ADDRESS)?;
        MappedSocketAddr::from_raw(&raw).ok().map(|address| address.addr())
    };
    let address = xor.map(|address| address.addr(message.transaction_id())).or_else(plain);
    match address {
        Some(address) => {
            let ip = address.ip().to_canonical();
            BindingOutcome::Mapped(SocketAddr::new(ip, address.port()))
        }
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
