//! What a peer says on the first stream, without a stream, for the fuzz targets.

use holepunch_wire::session::SessionId;

use super::proof::{Binding, EXPORTER_BYTES, Proof, Role};
use super::{RoomSecret, understood};
use crate::link::LinkError;

/// What the side that connects says first: whether proofs of the room's secret follow.
///
/// # Errors
/// It speaks another version, or only one of the two has a secret.
pub fn greeting(first: [u8; 2], has_secret: bool) -> Result<bool, LinkError> {
    understood(first, has_secret.then_some(())).map(|secret| secret.is_some())
}

/// Whether `message` and `shown` prove these words to the side that connects, or to the other one; `None`
/// where `message` is none.
#[must_use]
pub fn proof(words: &str, connects: bool, message: &[u8], shown: &[u8]) -> Option<bool> {
    let role = if connects { Role::Connecting } else { Role::Accepting };
    let (proof, _) = Proof::begin(&RoomSecret::new(words), role);
    let binding = Binding { exporter: [7; EXPORTER_BYTES], session: SessionId(1) };
    proof.finish(message, &binding).map(|proofs| proofs.fits(shown))
}
