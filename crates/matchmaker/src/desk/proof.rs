//! Who has to prove a key, and who has. Signatures are the server's affair: a desk is told which key a message has proved.

use std::time::Duration;

use holepunch_wire::identity::PublicKey;
use holepunch_wire::signal::v1::WorkerV1;

use super::{CLOSE_POLICY, Desk, Open, Question, Surroundings};
use crate::cluster::ClaimError;
use crate::doors::{Event, LeaveReason};
use crate::registry::Claimed;

/// Time that a connection has to prove its key: one round trip is needed, and one that lasts several
/// seconds, with a packet lost on the way, is still in time.
pub(super) const PROOF_WITHIN: Duration = Duration::from_secs(10);
/// Reasons of a close, each within the 123 bytes of RFC 6455 §5.5.
pub(super) const LATE: &str =
    "this id is bound to a key, and a hello with its proof did not come within 10 s";
const UNSIGNED: &str = "the signature does not prove the key: there is none";
/// Begins with [`NOT_PROVED`](holepunch_wire::signal::v1::NOT_PROVED).
const NOT_OVER_THIS: &str = "the signature does not prove the key: it must be over this server's host, \
                          this welcome's challenge, id and room";
const NOT_OF_ID: &str = "the key does not belong to the id: the id is made from another one";
pub(super) const OTHER_KEY: &str = "this id is bound to another key";

impl Desk {
    /// Looks at the key that a hello claims.
    pub(super) fn prove(&mut self, hello: WorkerV1, proved: Option<PublicKey>) {
        let WorkerV1::Hello { key: Some(key), signature, .. } = &hello else { return };
        if self.is_gone {
            return;
        }
        if proved != Some(*key) {
            let is_signed = signature.is_some();
            self.refuse(if is_signed { NOT_OVER_THIS } else { UNSIGNED });
        } else if key.may_be_of(&self.card.worker) {
            let key = *key;
            self.greet(hello, Some(key));
        } else {
            self.refuse(NOT_OF_ID);
        }
    }

    /// Asks for the id, and for what can be taken up under it, before a hello is answered.
    pub(super) fn greet(&mut self, hello: WorkerV1, key: Option<PublicKey>) {
        self.ask(Question::Claim(key), Open::Hello(Box::new(hello)));
    }

    pub(super) fn claimed(
        &mut self,
        hello: WorkerV1,
        claimed: Result<Claimed, ClaimError>,
        at: Surroundings<'_>,
    ) {
        let Ok(claimed) = claimed else { return self.refuse(OTHER_KEY) };
        let WorkerV1::Hello { key, .. } = &hello else { return };
        if let (Some(key), Some(v1)) = (*key, &mut self.card_mut().v1) {
            v1.key = Some(key);
        }
        if self.proof_until.is_some() {
            self.register(at);
        }
        self.hello(hello, claimed, at);
    }

    /// Closes a connection that has not proved what it claims.
    pub(super) fn refuse(&mut self, reason: &'static str) {
        self.event(Event::Refused(self.card.worker.clone(), reason));
        self.close(CLOSE_POLICY, reason, LeaveReason::Refused);
    }
}

#[cfg(test)]
mod tests {
    use holepunch_wire::signal::v1::NOT_PROVED;

    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        for reason in [LATE, UNSIGNED, NOT_OVER_THIS, NOT_OF_ID, OTHER_KEY] {
            assert!(reason.len() <= 123, "{reason}");
        }
        assert!(NOT_OVER_THIS.starts_with(NOT_PROVED), "a worker knows it by that");
    }
}
