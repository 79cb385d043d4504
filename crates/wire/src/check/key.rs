//! MESSAGE-INTEGRITY with a short-term password (RFC 8489 §14.5).

use std::fmt;

use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::ATTRIBUTE_HEADER_BYTES;
use crate::stun::HEADER_BYTES;

/// Length of an HMAC-SHA1, in bytes.
pub(super) const MAC_BYTES: usize = 20;

/// A password, prepared: the part of HMAC-SHA1 that is the same for every message is done. Keep one
/// per session and side.
#[derive(Clone)]
pub struct CheckKey(Hmac<Sha1>);

impl CheckKey {
    /// The key of a password, which ICE uses as it stands: ice-chars need no preparation (RFC 8489
    /// §9.1.1).
    #[must_use]
    pub fn new(password: &str) -> Self {
        let hmac = Hmac::new_from_slice(password.as_bytes());
        Self(hmac.expect("invariant: HMAC takes a key of any length"))
    }

    /// The code over a message up to MESSAGE-INTEGRITY. The header's length counts as it stands.
    pub(super) fn compute(&self, covered: &[u8]) -> [u8; MAC_BYTES] {
        self.0.clone().chain_update(covered).finalize().into_bytes().into()
    }

    /// Whether `mac` is the code over a message up to MESSAGE-INTEGRITY, compared in constant time.
    /// The header's length counts as if nothing followed it, whatever the datagram says.
    pub(super) fn verify(&self, covered: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
        let Some(after_header) = covered.len().checked_sub(HEADER_BYTES) else { return false };
        let length = after_header + ATTRIBUTE_HEADER_BYTES + MAC_BYTES;
        let Ok(length) = u16::try_from(length) else { return false };
        let hmac = self.0.clone().chain_update(&covered[..2]).chain_update(length.to_be_bytes());
        hmac.chain_update(&covered[4..]).verify_slice(mac).is_ok()
    }
}

impl fmt::Debug for CheckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckKey(hidden)")
    }
}
