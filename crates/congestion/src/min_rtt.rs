//! The shortest round-trip time: what the path takes without a queue.

use std::time::{Duration, Instant};

/// How long a shortest time is believed: routes change.
const BELIEVED: Duration = Duration::from_secs(10);
/// How long the queue is kept empty to measure it anew: others that share the queue do so at the same time.
const PROBE_MAX: Duration = Duration::from_millis(200);
/// The same on a short path, in round trips.
const PROBE_ROUNDS: u32 = 8;

/// The shortest round-trip time of the last ten seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinRtt {
    shortest: Option<(Duration, Instant)>,
}

impl MinRtt {
    pub(crate) const fn new() -> Self {
        Self { shortest: None }
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        self.shortest.map(|(shortest, _)| shortest)
    }

    /// Takes a sample; a `light` one is of a packet that found next to nothing in flight. Tells whether the shortest time
    /// has to be measured anew.
    pub(crate) fn handle_sample(&mut self, rtt: Duration, light: bool, now: Instant) -> bool {
        let Some((shortest, at)) = self.shortest else {
            self.shortest = Some((rtt, now));
            return false;
        };
        let expired = now.saturating_duration_since(at) > BELIEVED;
        if rtt <= shortest || expired {
            self.shortest = Some((rtt, now));
        }
        // With a light sample nothing has to be measured: it was without a queue of our own.
        expired && !light
    }

    /// How long a measurement takes.
    pub(crate) fn probe_length(&self) -> Duration {
        self.get().map_or(PROBE_MAX, |shortest| (shortest * PROBE_ROUNDS).min(PROBE_MAX))
    }

    /// A measurement is over.
    pub(crate) fn handle_probed(&mut self, now: Instant) {
        if let Some((_, at)) = &mut self.shortest {
            *at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(11);

    #[test]
    fn the_shortest_one_counts() {
        let (mut min, now) = (MinRtt::new(), crate::epoch());
        for rtt in [LONG, SHORT, LONG] {
            assert!(!min.handle_sample(rtt, false, now));
        }
        assert_eq!(min.get(), Some(SHORT));
    }

    #[test]
    fn one_that_was_not_seen_again_for_long_has_to_be_measured() {
        let (mut min, now) = (MinRtt::new(), crate::epoch());
        min.handle_sample(SHORT, false, now);
        assert!(min.handle_sample(LONG, false, now + LATE));
        assert_eq!(min.get(), Some(LONG));
    }

    #[test]
    fn one_that_is_seen_again_and_again_has_not() {
        let (mut min, now) = (MinRtt::new(), crate::epoch());
        assert!(
            (0..100).all(|second| {
                !min.handle_sample(SHORT, false, now + Duration::from_secs(second))
            })
        );
    }

    #[test]
    fn a_sample_of_next_to_nothing_in_flight_is_a_measurement() {
        let (mut min, now) = (MinRtt::new(), crate::epoch());
        min.handle_sample(SHORT, false, now);
        assert!(!min.handle_sample(LONG, true, now + LATE));
        assert_eq!(min.get(), Some(LONG));
    }
}
