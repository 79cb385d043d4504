//! Proof of address: what the rendezvous' own STUN server saw, in a form that a worker can carry to
//! the rendezvous.
//!
//! The rendezvous gives a session a [`ProofNonce`]. The worker puts it into a Binding request
//! (PROOF-NONCE); the server answers with an [`AddressProof`] (ADDRESS-PROOF) for the source address
//! of that request. Whoever cannot receive at an address never sees the proof for it, and a proof
//! for one session's nonce is of no use to another. Both attributes are comprehension-optional, so
//! other servers and clients step over them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stun_types::attribute::AttributeType;

/// How long a proof is good: time enough to bring it to the rendezvous, and for one lost report. A
/// mapping that was given up may belong to somebody else soon after.
pub const PROOF_LIFETIME: Duration = Duration::from_secs(60);

/// PROOF-NONCE, in a request.
pub(super) const PROOF_NONCE: AttributeType = AttributeType::new(0xc07e);
/// ADDRESS-PROOF, in a success response.
pub(super) const ADDRESS_PROOF: AttributeType = AttributeType::new(0xc07f);

/// Length of a nonce, in bytes.
const NONCE_BYTES: usize = 16;
/// Length of the authentication code, in bytes: HMAC-SHA256 cut to 128 bits (RFC 2104 §5).
const MAC_BYTES: usize = 16;
/// Length of a proof, in bytes.
const PROOF_BYTES: usize = 8 + MAC_BYTES;

/// What a STUN server and its rendezvous share, and nobody else knows.
#[derive(Clone)]
pub struct ProofKey(Hmac<Sha256>);

impl ProofKey {
    /// A key of bytes that nobody can guess.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let hmac = Hmac::new_from_slice(&bytes);
        Self(hmac.expect("invariant: HMAC takes a key of any length"))
    }

    /// The proof that a request with `nonce` came from `address`, good until `expires`, in seconds
    /// of Unix time.
    #[must_use]
    pub fn prove(&self, nonce: ProofNonce, address: SocketAddr, expires: u64) -> AddressProof {
        let code = self.code(nonce, address, expires).finalize().into_bytes();
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&code[..MAC_BYTES]);
        AddressProof { expires, mac }
    }

    /// Whether `proof` was made with this key for `nonce` and `address`, and is still good at
    /// `now_unix_s`, in seconds of Unix time. The code is compared in constant time.
    ///
    /// # Errors
    /// It was not, or it has expired.
    pub fn verify(
        &self,
        nonce: ProofNonce,
        address: SocketAddr,
        proof: &AddressProof,
        now_unix_s: u64,
    ) -> Result<(), ProofError> {
        let code = self.code(nonce, address, proof.expires);
        code.verify_truncated_left(&proof.mac).map_err(|_| ProofError::NotOurs)?;
        match now_unix_s.checked_sub(proof.expires) {
            Some(ago_s) if ago_s > 0 => Err(ProofError::Expired { ago_s }),
            Some(_) | None => Ok(()),
        }
    }

    /// The code over nonce, family, address, port and expiry. The family says how long the address
    /// is, so no two inputs look alike.
    fn code(&self, nonce: ProofNonce, address: SocketAddr, expires: u64) -> Hmac<Sha256> {
        let hmac = self.0.clone().chain_update(nonce.0);
        let hmac = match address.ip().to_canonical() {
            IpAddr::V4(ip) => hmac.chain_update([1]).chain_update(ip.octets()),
            IpAddr::V6(ip) => hmac.chain_update([2]).chain_update(ip.octets()),
        };
        hmac.chain_update(address.port().to_be_bytes()).chain_update(expires.to_be_bytes())
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(hidden)")
    }
}

/// What proofs are stamped and checked with: Unix time as it was at one moment, and what has passed since on
/// the clock that nobody sets. A wall clock that is set would end all proofs, or make them last. Those who stamp
/// and those who check have to share one of these. So two machines that share a key need more than the key: their
/// bases differ by what their wall clocks differed by when each was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofClock {
    moment: Instant,
    unix: Duration,
}

impl ProofClock {
    /// A clock that showed `unix`, the time since 1970, at `moment`.
    #[must_use]
    pub fn new(moment: Instant, unix: Duration) -> Self {
        Self { moment, unix }
    }

    /// What it shows at `now`, in seconds.
    #[must_use]
    pub fn unix_s(&self, now: Instant) -> u64 {
        (self.unix + now.saturating_duration_since(self.moment)).as_secs()
    }

    /// Until when a proof that is made `now` is good.
    #[must_use]
    pub fn expiry(&self, now: Instant) -> u64 {
        self.unix_s(now) + PROOF_LIFETIME.as_secs()
    }
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It was made for another address or nonce, with another key, or by a forger.
    #[error("the proof is not for this address and session, or not of this rendezvous")]
    NotOurs,
    /// It was good once.
    #[error("the proof expired {ago_s} s ago; it is good for {} s", PROOF_LIFETIME.as_secs())]
    Expired {
        /// How long ago, in seconds.
        ago_s: u64,
    },
}

/// What ties a proof to one session; 32 hexadecimal digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProofNonce(pub [u8; NONCE_BYTES]);

/// What a STUN server says of the source address of a request; 48 hexadecimal digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressProof {
    /// Until when it is good, in seconds of Unix time.
    pub expires: u64,
    /// The authentication code.
    pub mac: [u8; MAC_BYTES],
}

