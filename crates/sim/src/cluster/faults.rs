//! What fails, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use holepunch_matchmaker::Store;

use super::Failing;
use super::world::{Happening, Instance, TROUBLE, World};

/// An instance that stands still for longer is taken for gone, and sessions of its workers with it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(25);

/// What does not work at the moment.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Of a hundred packets between instances: lost, doubled.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Pairs of instances that do not hear each other, the smaller first.
    cut: BTreeSet<(usize, usize)>,
    pub(super) store_is_away: bool,
    /// Instances that stand still, and since when.
    pub(super) still: BTreeMap<usize, Instant>,
    /// The store as it was a while ago, which is what is left after a fail-over.
    backup: Option<(Instant, Store)>,
    /// When it has last come back to that.
    pub(super) failed_over_at: Option<Instant>,
}

/// One thing that begins to fail, or ends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Lossy(bool),
    Cut(usize, usize, bool),
    Store(bool),
    /// The store loses what it was told in the last moments.
    FailOver,
    Still(usize, bool),
    /// An instance dies, and another one begins in its place.
    Crash(usize),
    /// A worker loses its connection.
    Break(usize),
}

impl Faults {
    pub(super) fn are_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn stands_still(&self, number: usize) -> bool {
        self.still.contains_key(&number)
    }

    /// Keeps what a fail-over would come back to: at most this old.
    pub(super) fn back_up(&mut self, store: &Store, now: Instant) {
        const AGE: Duration = Duration::from_millis(700);
        if self.backup.as_ref().is_none_or(|(at, _)| *at + AGE <= now) {
            self.backup = Some((now, store.clone()));
        }
    }
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        if self.setting.faults.is_empty() {
            return;
        }
        let n = self.setting.instances as u64;
        for _ in 0..self.chance.below(8) {
            let at = self.chance.ms(0, 110_000);
            let lasts = self.chance.ms(50, 20_000);
            let one = self.chance.below(n) as usize;
            let other = self.chance.below(n) as usize;
            let kind = self.chance.below(self.setting.faults.len() as u64) as usize;
            let (begins, ends) = match self.setting.faults[kind] {
                Failing::Fabric => (Fault::Lossy(true), Some(Fault::Lossy(false))),
                Failing::Partition if one == other => continue,
                Failing::Partition => {
                    (Fault::Cut(one, other, true), Some(Fault::Cut(one, other, false)))
                }
                Failing::Store => (Fault::Store(true), Some(Fault::Store(false))),
                Failing::FailOver => (Fault::FailOver, None),
                Failing::Pause => (Fault::Still(one, true), Some(Fault::Still(one, false))),
                Failing::Crash => (Fault::Crash(one), None),
                Failing::Connection => {
                    let worker = self.chance.below(self.setting.workers as u64);
                    (Fault::Break(worker as usize), None)
                }
            };
            let is_long = matches!(begins, Fault::Still(..)) && self.chance.is(30);
            let end = (at + if is_long { lasts * 3 } else { lasts }).min(TROUBLE);
            self.after(at, Happening::Fault(begins));
            ends.into_iter().for_each(|fault| self.after(end, Happening::Fault(fault)));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(format!("{fault:?}"));
        match fault {
            Fault::Lossy(begins) => {
                (self.faults.lost, self.faults.doubled) = if begins { (30, 20) } else { (0, 0) };
            }
            Fault::Cut(a, b, true) => drop(self.faults.cut.insert((a.min(b), a.max(b)))),
            Fault::Cut(a, b, false) => drop(self.faults.cut.remove(&(a.min(b), a.max(b)))),
            Fault::Store(is_away) => self.faults.store_is_away = is_away,
            Fault::FailOver => {
                if let Some((_, mut backup)) = self.faults.backup.take() {
                    backup.number = self.store.number + 1;
                    self.store = backup;
                    self.faults.failed_over_at = Some(self.now);
                    self.owners.clear();
                }
            }
            Fault::Still(number, true) => {
                self.faults.still.entry(number).or_insert(self.now);
            }
            Fault::Still(number, false) => self.wakes(number),
            Fault::Crash(number) => self.crash(number),
            Fault::Break(worker) => self.lose(worker),
        }
    }

    /// An instance goes on that has stood still.
    fn wakes(&mut self, number: usize) {
        let since = self.faults.still.remove(&number);
        if since.is_some_and(|since| since + FORGOTTEN_AFTER < self.now) {
            self.workers_at(number).into_iter().for_each(|worker| self.goes_by_itself(worker));
        }
        for happening in std::mem::take(&mut self.instances[number].backlog) {
            self.happen(happening);
        }
    }

    fn crash(&mut self, number: usize) {
        let born = self.instances[number].born + 1;
        self.instances[number] =
            Instance::new((number, born), &self.setting, &self.config, &mut self.chance, self.now);
        self.workers_at(number).into_iter().for_each(|worker| self.lose(worker));
        // Behind that: one that stood still has been out of reach of its workers since then.
        self.faults.still.remove(&number);
    }

    fn workers_at(&self, number: usize) -> Vec<usize> {
        let is_there = |at: &usize| self.workers[*at].at.is_some_and(|at| at.0 == number);
        (0..self.workers.len()).filter(is_there).collect()
    }
}
