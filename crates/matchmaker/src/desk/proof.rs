//! Who has to prove a key, and who has. Signatures are the server's affair: a desk is told which key a message has proved.

use std::time::Duration;

use holepunch_wire::identity::PublicKey;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::signal::v1::WorkerV1;

use super::{Desk, MESSAGES, Open, Question, Surroundings};
use crate::cluster::ClaimError;
use crate::doors::{DropReason, Event, LeaveReason};
use crate::registry::Claimed;

/// Time that a connection has to prove its key: one round trip is needed, and one that lasts several
/// seconds, with a packet lost on the way, is still in time.
pub(super) const PROOF_WITHIN: Duration = Duration::from_secs(10);

impl Desk {
    /// Looks at the key that a hello claims.
    pub(super) fn prove(
        &mut self,
        hello: WorkerV1,
        proved: Option<PublicKey>,
        at: Surroundings<'_>,
    ) {
        let WorkerV1::Hello { key: Some(key), signature, .. } = &hello else { return };
        if self.is_gone {
            return;
        }
        if proved != Some(*key) {
            let is_signed = signature.is_some();
            self.refuse(if is_signed { CloseReason::NotProved } else { CloseReason::Unsigned });
        } else if key.may_be_of(&self.card.worker) {
            let key = *key;
            self.greet(hello, Some(key), at);
        } else {
            self.refuse(CloseReason::KeyOfOtherId);
        }
    }

    /// Asks for the id, and for what can be taken up under it, before a hello is answered.
    pub(super) fn greet(&mut self, hello: WorkerV1, key: Option<PublicKey>, at: Surroundings<'_>) {
        // Before the question, since it is the store of all that is asked.
        if !self.v1.as_mut().is_some_and(|v1| v1.messages.take(MESSAGES, at.now)) {
            return self.ignore(DropReason::TooMany, String::new());
        }
        if let WorkerV1::Hello { room, mode, .. } = &hello {
            if room.as_ref().is_some_and(|room| !self.permit.allows_room(room)) {
                return self.refuse(CloseReason::RoomNotAllowed);
            }
            if mode.is_some_and(|mode| !self.permit.allows_mode(mode)) {
                return self.refuse(CloseReason::ModeNotAllowed);
            }
        }
        self.ask(Question::Claim(key), Open::Hello(Box::new(hello)));
    }

    pub(super) fn claimed(
        &mut self,
        hello: WorkerV1,
        claimed: Result<Claimed, ClaimError>,
        at: Surroundings<'_>,
    ) {
        let Ok(claimed) = claimed else { return self.refuse(CloseReason::OtherKey) };
        let WorkerV1::Hello { key, .. } = &hello else { return };
        if let (Some(key), Some(v1)) = (*key, &mut self.card_mut().v1) {
            v1.key = Some(key);
        }
        if self.proof_until.is_some() {
            self.register(claimed.order, at);
        }
        self.hello(hello, claimed);
    }

    /// Closes a connection that has not proved what it claims.
    pub(super) fn refuse(&mut self, reason: CloseReason) {
        self.event(Event::Refused(self.card.worker.clone(), reason));
        self.close(reason, LeaveReason::Refused);
    }
}