impl AddressProof {
    /// The value of ADDRESS-PROOF: expiry and code.
    pub(crate) fn to_bytes(self) -> [u8; PROOF_BYTES] {
        let mut bytes = [0; PROOF_BYTES];
        let (expires, mac) = bytes.split_at_mut(PROOF_BYTES - MAC_BYTES);
        expires.copy_from_slice(&self.expires.to_be_bytes());
        mac.copy_from_slice(&self.mac);
        bytes
    }

    /// Reads the value of ADDRESS-PROOF; `None` where it has another length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (expires, mac) = bytes.split_first_chunk::<{ PROOF_BYTES - MAC_BYTES }>()?;
        let mac = mac.try_into().ok()?;
        Some(Self { expires: u64::from_be_bytes(*expires), mac })
    }
}

/// Why a text is not a nonce or a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, got {got} bytes of text")]
pub struct HexError {
    /// How many digits there have to be.
    pub expected: usize,
    /// How long the text is, in bytes.
    pub got: usize,
}

impl fmt::Display for ProofNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl FromStr for ProofNonce {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        read_hex(text).map(Self)
    }
}

impl fmt::Display for AddressProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.to_bytes(), f)
    }
}

impl FromStr for AddressProof {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let bytes: [u8; PROOF_BYTES] = read_hex(text)?;
        let error = HexError { expected: 2 * PROOF_BYTES, got: text.len() };
        Self::from_bytes(&bytes).ok_or(error)
    }
}

crate::as_text!(ProofNonce);

crate::as_text!(AddressProof);

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn read_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let error = HexError { expected: 2 * N, got: text.len() };
    if text.len() != 2 * N {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |index: usize| char::from(pair[index]).to_digit(16).ok_or(error);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| error)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: ProofNonce = ProofNonce([5; NONCE_BYTES]);

    fn key() -> ProofKey {
        ProofKey::new([1; 32])
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_code_is_hmac_sha256_over_nonce_family_address_port_and_expiry() {
        let proof = key().prove(NONCE, address("203.0.113.5:4000"), 1_800_000_000);
        let mut hmac = Hmac::<Sha256>::new_from_slice(&[1; 32]).unwrap();
        hmac.update(&[5; 16]);
        hmac.update(&[1, 203, 0, 113, 5, 0x0f, 0xa0, 0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x00]);
        assert_eq!(proof.mac, hmac.finalize().into_bytes()[..16]);
    }

    #[test]
    fn a_proof_holds_for_its_own_address_nonce_and_key_alone() {
        let here = address("203.0.113.5:4000");
        let proof = key().prove(NONCE, here, 100);
        assert_eq!(key().verify(NONCE, here, &proof, 50), Ok(()));
        let not_ours = Err(ProofError::NotOurs);
        for there in ["203.0.113.5:4001", "203.0.113.6:4000", "[2001:db8::1]:4000"] {
            assert_eq!(key().verify(NONCE, address(there), &proof, 50), not_ours, "{there}");
        }
        let other_nonce = ProofNonce([6; NONCE_BYTES]);
        assert_eq!(key().verify(other_nonce, here, &proof, 50), not_ours);
        assert_eq!(ProofKey::new([2; 32]).verify(NONCE, here, &proof, 50), not_ours);
        let longer = AddressProof { expires: 101, ..proof };
        assert_eq!(key().verify(NONCE, here, &longer, 50), not_ours);
    }

    #[test]
    fn an_address_is_the_same_in_either_family_s_form() {
        let proof = key().prove(NONCE, address("[::ffff:203.0.113.5]:4000"), 100);
        assert_eq!(key().verify(NONCE, address("203.0.113.5:4000"), &proof, 50), Ok(()));
    }

    #[test]
    fn a_proof_expires_after_its_last_second() {
        let here = address("[2001:db8::1]:4000");
        let proof = key().prove(NONCE, here, 100);
        assert_eq!(key().verify(NONCE, here, &proof, 100), Ok(()));
        let error = ProofError::Expired { ago_s: 1 };
        assert_eq!(key().verify(NONCE, here, &proof, 101), Err(error));
        assert_eq!(error.to_string(), "the proof expired 1 s ago; it is good for 60 s");
        assert!(key().verify(NONCE, here, &proof, u64::MAX).is_err());
    }

    #[test]
    fn the_text_forms_are_hexadecimal_digits_of_one_length() {
        let proof = AddressProof { expires: 0x0102, mac: [0xab; MAC_BYTES] };
        let text = format!("0000000000000102{}", "ab".repeat(16));
        assert_eq!(proof.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(proof));
        assert_eq!(serde_json::to_string(&proof).unwrap(), format!("\"{text}\""));
        assert_eq!(NONCE.to_string(), "05".repeat(16));
        for text in ["", "05", &"05".repeat(17), &"0x".repeat(16), &"+5".repeat(16)] {
            assert!(text.parse::<ProofNonce>().is_err(), "{text}");
        }
        let error = "ü".repeat(16).parse::<ProofNonce>();
        assert_eq!(error, Err(HexError { expected: 32, got: 32 }));
    }

    #[test]
    fn the_key_stays_hidden() {
        assert_eq!(format!("{:?}", key()), "ProofKey(hidden)");
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(expires: u64, mac: [u8; 16], nonce: [u8; 16]) {
            let proof = AddressProof { expires, mac };
            prop_assert_eq!(AddressProof::from_bytes(&proof.to_bytes()), Some(proof));
            prop_assert_eq!(proof.to_string().parse(), Ok(proof));
            let nonce = serde_json::to_string(&ProofNonce(nonce)).unwrap();
            let read = serde_json::from_str::<ProofNonce>(&nonce).unwrap();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), nonce);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _outcome = text.parse::<AddressProof>();
            let _outcome = text.parse::<ProofNonce>();
        }
    }
}
