//! Acknowledgements that come together.

use std::time::Instant;

use crate::filter::MaxFilter;

/// How much more is acknowledged at once than the path delivers in the time: a receiver that was not scheduled, or a radio
/// link that sends in turns, acknowledges nothing for a while and then much. With no more in flight than
/// one such batch, the path would stand still in between.
#[derive(Debug, Clone)]
pub(crate) struct Aggregation {
    since: Option<Instant>,
    acked: f64,
    excess: MaxFilter,
}

impl Aggregation {
    pub(crate) const fn new() -> Self {
        Self { since: None, acked: 0.0, excess: MaxFilter::new() }
    }

    /// A batch of `acked` bytes on a path that delivers `rate` bytes in a second. No more than `most` counts.
    pub(crate) fn handle_batch(
        &mut self,
        acked: u64,
        rate: f64,
        most: u64,
        new_round: bool,
        now: Instant,
    ) {
        let since = *self.since.get_or_insert(now);
        let mut expected = rate * now.saturating_duration_since(since).as_secs_f64();
        if self.acked <= expected {
            self.since = Some(now);
            self.acked = 0.0;
            expected = 0.0;
        }
        self.acked += acked as f64;
        let excess = (self.acked - expected).clamp(0.0, most as f64);
        self.excess.insert(excess, new_round, now);
    }

    /// Bytes that come at once, at most.
    pub(crate) fn excess(&self) -> f64 {
        self.excess.max()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_steady_stream_of_acknowledgements_has_no_excess() {
        let (mut aggregation, start) = (Aggregation::new(), crate::epoch());
        for step in 0..1_000 {
            let now = start + Duration::from_millis(step);
            aggregation.handle_batch(1_000, 1_000_000.0, u64::MAX, false, now);
        }
        assert!(aggregation.excess() <= 2_000.0, "{aggregation:?}");
    }

    #[test]
    fn what_comes_at_once_after_a_pause_is_an_excess_and_no_more_than_the_window() {
        for (most, expected) in [(u64::MAX, 50_000.0), (30_000, 30_000.0)] {
            let (mut aggregation, start) = (Aggregation::new(), crate::epoch());
            for step in 1..20 {
                let now = start + Duration::from_millis(50) * step;
                aggregation.handle_batch(50_000, 1_000_000.0, most, false, now);
            }
            assert_eq!(aggregation.excess(), expected);
        }
    }
}
