//! The key of a worker, and what it proves with it.

use std::fmt;
use std::sync::Arc;

use holepunch_wire::WorkerId;
use holepunch_wire::identity::{PublicKey, Registration, Signature};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;

/// An Ed25519 key pair (RFC 8032). Cheap to clone; the private half is never shown.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    pair: Ed25519KeyPair,
    /// The same key in the form that TLS takes.
    signing: Arc<dyn SigningKey>,
    pkcs8: Vec<u8>,
}

/// Why there is no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a key")]
    NoRandom,
    /// The bytes are no key.
    #[error("expected an Ed25519 key pair in PKCS#8 (RFC 5958)")]
    NotAKey,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, IdentityError> {
        let random = ring::rand::SystemRandom::new();
        let document =
            Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| IdentityError::NoRandom)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key pair: PKCS#8 (RFC 5958) in DER.
    ///
    /// # Errors
    /// The bytes are no such key pair.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, IdentityError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| IdentityError::NotAKey)?;
        let key = PrivatePkcs8KeyDer::from(der.to_vec());
        let signing =
            rustls::crypto::ring::sign::any_eddsa_type(&key).map_err(|_| IdentityError::NotAKey)?;
        Ok(Self(Arc::new(Inner { pair, signing, pkcs8: der.to_vec() })))
    }

    /// The key pair as [`from_pkcs8`](Self::from_pkcs8) takes it: a secret.
    #[must_use]
    pub fn reveal_pkcs8(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let bytes = self.0.pair.public_key().as_ref().try_into();
        PublicKey::from_bytes(bytes.expect("invariant: an Ed25519 public key has 32 bytes"))
    }

    /// The id that is made from the key.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        self.public_key().worker_id()
    }

    /// Proves the key to a rendezvous, for one registration.
    #[must_use]
    pub fn sign(&self, registration: &Registration<'_>) -> Signature {
        let signature = self.0.pair.sign(&registration.to_signed_bytes());
        let bytes = signature.as_ref().try_into();
        Signature::from_bytes(bytes.expect("invariant: an Ed25519 signature has 64 bytes"))
    }

    pub(crate) fn signing_key(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.0.signing)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_wire::session::RoomName;
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_key_pair_survives_being_written_down() {
        let identity = Identity::generate().unwrap();
        let again = Identity::from_pkcs8(identity.reveal_pkcs8()).unwrap();
        assert_eq!(identity.public_key(), again.public_key());
        assert_ne!(identity.public_key(), Identity::generate().unwrap().public_key());
        assert_eq!(Identity::from_pkcs8(&[1, 2, 3]).unwrap_err(), IdentityError::NotAKey);
    }

    #[test]
    fn debug_shows_the_public_half_alone() {
        let identity = Identity::generate().unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.public_key()));
    }

    #[test]
    fn a_signature_is_that_of_the_registration() {
        let identity = Identity::generate().unwrap();
        let (worker, room) = (identity.worker_id(), RoomName::default());
        let registration =
            Registration { host: "a.example", challenge: "c", worker: &worker, room: &room };
        let signature = identity.sign(&registration);
        let key = identity.public_key();
        let key = UnparsedPublicKey::new(&ED25519, key.as_bytes());
        let verify = |it: Registration<'_>| key.verify(&it.to_signed_bytes(), signature.as_bytes());
        assert!(verify(registration).is_ok());
        assert!(verify(Registration { host: "b.example", ..registration }).is_err());
    }
}
