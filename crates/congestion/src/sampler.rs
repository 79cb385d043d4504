//! What is delivered in how much time: one sample from each batch of acknowledgements.
//!
//! The rate of a sample is what was delivered between two acknowledgements, over the longer one of the time in which it
//! was sent and the time in which it was acknowledged: neither a burst of the sender nor acknowledgements that were held up and come
//! together make a path seem faster than it is (draft-cheng-iccrg-delivery-rate-estimation §2).

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Moments of sending that are remembered. They are a part of the round trip apart ([`MOMENTS_OF_A_ROUND`]), so that
/// this is several round trips; the oldest are forgotten, and packets of them yield no sample.
const MOMENTS_MAX: usize = 8_192;
/// Room for so many is kept when nothing is in flight.
const MOMENTS_IDLE: usize = 64;
/// Into how many parts a round trip is divided: that precise is the time of a sample.
const MOMENTS_OF_A_ROUND: u32 = 1_024;

/// How things stood when packets were sent.
#[derive(Debug, Clone, Copy)]
struct Moment {
    sent: Instant,
    /// Bytes delivered until then, and when the last of them were.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet was sent that had been delivered last.
    first_sent: Instant,
    in_flight: u64,
    app_limited: bool,
}

/// What a batch of acknowledgements tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Bytes delivered in a second; none where the time between is too short to tell.
    pub(crate) rate: Option<f64>,
    /// From sending the newest packet of the batch to now.
    pub(crate) rtt: Duration,
    /// The application had nothing more to send when the packet left: the path may carry more than the rate.
    pub(crate) app_limited: bool,
    /// Bytes of this batch.
    pub(crate) acked: u64,
    /// Bytes delivered before the packet was sent.
    pub(crate) prior_delivered: u64,
    /// Bytes in flight when the packet was sent, with it.
    pub(crate) in_flight: u64,
}

/// Counts bytes, and remembers how the counts stood when packets were sent.
#[derive(Clone)]
pub(crate) struct Sampler {
    delivered: u64,
    delivered_at: Option<Instant>,
    first_sent: Option<Instant>,
    in_flight: u64,
    /// Up to this count, what is delivered was sent when the application had nothing more to send.
    app_limited_until: Option<u64>,
    moments: VecDeque<Moment>,
    /// The batch under way: its newest packet and its bytes.
    newest: Option<Instant>,
    acked: u64,
}

