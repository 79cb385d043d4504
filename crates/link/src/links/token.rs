//! By what the first packet of a connection shows to which session it belongs.

use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::session::SessionId;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// What the code is over, first of all.
const CONTEXT: &[u8] = b"holepunch connection v1";
/// Bytes of the token in a connection id; the rest, up to 20 bytes (RFC 9000 §17.2), is random, so that
/// two attempts differ.
const TOKEN_BYTES: usize = 16;
const CONNECTION_ID_BYTES: usize = 20;

/// The beginning of a first connection id. It is made from a password that the two of a session know,
/// so nobody else gets as far as a TLS handshake, and the address that it comes from says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token([u8; TOKEN_BYTES]);

impl Token {
    /// The token of a session, by the credentials of the side that accepts.
    pub(crate) fn new(server: &IceCredentials, session: SessionId) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, server.password().as_bytes());
        let code = hmac::sign(&key, &[CONTEXT, &session.0.to_be_bytes()].concat());
        let mut token = [0; TOKEN_BYTES];
        token.copy_from_slice(&code.as_ref()[..TOKEN_BYTES]);
        Self(token)
    }

    /// The token that a connection begins with.
    pub(crate) fn of_connection(id: &noq::ConnectionId) -> Option<Self> {
        id.first_chunk::<TOKEN_BYTES>()
            .filter(|_| id.len() == CONNECTION_ID_BYTES)
            .map(|it| Self(*it))
    }

    /// A connection id that shows it.
    pub(crate) fn connection_id(self) -> noq::ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        id[..TOKEN_BYTES].copy_from_slice(&self.0);
        // Without randomness, two attempts look like one to the peer: they fail, and nothing else.
        let _or_zeros = SystemRandom::new().fill(&mut id[TOKEN_BYTES..]);
        noq::ConnectionId::new(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_shows_its_session_and_no_two_are_alike() {
        let credentials = |byte| IceCredentials::from_random([byte; 24]);
        let token = Token::new(&credentials(1), SessionId(7));
        let (first, second) = (token.connection_id(), token.connection_id());
        assert_eq!(Token::of_connection(&first), Some(token));
        assert_ne!(first, second);
        assert_ne!(token, Token::new(&credentials(2), SessionId(7)));
        assert_ne!(token, Token::new(&credentials(1), SessionId(8)));
        assert_eq!(Token::of_connection(&noq::ConnectionId::new(&first[..16])), None);
    }
}
