//! What must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use holepunch_matchmaker::LEASE;
use holepunch_wire::WorkerId;
use holepunch_wire::session::SessionId;

use super::worker::{Kind, Worker};
use super::world::{TROUBLE, World};

/// What one worker knows of a pair, the other one knows by then, or the first is told: the longest that a session waits for
/// a worker, and the longest that the instances need to find each other.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Where those come from who want ids that are not theirs.
pub(super) const THIEVES: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// What did not hold, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// After the beginning of the history.
    pub after: Duration,
    /// What.
    pub what: String,
    /// What happened before, the last at the end.
    pub log: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        write!(f, "{:.3} s: {}", self.after.as_secs_f64(), self.what)
    }
}

impl std::error::Error for Broken {}

impl World {
    /// What must hold at every step.
    pub(super) fn check(&mut self) {
        #[cfg(debug_assertions)]
        for instance in &self.instances {
            instance.machine.check_invariants();
        }
        let broken =
            [self.check_owners(), self.check_thieves(), self.check_halls(), self.check_workers()];
        broken.into_iter().flatten().for_each(|what| self.broken(&what));
    }

    /// A room has one owner, and each next one a higher epoch. (After a fail-over, an owner goes on that nobody knows of,
    /// until its lease is over.)
    fn check_owners(&mut self) -> Option<String> {
        if self.faults.failed_over_at.is_some_and(|at| at + LEASE > self.now) {
            self.owners.clear();
            return None;
        }
        for (number, instance) in self.instances.iter().enumerate() {
            if self.faults.stands_still(number) {
                continue;
            }
            for (room, epoch) in instance.machine.own_rooms(self.now) {
                let before = self.owners.insert(room.clone(), (epoch, number));
                if before.is_some_and(|before| before > (epoch, number)) {
                    return Some(format!("{number} owns {room} as {epoch:?}, before {before:?}"));
                }
            }
        }
        None
    }

    /// An id that is bound to a key is nobody's who has not proved it.
    fn check_thieves(&self) -> Option<String> {
        let mut all = self.instances.iter().flat_map(|it| it.machine.workers());
        let thief = all.find(|worker| worker.observed.ip == THIEVES)?;
        Some(format!("somebody else is {} now", thief.id))
    }

    /// A worker has one peer in a room of pairs, and no peer twice; and it knows of each.
    fn check_halls(&mut self) -> Option<String> {
        let number = |id: &WorkerId| self.workers.iter().position(|worker| worker.id == *id);
        let instances = self.instances.iter().enumerate();
        let awake = instances.filter(|(number, _)| !self.faults.stands_still(*number));
        let mut paired: BTreeMap<(usize, Option<usize>), SessionId> = BTreeMap::new();
        let mut unheard = BTreeMap::new();
        for (session, ends) in awake.flat_map(|(_, it)| it.machine.sessions()) {
            let ends = ends.map(|(worker, is_here)| number(worker).filter(|_| is_here));
            for (own, peer) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                // In one of them, a worker may be that is said to be gone elsewhere.
                let Some(own) = own else { continue };
                let kind = self.workers[own].kind();
                let others = match kind {
                    Kind::Pair => Some(None),
                    Kind::Mesh => peer.map(Some),
                    // Two that call each other from two rooms have two.
                    Kind::Call => None,
                };
                let other = others.and_then(|others| paired.insert((own, others), session));
                // Of two owners, one of which does not know yet that it is none, both may have it.
                if let Some(other) = other.filter(|other| *other != session) {
                    return Some(format!("w{own} is in {session} and in {other}"));
                }
                if !self.workers[own].sessions.contains_key(&session) {
                    let since = self.unheard.get(&(session, own)).copied().unwrap_or(self.now);
                    unheard.insert((session, own), since);
                }
            }
        }
        self.unheard = unheard;
        let late = self.unheard.iter().find(|(_, since)| self.is_settled(**since));
        late.map(|((session, own), _)| format!("w{own} is in {session}, and does not know"))
    }

    /// Whoever has a peer is its peer, or is told; whoever calls is answered.
    fn check_workers(&self) -> Option<String> {
        for (number, worker) in self.workers.iter().enumerate().filter(|(_, it)| it.at.is_some()) {
            for (session, seen) in worker.sessions.iter().filter(|(_, seen)| !seen.is_unsure) {
                let peer = self.workers.iter().find(|it| it.id == seen.peer);
                let knows = peer.is_some_and(|peer| peer.sessions.contains_key(session));
                if !knows && self.is_settled(seen.since) {
                    let peer = &seen.peer;
                    return Some(format!("w{number} has {session} with {peer}, which does not"));
                }
            }
            if let Some((called, _)) = worker.calls.filter(|(_, since)| self.is_settled(*since)) {
                return Some(format!("w{number} calls w{called}, and is not answered"));
            }
        }
        None
    }

    /// Whether what has gone on since then is no passing trouble. In trouble, nobody can be told.
    fn is_settled(&self, since: Instant) -> bool {
        since.max(self.start + TROUBLE) + SETTLED_WITHIN < self.now
    }

    /// What must hold after a time without faults.
    pub(super) fn check_peace(&mut self) {
        let waits = |worker: &&Worker| {
            let since = worker.wants_since;
            worker.sessions.is_empty()
                && since.is_some_and(|at| at + LEASE + SETTLED_WITHIN / 2 < self.now)
        };
        let tenants: BTreeSet<_> = self.workers.iter().map(|it| it.permit.tenant.clone()).collect();
        let rooms = tenants.iter().flat_map(|it| ["", "r", "s", "mesh"].map(|room| (it, room)));
        for (tenant, room) in rooms {
            let is_there = |it: &&Worker| (&it.permit.tenant, it.room) == (tenant, room);
            let there = self.workers.iter().filter(is_there);
            let waiting = there.filter(waits).map(|it| format!("{} ({:?})", it.id, it.protocol));
            let waiting: Vec<String> = waiting.collect();
            if waiting.len() > 1 {
                return self.broken(&format!("these wait in room {room:?}: {waiting:?}"));
            }
        }
        let mesh = self.workers.iter().filter(|it| it.kind() == Kind::Mesh && it.at.is_some());
        let mesh: Vec<&Worker> = mesh.collect();
        let apart = mesh.iter().flat_map(|a| mesh.iter().map(move |b| (a, b))).find(|(a, b)| {
            let is_one = a.permit.tenant == b.permit.tenant;
            is_one
                && a.id < b.id
                && !a.sessions.keys().any(|session| b.sessions.contains_key(session))
        });
        if let Some(what) = apart.map(|(a, b)| format!("{} and {} have not met", a.id, b.id)) {
            self.broken(&what);
        }
    }
}
