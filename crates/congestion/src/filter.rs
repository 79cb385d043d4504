//! The greatest of what was seen lately.

use std::time::{Duration, Instant};

/// Stretches of time that a filter tells apart. Eight to ten round trips are what BBR looks back: a whole cycle of
/// probing, so that the highest rate of one is remembered until the next.
const SLOTS: usize = 10;
/// A slot is no shorter than this. Where a round trip takes 50 microseconds, ten of them are over before a process that
/// was not scheduled runs again, and what the path can carry would be forgotten during that pause.
const SLOT_MIN: Duration = Duration::from_millis(20);

/// The greatest value of the last ten round trips, and of at least the last 200 ms.
#[derive(Debug, Clone)]
pub(crate) struct MaxFilter {
    slots: [f64; SLOTS],
    newest: usize,
    since: Option<Instant>,
}

impl MaxFilter {
    pub(crate) const fn new() -> Self {
        Self { slots: [0.0; SLOTS], newest: 0, since: None }
    }

    /// Takes a value of `now`. With `new_round`, a round trip has ended since the last one.
    pub(crate) fn insert(&mut self, value: f64, new_round: bool, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if new_round && now.saturating_duration_since(since) >= SLOT_MIN {
            self.since = Some(now);
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = 0.0;
        }
        let slot = &mut self.slots[self.newest];
        *slot = slot.max(value);
    }

    /// Zero, if there was no value.
    pub(crate) fn max(&self) -> f64 {
        self.slots.iter().copied().fold(0.0, f64::max)
    }

    /// Forgets all but `value`.
    pub(crate) fn reset(&mut self, value: f64) {
        self.slots = [0.0; SLOTS];
        self.slots[self.newest] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_value_is_remembered_for_ten_rounds() {
        let mut filter = MaxFilter::new();
        let start = crate::epoch();
        filter.insert(9.0, true, start);
        for round in 1..SLOTS as u32 {
            filter.insert(1.0, true, start + round * SLOT_MIN);
            assert_eq!(filter.max(), 9.0, "round {round}");
        }
        filter.insert(1.0, true, start + SLOTS as u32 * SLOT_MIN);
        assert_eq!(filter.max(), 1.0);
    }

    #[test]
    fn short_rounds_do_not_forget_it_sooner() {
        let mut filter = MaxFilter::new();
        let start = crate::epoch();
        filter.insert(9.0, true, start);
        for round in 0..1_000 {
            filter.insert(1.0, true, start + Duration::from_micros(100) * round);
        }
        assert_eq!(filter.max(), 9.0);
    }

    #[test]
    fn what_is_not_a_new_round_forgets_nothing() {
        let mut filter = MaxFilter::new();
        let start = crate::epoch();
        filter.insert(9.0, true, start);
        for step in 0..100 {
            filter.insert(1.0, false, start + SLOT_MIN * step);
        }
        assert_eq!(filter.max(), 9.0);
    }
}
