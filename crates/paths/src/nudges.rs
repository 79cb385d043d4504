//! The pings on a detour.

use std::time::{Duration, Instant};

/// After a detour has begun the path is pinged so soon, which doubles ...
const NUDGE_FIRST: Duration = Duration::from_millis(20);
/// ... and this often: 1.3 s in all.
const NUDGES_MAX: u32 = 6;

/// The pings on a detour. The peer follows as soon as it takes a packet that comes this way, and what the cut
/// path has swallowed is sent again when a later packet is acknowledged: QUIC's own timers have backed off.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    at: Option<Instant>,
    made: u32,
}

impl Nudges {
    pub(crate) fn begin(&mut self, now: Instant) {
        *self = Self { at: Some(now), made: 0 };
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether the path is to be pinged now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = (self.made < NUDGES_MAX).then(|| now + NUDGE_FIRST * 2_u32.pow(self.made));
            self.made += 1;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detour_is_pinged_at_once_and_further_and_further_apart() {
        let (start, mut nudges) = (crate::epoch(), Nudges::default());
        assert!(!nudges.is_due(start));
        nudges.begin(start);
        let mut pings = Vec::new();
        while let Some(at) = nudges.at() {
            assert!(nudges.is_due(at) && !nudges.is_due(at));
            pings.push((at - start).as_millis());
        }
        assert_eq!(pings, [0, 20, 60, 140, 300, 620, 1260]);
    }
}
