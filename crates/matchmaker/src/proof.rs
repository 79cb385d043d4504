//! Who has to prove a key, who has proved one, and which ids are bound to one. Signatures are the
//! server's affair: the machine is told which key a message has proved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::identity::{self, PublicKey};
use holepunch_wire::signal::FromWorker;
use holepunch_wire::signal::v1::WorkerV1;

use crate::connection::Connection;
use crate::doors::ConnectionId;
use crate::machine::Matchmaker;

/// Time that a connection has to prove its key: one round trip is needed, and one that lasts several
/// seconds, with a packet lost on the way, is still in time.
const PROOF_WITHIN: Duration = Duration::from_secs(10);
/// Reasons of a close, each within the 123 bytes of RFC 6455 §5.5.
const LATE: &str = "this id is bound to a key, and a hello with its proof did not come within 10 s";
const UNSIGNED: &str = "the signature does not prove the key: there is none";
/// Begins with [`NOT_PROVED`](holepunch_wire::signal::v1::NOT_PROVED).
const NOT_OVER_THIS: &str = "the signature does not prove the key: it must be over this server's host, \
                          this welcome's challenge, id and room";
const NOT_OF_ID: &str = "the key does not belong to the id: the id is made from another one";
const OTHER_KEY: &str = "this id is bound to another key";

/// Connections that must prove their key before they are registered.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<ConnectionId, (Connection, Instant)>,
    due: BTreeSet<(Instant, ConnectionId)>,
}

impl Pending {
    pub(crate) fn insert(&mut self, id: ConnectionId, entry: Connection, now: Instant) {
        let until = now + PROOF_WITHIN;
        self.entries.insert(id, (entry, until));
        self.due.insert((until, id));
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let (entry, until) = self.entries.remove(&id)?;
        self.due.remove(&(until, id));
        Some(entry)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.entries.get(&id).map(|(entry, _)| entry)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.entries.get_mut(&id).map(|(entry, _)| entry)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.entries.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Each of them.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        assert_eq!(self.entries.len(), self.due.len(), "each proof has one time");
        self.entries.iter().map(|(id, (entry, until))| {
            assert!(self.due.contains(&(*until, *id)), "{id:?} has another time");
            (*id, entry)
        })
    }

    /// The one whose time ends first, and when.
    pub(crate) fn first(&self) -> Option<(Instant, ConnectionId)> {
        self.due.first().copied()
    }
}

impl Matchmaker {
    /// The key that a registered connection has proved.
    pub(crate) fn key_of(&self, id: ConnectionId) -> Option<PublicKey> {
        self.connections.get(&id)?.v1.as_ref()?.key
    }

    /// The key that an id of a worker's own choice is bound to.
    fn bound_to(&self, worker: &WorkerId) -> Option<PublicKey> {
        let current = self.current.get(worker).and_then(|id| self.key_of(*id));
        current.or_else(|| self.bindings.key(worker))
    }

    /// Whether nobody is registered under this id without the proof of a key.
    pub(crate) fn needs_proof(&self, worker: &WorkerId) -> bool {
        identity::is_made_from_a_key(worker) || self.bound_to(worker).is_some()
    }

    /// Ends what waits for a proof, or is bound, for too long.
    pub(crate) fn expire_proofs(&mut self, now: Instant) {
        // No wake-up for this one: a binding matters to inputs alone, and each of them comes by here.
        self.bindings.expire(now);
        while let Some((at, id)) = self.pending.first()
            && at <= now
        {
            self.refuse(id, LATE, now);
        }
    }

    /// Looks at the key that a message claims, where it claims one. `false`: the connection is closed.
    pub(crate) fn check_key(
        &mut self,
        id: ConnectionId,
        message: &FromWorker<'_>,
        proved: Option<PublicKey>,
        now: Instant,
    ) -> bool {
        let FromWorker::V1(Ok(WorkerV1::Hello { key: Some(key), signature, .. })) = message else {
            return true;
        };
        let entry = self.connections.get(&id).or_else(|| self.pending.get(id));
        let Some(entry) = entry.filter(|entry| entry.v1.is_some()) else { return true };
        let bound = self.bound_to(&entry.worker);
        let refusal = if proved != Some(*key) {
            Some(if signature.is_some() { NOT_OVER_THIS } else { UNSIGNED })
        } else if !key.may_be_of(&entry.worker) {
            Some(NOT_OF_ID)
        } else if bound.is_some_and(|bound| bound != *key) {
            Some(OTHER_KEY)
        } else {
            None
        };
        match refusal {
            Some(reason) => self.refuse(id, reason, now),
            None => self.accept_key(id, *key, now),
        }
        refusal.is_none()
    }

    fn accept_key(&mut self, id: ConnectionId, key: PublicKey, now: Instant) {
        if let Some(entry) = self.pending.remove(id) {
            self.register(id, entry, now);
        }
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if let Some(v1) = &mut entry.v1 {
            v1.key = Some(key);
        }
        self.bindings.remove(&entry.worker);
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
