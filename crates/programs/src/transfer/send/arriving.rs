//! How much of what was handed to the link has arrived. The link takes many megabytes ahead of a slow line: what it has
//! taken says nothing to whoever waits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::progress::Progress;
use super::super::summary::Phase;

/// Bytes of files on one link.
#[derive(Debug)]
pub(super) struct Arriving<'a> {
    progress: &'a Progress,
    /// Whether the receiver tells how much has come. Of one that does not, what was handed over is taken for it.
    is_told: bool,
    bytes: Mutex<Bytes>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    handed: u64,
    arrived: u64,
    /// Nothing more will be handed over.
    is_all: bool,
    /// Files of which the receiver has told what became.
    results: u64,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(progress: &'a Progress, is_told: bool) -> Self {
        Self { progress, is_told, bytes: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link is about to take so many bytes.
    pub(super) fn hands(&self, bytes: u64) {
        self.lock().handed += bytes;
    }

    /// It has taken all that it was to.
    pub(super) fn handed(&self) {
        if !self.is_told {
            self.arrive(u64::MAX);
        }
    }

    /// Everything was handed over.
    pub(super) fn is_all(&self) {
        self.lock().is_all = true;
        self.look();
    }

    /// The receiver says that so many bytes have come.
    pub(super) fn told(&self, bytes: u64) {
        if self.is_told {
            self.arrive(bytes);
            self.look();
        }
    }

    /// The receiver says what became of a file.
    pub(super) fn has_result(&self) {
        self.lock().results += 1;
    }

    /// What has come of all that was handed over; `None` while more follows.
    pub(super) fn outcome(&self) -> Option<(u64, u64)> {
        let all = self.lock();
        all.is_all.then_some((all.arrived, all.results))
    }

    /// The receiver has finished: all has come.
    pub(super) fn finished(&self) {
        self.arrive(u64::MAX);
        self.progress.is_at(Phase::End);
    }

    /// More than was handed over cannot have come, whatever the receiver says.
    fn arrive(&self, bytes: u64) {
        let mut all = self.lock();
        let new = bytes.min(all.handed).saturating_sub(all.arrived);
        all.arrived += new;
        drop(all);
        if new > 0 {
            self.progress.transferred(new);
        }
    }

    fn look(&self) {
        let all = *self.lock();
        // Of a receiver that does not tell, nobody knows.
        if self.is_told && all.is_all && all.arrived == all.handed {
            self.progress.is_at(Phase::Disk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_tells_counts_and_no_more_than_was_handed_over() {
        let progress = Progress::default();
        let arriving = Arriving::new(&progress, true);
        arriving.hands(100);
        arriving.handed();
        assert_eq!(progress.summary().bytes_transferred, 0, "nothing has come");
        for (told, counted) in [(40, 40), (30, 40), (u64::MAX, 100)] {
            arriving.told(told);
            assert_eq!(progress.summary().bytes_transferred, counted);
        }
        assert_eq!(progress.summary().phase, Phase::Transfer, "more may follow");
        arriving.is_all();
        assert_eq!(progress.summary().phase, Phase::Disk);
        arriving.finished();
        assert_eq!(progress.summary().phase, Phase::End);
    }

    #[test]
    fn of_a_receiver_that_tells_nothing_what_was_handed_over_counts() {
        let progress = Progress::default();
        let arriving = Arriving::new(&progress, false);
        arriving.hands(100);
        arriving.handed();
        arriving.is_all();
        assert_eq!(progress.summary().bytes_transferred, 100);
        assert_eq!(progress.summary().phase, Phase::Transfer);
    }
}