/// Without the moments: there are thousands of them.
impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("delivered", &self.delivered)
            .field("in_flight", &self.in_flight)
            .field("app_limited_until", &self.app_limited_until)
            .field("moments", &self.moments.len())
            .finish_non_exhaustive()
    }
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self {
            delivered: 0,
            delivered_at: None,
            first_sent: None,
            in_flight: 0,
            app_limited_until: None,
            moments: VecDeque::new(),
            newest: None,
            acked: 0,
        }
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// A packet leaves. `round_trip` decides how far apart moments are remembered.
    pub(crate) fn handle_sent(&mut self, now: Instant, bytes: u64, round_trip: Duration) {
        // After a silence, the time in which nothing was to be sent is no part of a sample.
        if self.in_flight == 0 {
            self.first_sent = Some(now);
            self.delivered_at = Some(now);
        }
        self.in_flight += bytes;
        if let Some(last) = self.moments.back()
            && now.saturating_duration_since(last.sent) < round_trip / MOMENTS_OF_A_ROUND
        {
            return;
        }
        if self.moments.len() == MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment {
            sent: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            first_sent: self.first_sent.unwrap_or(now),
            in_flight: self.in_flight,
            app_limited: self.app_limited_until.is_some_and(|until| until >= self.delivered),
        });
    }

    /// A packet that was sent at `sent` has been acknowledged.
    pub(crate) fn handle_ack(&mut self, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.acked += bytes;
        self.newest = self.newest.max(Some(sent));
    }

    /// A packet is taken for lost.
    pub(crate) fn handle_lost(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// The batch is complete. `in_flight` is the machine's own count. None, if nothing can be told from it.
    pub(crate) fn end_batch(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        shortest: Duration,
    ) -> Option<Sample> {
        self.in_flight = in_flight;
        let newest = self.newest.take()?;
        let acked = std::mem::take(&mut self.acked);
        self.delivered_at = Some(now);
        if app_limited {
            self.app_limited_until = Some(self.delivered + in_flight);
        }
        // Moments before the one of this packet are of no use any more: an older packet that is acknowledged later tells
        // nothing new.
        while self.moments.get(1).is_some_and(|next| next.sent <= newest) {
            self.moments.pop_front();
        }
        let moment = *self.moments.front().filter(|moment| moment.sent <= newest)?;
        if in_flight == 0 && self.moments.capacity() > MOMENTS_IDLE {
            // Bulk is over. A link may be idle for days now, and a process has many.
            self.moments.shrink_to(MOMENTS_IDLE);
        }
        self.first_sent = Some(moment.sent);
        let sending = moment.sent.saturating_duration_since(moment.first_sent);
        let acking = now.saturating_duration_since(moment.delivered_at);
        let time = sending.max(acking);
        let delivered = self.delivered.saturating_sub(moment.delivered);
        // In less than the shortest round trip nothing can have been delivered and acknowledged: the clock has jumped.
        let rate =
            (!time.is_zero() && time >= shortest).then(|| delivered as f64 / time.as_secs_f64());
        Some(Sample {
            rate,
            rtt: now.saturating_duration_since(newest),
            app_limited: moment.app_limited,
            acked,
            prior_delivered: moment.delivered,
            in_flight: moment.in_flight,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);
    const STEP: Duration = Duration::from_millis(1);

    /// Sends a packet of 1,000 bytes each millisecond. Acknowledgements come after a round trip, all of `batch` milliseconds
    /// together.
    fn steady(batch: u32, app_limited: bool) -> Vec<Sample> {
        let (mut sampler, start) = (Sampler::new(), crate::epoch());
        let mut samples = Vec::new();
        let mut acked = 0;
        for step in 0..400 {
            let now = start + STEP * step;
            if step % batch == 0 {
                while start + STEP * acked + RTT <= now {
                    sampler.handle_ack(start + STEP * acked, 1_000);
                    acked += 1;
                }
                let in_flight = u64::from(step - acked) * 1_000;
                samples.extend(sampler.end_batch(now, in_flight, app_limited, RTT));
            }
            sampler.handle_sent(now, 1_000, RTT);
        }
        samples
    }

    fn rates(samples: &[Sample]) -> Vec<f64> {
        samples[samples.len() / 2..].iter().filter_map(|sample| sample.rate).collect()
    }

    #[test]
    fn an_idle_path_keeps_little_of_what_a_busy_one_had() {
        let (mut sampler, start) = (Sampler::new(), crate::epoch());
        for step in 0..5_000 {
            sampler.handle_sent(start + STEP * step, 1_000, Duration::ZERO);
        }
        assert!(sampler.moments.capacity() > MOMENTS_IDLE);
        let end = STEP * 4_999;
        sampler.handle_ack(start + end, 5_000_000);
        sampler.end_batch(start + end + RTT, 0, false, RTT);
        assert!(sampler.moments.capacity() <= 2 * MOMENTS_IDLE, "{}", sampler.moments.capacity());
    }

    #[test]
    fn the_rate_of_delivery_is_measured() {
        let rates = rates(&steady(1, false));
        assert!(
            !rates.is_empty() && rates.iter().all(|rate| (rate - 1e6).abs() < 5e4),
            "{rates:?}"
        );
    }

    #[test]
    fn acknowledgements_that_come_together_make_a_path_no_faster() {
        let rates = rates(&steady(10, false));
        assert!(!rates.is_empty() && rates.iter().all(|rate| *rate < 1.05e6), "{rates:?}");
    }

    #[test]
    fn what_is_sent_when_nothing_waits_is_marked() {
        let samples = steady(1, true);
        assert!(samples[50..].iter().all(|sample| sample.app_limited));
        assert!(steady(1, false).iter().all(|sample| !sample.app_limited));
    }

    #[test]
    fn a_silence_is_no_part_of_a_sample() {
        let (mut sampler, start) = (Sampler::new(), crate::epoch());
        sampler.handle_sent(start, 1_000, RTT);
        sampler.handle_ack(start, 1_000);
        sampler.end_batch(start + RTT, 0, false, RTT);
        let later = start + Duration::from_secs(60);
        for _ in 0..40 {
            sampler.handle_sent(later, 1_000, RTT);
            sampler.handle_ack(later, 1_000);
        }
        let sample = sampler.end_batch(later + RTT, 0, false, RTT).unwrap();
        assert!((sample.rate.unwrap() - 1e6).abs() < 1.0, "{sample:?}");
    }

    #[test]
    fn the_machine_counts_what_is_in_flight_and_lost_packets_are_not() {
        let (mut sampler, now) = (Sampler::new(), crate::epoch());
        (0..4).for_each(|_| sampler.handle_sent(now, 1_000, RTT));
        sampler.handle_lost(1_000);
        assert_eq!(sampler.in_flight(), 3_000);
        sampler.handle_ack(now, 1_000);
        sampler.end_batch(now + RTT, 2_000, false, RTT);
        assert_eq!(sampler.in_flight(), 2_000);
    }

    #[test]
    fn so_many_moments_are_remembered_and_no_more() {
        let (mut sampler, start) = (Sampler::new(), crate::epoch());
        for step in 0..MOMENTS_MAX as u32 * 2 {
            sampler.handle_sent(start + STEP * step, 1_000, RTT);
        }
        assert_eq!(sampler.moments.len(), MOMENTS_MAX);
        let lot = Duration::from_nanos(1);
        let (mut sampler, start) = (Sampler::new(), crate::epoch());
        (0..1_000).for_each(|step| sampler.handle_sent(start + lot * step, 1_000, RTT));
        assert_eq!(sampler.moments.len(), 1);
    }

    #[test]
    fn a_packet_without_a_moment_yields_no_sample() {
        let (mut sampler, start) = (Sampler::new(), crate::epoch());
        sampler.handle_sent(start + STEP, 1_000, RTT);
        sampler.handle_ack(start, 1_000);
        assert!(sampler.end_batch(start + RTT, 0, false, RTT).is_none());
    }
}
