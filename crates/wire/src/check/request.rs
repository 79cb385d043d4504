//! The request of a check.

use std::fmt;

use stun_types::message::MessageClass;

use super::{
    ATTRIBUTE_HEADER_BYTES, CheckKey, ICE_CONTROLLED, ICE_CONTROLLING, PRIORITY, USE_CANDIDATE,
    USERNAME, begin, push, seal,
};
use crate::credentials::{CREDENTIAL_CHARS_MAX, IceRole, Ufrag, is_ice_chars};
use crate::stun::TransactionId;

/// Longest USERNAME: two username fragments and the colon. ICE allows these four bytes more than
/// STUN does (RFC 8489 §14.3), and this program follows ICE.
pub(super) const USERNAME_BYTES_MAX: usize = 2 * CREDENTIAL_CHARS_MAX + 1;

/// Of a request: all attributes but USERNAME's value, in bytes.
const FIXED_BYTES: usize =
    ATTRIBUTE_HEADER_BYTES + (ATTRIBUTE_HEADER_BYTES + 4) + (ATTRIBUTE_HEADER_BYTES + 8) + 4;

/// A check to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRequest<'a> {
    /// A new one for each transaction, which nobody can guess.
    pub transaction: TransactionId,
    /// The peer's username fragment.
    pub remote_ufrag: &'a Ufrag,
    /// The own username fragment.
    pub local_ufrag: &'a Ufrag,
    /// The priority that a peer-reflexive candidate learnt from this check gets (RFC 8445 §7.1.1).
    pub priority: u32,
    /// The own role.
    pub role: IceRole,
    /// The own tie-breaker, the same in all checks of a session.
    pub tie_breaker: u64,
    /// Whether this pair is nominated; the controlling side alone does that.
    pub use_candidate: bool,
}

impl CheckRequest<'_> {
    /// The datagram. `key` is that of the peer's password.
    #[must_use]
    pub fn encode(&self, key: &CheckKey) -> Vec<u8> {
        let mut buffer = [0; USERNAME_BYTES_MAX];
        let username = self.username(&mut buffer);
        let attributes_bytes = FIXED_BYTES + username.len().next_multiple_of(4);
        let mut out = begin(MessageClass::Request, self.transaction, attributes_bytes);
        push(&mut out, USERNAME, username);
        push(&mut out, PRIORITY, &self.priority.to_be_bytes());
        let role = match self.role {
            IceRole::Controlling => ICE_CONTROLLING,
            IceRole::Controlled => ICE_CONTROLLED,
        };
        push(&mut out, role, &self.tie_breaker.to_be_bytes());
        if self.use_candidate {
            push(&mut out, USE_CANDIDATE, &[]);
        }
        seal(out, key)
    }

    /// `remote:local` (RFC 8445 §7.2.2).
    fn username<'b>(&self, buffer: &'b mut [u8; USERNAME_BYTES_MAX]) -> &'b [u8] {
        let (remote, local) =
            (self.remote_ufrag.as_str().as_bytes(), self.local_ufrag.as_str().as_bytes());
        let length = remote.len() + 1 + local.len();
        let (first, rest) = buffer.split_at_mut(remote.len());
        first.copy_from_slice(remote);
        rest[0] = b':';
        rest[1..=local.len()].copy_from_slice(local);
        &buffer[..length]
    }
}

/// The USERNAME of a request, `receiver:sender` as whoever gets it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Username<'a> {
    receiver: &'a str,
    sender: &'a str,
}

impl<'a> Username<'a> {
    /// Reads the value: two texts of ice-chars, so that a stranger can put nothing else into a log.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > USERNAME_BYTES_MAX {
            return None;
        }
        let (receiver, sender) = std::str::from_utf8(value).ok()?.split_once(':')?;
        let is_valid =
            |ufrag: &str| (1..=CREDENTIAL_CHARS_MAX).contains(&ufrag.len()) && is_ice_chars(ufrag);
        (is_valid(receiver) && is_valid(sender)).then_some(Self { receiver, sender })
    }

    /// The username fragment of whoever got the request.
    #[must_use]
    pub fn receiver(&self) -> &'a str {
        self.receiver
    }

    /// The username fragment of whoever sent it.
    #[must_use]
    pub fn sender(&self) -> &'a str {
        self.sender
    }
}

impl fmt::Display for Username<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.receiver, self.sender)
    }
}
