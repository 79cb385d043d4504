//! What a fast line does, and within which limits.

use std::time::Duration;

use crate::error::LabError;

/// Fastest line, in bit/s: more than one machine can carry.
pub const BITS_PER_SECOND_MAX: u64 = 10_000_000_000;
/// Longest delay of one direction.
pub const DELAY_MAX: Duration = Duration::from_secs(2);
/// Largest queue of one direction, in bytes.
pub const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Smallest queue that [`LaneSettings::with_queue_of_bdp`] gives, in bytes: what a cheap router has, and enough for
/// one batch of segmentation offload.
pub const QUEUE_BYTES_MIN: usize = 64 * 1024;

/// One direction of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaneSettings {
    /// Bits in a second, of packets with their IP headers; not zero.
    pub bits_per_second: u64,
    /// What a packet takes after it has been sent.
    pub delay: Duration,
    /// The share of packets that is lost, from 0 to 1, each on its own.
    pub loss: f64,
    /// Bytes that may wait, the packet that is being sent included. What comes beyond is dropped.
    pub queue_bytes_max: usize,
}

impl LaneSettings {
    /// A direction of a line with this round trip, half of it here, and a queue of one bandwidth-delay product, or
    /// [`QUEUE_BYTES_MIN`] where that is more.
    #[must_use]
    pub fn with_queue_of_bdp(bits_per_second: u64, round_trip: Duration, loss: f64) -> Self {
        let bdp = bits_per_second as f64 / 8.0 * round_trip.as_secs_f64();
        let queue_bytes_max = (bdp as usize).max(QUEUE_BYTES_MIN);
        Self { bits_per_second, delay: round_trip / 2, loss, queue_bytes_max }
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// One is not kept.
    pub fn check(&self) -> Result<(), LabError> {
        let within = (1..=BITS_PER_SECOND_MAX).contains(&self.bits_per_second)
            && self.delay <= DELAY_MAX
            && (0.0..=1.0).contains(&self.loss)
            && self.queue_bytes_max <= QUEUE_BYTES_MAX;
        if within { Ok(()) } else { Err(LabError::output("a line", &format!("{self:?}"))) }
    }

    /// The words of a command line.
    pub(super) fn words(&self) -> [String; 4] {
        [
            self.bits_per_second.to_string(),
            self.delay.as_nanos().to_string(),
            self.loss.to_string(),
            self.queue_bytes_max.to_string(),
        ]
    }

    /// From the words of a command line, if they are such.
    pub(super) fn of_words(words: &[String]) -> Option<Self> {
        let [bits_per_second, delay, loss, queue] = words else { return None };
        let settings = Self {
            bits_per_second: bits_per_second.parse().ok()?,
            delay: Duration::from_nanos(delay.parse().ok()?),
            loss: loss.parse().ok()?,
            queue_bytes_max: queue.parse().ok()?,
        };
        settings.check().ok().map(|()| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_one_bandwidth_delay_product_but_not_less_than_its_least() {
        let lane = |mbit: u64, ms| {
            LaneSettings::with_queue_of_bdp(mbit * 1_000_000, Duration::from_millis(ms), 0.0)
        };
        assert_eq!(lane(500, 40).queue_bytes_max, 2_500_000);
        assert_eq!(lane(500, 40).delay, Duration::from_millis(20));
        assert_eq!(lane(10, 10).queue_bytes_max, QUEUE_BYTES_MIN);
    }

    #[test]
    fn settings_go_over_a_command_line_and_nothing_beyond_the_limits_does() {
        let settings = LaneSettings {
            bits_per_second: 123_456_789,
            delay: Duration::from_micros(12_345),
            loss: 0.001,
            queue_bytes_max: 70_000,
        };
        assert_eq!(LaneSettings::of_words(&settings.words()), Some(settings));
        for wrong in [
            LaneSettings { bits_per_second: 0, ..settings },
            LaneSettings { bits_per_second: BITS_PER_SECOND_MAX + 1, ..settings },
            LaneSettings { delay: DELAY_MAX + Duration::from_nanos(1), ..settings },
            LaneSettings { loss: 1.1, ..settings },
            LaneSettings { loss: f64::NAN, ..settings },
            LaneSettings { queue_bytes_max: QUEUE_BYTES_MAX + 1, ..settings },
        ] {
            assert_eq!(LaneSettings::of_words(&wrong.words()), None, "{wrong:?}");
        }
        assert_eq!(LaneSettings::of_words(&["1".to_owned()]), None);
    }
}
