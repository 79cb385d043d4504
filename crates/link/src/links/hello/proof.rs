//! What proves that both sides of a connection know the same words: SPAKE2 (RFC 9382 in idea; the bytes
//! are those of the crate `spake2`), and a proof of each side over what it comes to.
//!
//! Whoever takes part learns whether one guess at the words was right, and nothing more; whoever listens
//! learns nothing. The proofs' keys depend on the TLS connection, too: somebody who stands between two
//! connections and passes the messages on has two, and the proofs of one are worth nothing in the other.

use holepunch_wire::session::SessionId;
use ring::{hkdf, hmac};
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::RoomSecret;

/// A message of SPAKE2: the sender's side and a point of the curve.
pub(super) const MESSAGE_BYTES: usize = 33;
/// HMAC-SHA256.
pub(crate) const PROOF_BYTES: usize = 32;
/// What an exporter of TLS gives.
pub(super) const EXPORTER_BYTES: usize = 32;

/// The salt of the keys, and what the proofs are over.
const CONTEXT: &[u8] = b"holepunch room secret v1";

/// Which of the two a side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Connecting,
    Accepting,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Connecting => Self::Accepting,
            Self::Accepting => Self::Connecting,
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Connecting => b"connecting",
            Self::Accepting => b"accepting",
        }
    }
}

/// To what a proof is bound: it is of no use anywhere else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    pub(super) exporter: [u8; EXPORTER_BYTES],
    pub(super) session: SessionId,
}

/// A proof that has begun.
#[derive(Debug)]
pub(super) struct Proof {
    spake: Spake2<Ed25519Group>,
    role: Role,
}

impl Proof {
    /// Begins one, with the message for the peer.
    pub(super) fn begin(secret: &RoomSecret, role: Role) -> (Self, Vec<u8>) {
        let password = Password::new(secret.reveal());
        let [first, second] =
            [Role::Connecting, Role::Accepting].map(|role| Identity::new(role.name()));
        let (spake, message) = match role {
            Role::Connecting => Spake2::start_a(&password, &first, &second),
            Role::Accepting => Spake2::start_b(&password, &first, &second),
        };
        (Self { spake, role }, message)
    }

    /// Takes the peer's message; `None` where it is none, or this side's own come back.
    pub(super) fn finish(self, message: &[u8], binding: &Binding) -> Option<Proofs> {
        let shared = self.spake.finish(message).ok()?;
        let shared = hkdf::Salt::new(hkdf::HKDF_SHA256, CONTEXT).extract(&shared);
        let key = |role: Role| {
            let session = binding.session.0.to_be_bytes();
            let info = [role.name(), &session, &binding.exporter];
            let key = shared.expand(&info, hmac::HMAC_SHA256).map(hmac::Key::from);
            key.expect("invariant: HKDF gives 32 bytes")
        };
        Some(Proofs { own: key(self.role), peer: key(self.role.other()) })
    }
}

/// The keys of the two proofs.
#[derive(Debug)]
pub(super) struct Proofs {
    own: hmac::Key,
    peer: hmac::Key,
}

impl Proofs {
    /// What proves to the peer that this side knows the words.
    pub(super) fn own(&self) -> hmac::Tag {
        hmac::sign(&self.own, CONTEXT)
    }

    /// Whether this is the peer's proof. The comparison takes the same time for every wrong one.
    pub(super) fn fits(&self, shown: &[u8]) -> bool {
        hmac::verify(&self.peer, CONTEXT, shown).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding = Binding { exporter: [7; EXPORTER_BYTES], session: SessionId(1) };

    /// Whether each side takes the other's proof.
    fn outcome(words: [&str; 2], bindings: [Binding; 2]) -> [bool; 2] {
        let (first, to_second) = Proof::begin(&RoomSecret::new(words[0]), Role::Connecting);
        let (second, to_first) = Proof::begin(&RoomSecret::new(words[1]), Role::Accepting);
        assert_eq!([to_first.len(), to_second.len()], [MESSAGE_BYTES; 2]);
        let first = first.finish(&to_first, &bindings[0]).unwrap();
        let second = second.finish(&to_second, &bindings[1]).unwrap();
        assert_eq!(first.own().as_ref().len(), PROOF_BYTES);
        [first.fits(second.own().as_ref()), second.fits(first.own().as_ref())]
    }

    #[test]
    fn the_same_words_in_the_same_connection_and_session_prove_themselves() {
        assert_eq!(outcome(["a b", "A  b"], [BINDING; 2]), [true; 2]);
        assert_eq!(outcome(["a b", "a c"], [BINDING; 2]), [false; 2]);
    }

    #[test]
    fn another_connection_or_session_is_worth_nothing() {
        let connection = Binding { exporter: [8; EXPORTER_BYTES], ..BINDING };
        assert_eq!(outcome(["a b"; 2], [BINDING, connection]), [false; 2]);
        let session = Binding { session: SessionId(2), ..BINDING };
        assert_eq!(outcome(["a b"; 2], [BINDING, session]), [false; 2]);
    }

    #[test]
    fn what_comes_back_is_no_proof() {
        let secret = RoomSecret::new("a b");
        for role in [Role::Connecting, Role::Accepting] {
            let (proof, message) = Proof::begin(&secret, role);
            assert!(proof.finish(&message, &BINDING).is_none(), "{role:?}");
            let (proof, _) = Proof::begin(&secret, role);
            let (_, message) = Proof::begin(&secret, role.other());
            let proofs = proof.finish(&message, &BINDING).unwrap();
            assert!(!proofs.fits(proofs.own().as_ref()), "{role:?}");
        }
    }

    #[test]
    fn whatever_is_no_message_is_refused() {
        let secret = RoomSecret::new("a b");
        let begin = || Proof::begin(&secret, Role::Connecting).0;
        let (_, good) = Proof::begin(&secret, Role::Accepting);
        let longer = [&good[..], &[0]].concat();
        // The point with this y is not on the curve.
        let mut no_point = [0; MESSAGE_BYTES];
        (no_point[0], no_point[1]) = (good[0], 2);
        for bad in [&[][..], &good[..MESSAGE_BYTES - 1], &longer, &no_point] {
            assert!(begin().finish(bad, &BINDING).is_none(), "{bad:?}");
        }
        assert!(!begin().finish(&good, &BINDING).unwrap().fits(&[]));
    }

    #[test]
    fn a_point_of_small_order_gives_no_key_that_can_be_known_without_the_words() {
        // The neutral point, and the one of order two: y = 1, y = -1.
        let mut neutral = [0; MESSAGE_BYTES];
        (neutral[0], neutral[1]) = (0x42, 1);
        let mut order_two = [0xff; MESSAGE_BYTES];
        (order_two[0], order_two[1], order_two[MESSAGE_BYTES - 1]) = (0x42, 0xec, 0x7f);
        for point in [neutral, order_two] {
            let proofs = ["a b", "a b"].map(|words| {
                let (proof, _) = Proof::begin(&RoomSecret::new(words), Role::Connecting);
                proof.finish(&point, &BINDING).unwrap()
            });
            assert!(!proofs[0].fits(proofs[1].own().as_ref()));
            assert_ne!(proofs[0].own().as_ref(), proofs[1].own().as_ref());
        }
    }
}
