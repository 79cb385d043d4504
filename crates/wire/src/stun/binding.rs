//! What a Binding request asks for and what its answer says, in either form.

use std::net::SocketAddr;

use super::proof::AddressProof;

/// From where a client wants its answer (RFC 5780 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangeRequest {
    /// From the other IP address.
    pub ip: bool,
    /// From the other port.
    pub port: bool,
}

/// What a success response carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingSuccess {
    /// The source address of the request.
    pub mapped: SocketAddr,
    /// Where the response is sent from; written where `other` is.
    pub origin: SocketAddr,
    /// The server's other address, where it has one.
    pub other: Option<SocketAddr>,
    /// The proof for `mapped`, where the request asked for one; the classic form has no place for it.
    pub proof: Option<AddressProof>,
}

/// Why a datagram gets no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// It is no STUN message.
    #[error("not a well-formed STUN message")]
    Malformed,
    /// It is a response, an indication, or another method than Binding.
    #[error("a STUN message that is not a Binding request")]
    NotARequest,
}
