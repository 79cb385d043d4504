//! The store of one process: what several instances of it, or one alone, ask.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Epoch, LEASE, Reply, Request};
use crate::doors::Config;
use crate::names::Room;
use crate::registry::Registry;
use crate::seat::InstanceId;

/// Who is there, who owns what, and who is connected where.
#[derive(Debug, Default, Clone)]
pub struct Store {
    /// There is one rendezvous alone, which has no lease.
    is_of_one: bool,
    /// Until when each instance has its lease.
    leases: BTreeMap<InstanceId, Instant>,
    rooms: BTreeMap<Room, (InstanceId, Epoch)>,
    /// The highest one that any room has had.
    epoch: Epoch,
    /// Everybody who is connected.
    pub registry: Registry,
    /// Counts how often the newest writes were lost.
    pub number: u64,
}

impl Store {
    /// That of a rendezvous which is alone.
    pub(crate) fn of_one() -> Self {
        Self { is_of_one: true, ..Self::default() }
    }

    /// Carries out a request of an instance.
    pub fn answer(
        &mut self,
        from: InstanceId,
        request: Request,
        config: &Config,
        now: Instant,
    ) -> Reply {
        match request {
            Request::Renew { again } => {
                // What has another number by now is nobody under the one before.
                let is_own = |other: &InstanceId| other.process() == from.process();
                let is_older = self.leases.keys().any(|other| is_own(other) && *other > from);
                let is_over = again && !self.has_lease(from, now);
                if !is_older && !is_over {
                    self.leases.insert(from, now + LEASE);
                }
                let is_before = |other: &InstanceId| is_own(other) && *other < from;
                let gone = self.leases.extract_if(.., |it, until| *until <= now || is_before(it));
                let gone: Vec<InstanceId> = gone.map(|(instance, _)| instance).collect();
                gone.iter().for_each(|instance| self.registry.instance_gone(*instance, now));
                Reply::Renewed { live: self.leases.keys().copied().collect(), store: self.number }
            }
            Request::Resign => {
                self.leases.remove(&from);
                self.registry.instance_gone(from, now);
                Reply::Done
            }
            Request::Own { room, known } => self.own(from, (room, known), now),
            Request::Disown { room, epoch } => {
                if self.rooms.get(&room) == Some(&(from, epoch)) {
                    self.rooms.remove(&room);
                }
                Reply::Done
            }
            Request::Admits { worker, ip } => {
                Reply::Admits(self.registry.admits(&worker, ip, config))
            }
            Request::List { within, after, limit } => {
                Reply::Listed(self.registry.list(within.as_ref(), after.as_ref(), limit))
            }
            // What came late would else stay for ever: nobody ends what an instance has that is gone.
            Request::Arrive { seat, .. } | Request::Claim { seat, .. }
                if !self.is_of_one && !self.has_lease(seat.instance, now) =>
            {
                Reply::NotLive
            }
            Request::Arrive { seat, worker, ip } => {
                let admitted = self.registry.admits(&worker, ip, config);
                let needs_proof = admitted.map(|()| {
                    self.registry.arrive(seat, (&worker.tenant, ip));
                    self.registry.needs_proof(&worker, now)
                });
                Reply::Arrived(seat, needs_proof)
            }
            Request::Claim { seat, worker, ip, key, again } => {
                // Higher than any that has been forgotten.
                self.registry.order = self.registry.order.max(self.number << 40);
                match again {
                    Some(before) => {
                        let claimed = self.registry.reclaim(&worker, before, (seat, ip), key);
                        Reply::Reclaimed(seat, claimed)
                    }
                    None => {
                        Reply::Claimed(seat, self.registry.claim(&worker, (seat, ip), key, now))
                    }
                }
            }
            Request::Find { seat, worker } => Reply::Found(seat, self.registry.find(&worker)),
            Request::Is { seat, worker, is } => {
                self.registry.is(&worker, seat, is);
                Reply::Done
            }
            Request::Release { seat, worker, ip, outlives, has_sessions } => {
                self.registry.release(&worker, (seat, ip), (outlives, has_sessions), now);
                Reply::Done
            }
        }
    }

    fn has_lease(&self, instance: InstanceId, now: Instant) -> bool {
        self.leases.get(&instance).is_some_and(|until| *until > now)
    }

    fn own(&mut self, from: InstanceId, (room, known): (Room, Epoch), now: Instant) -> Reply {
        let current = self.rooms.get(&room).copied();
        let is_other =
            |owner: &InstanceId| owner.process() != from.process() && self.has_lease(*owner, now);
        let other = current.filter(|(owner, _)| is_other(owner));
        let (owner, epoch) = match other {
            Some((owner, epoch)) if epoch >= known => (owner, epoch),
            // Also where it asks again: what it said before is of before. Another one learns that there has been a
            // later epoch, which was forgotten here, from whoever speaks to it.
            _ => {
                self.epoch = Epoch(self.epoch.max(known).0 + 1);
                (other.map_or(from, |(owner, _)| owner), self.epoch)
            }
        };
        self.rooms.insert(room.clone(), (owner, epoch));
        Reply::Owner { room, owner, epoch, was_owned: current.is_some() }
    }
}
