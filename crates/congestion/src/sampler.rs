//! What is delivered in how much time: one sample from each batch of acknowledgements.
//!
//! The rate of a sample is what was delivered between two acknowledgements, over the longer one of the time in which it
//! was sent and the time in which it was acknowledged: neither a burst of the sender nor acknowledgements that were held up and come
//! together make a path seem faster than it is (draft-cheng-iccrg-delivery-rate-estimation §2).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Moments of sending that are remembered. They are a part of the round trip apart ([`MOMENTS_OF_A_ROUND`]), so that
/// this is several round trips; the oldest are forgotten, and packets of them yield no sample.
const MOMENTS_MAX: usize = 8_192;
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
    lost: u64,
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
    /// Bytes delivered since the packet was sent, and bytes lost in that time: those of about one round trip.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Bytes delivered before the packet was sent.
    pub(crate) prior_delivered: u64,
    /// Bytes in flight when the packet was sent, with it.
    pub(crate) in_flight: u64,
}

/// Counts bytes, and remembers how the counts stood when packets were sent.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    delivered: u64,
    delivered_at: Option<Instant>,
    first_sent: Option<Instant>,
    lost: u64,
    in_flight: u64,
    /// Up to this count, what is delivered was sent when the application had nothing more to send.
    app_limited_until: u64,
    moments: VecDeque<Moment>,
    /// The batch under way: its newest packet and its bytes.
    newest: Option<Instant>,
    acked: u64,
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self {
            delivered: 0,
            delivered_at: None,
            first_sent: None,
            lost: 0,
            in_flight: 0,
            app_limited_until: 0,
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
            lost: self.lost,
            in_flight: self.in_flight,
            app_limited: self.app_limited_until > self.delivered,
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
        self.lost += bytes;
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
            self.app_limited_until = self.delivered + in_flight;
        }
        // Moments before the one of this packet are of no use any more: an older packet that is acknowledged later tells
        // nothing new.
        while self.moments.get(1).is_some_and(|next| next.sent <= newest) {
            self.moments.pop_front();
        }
        let moment = *self.moments.front().filter(|moment| moment.sent <= newest)?;
        self.first_sent = Some(moment.sent);
        let sending = moment.sent.saturating_duration_since(moment.first_sent);
        let acking = now.saturating_duration_since(moment.delivered_at);
        let time = sending.max(acking);
        let delivered = self.delivered.saturating_sub(moment.delivered);
        // In less than the shortest round trip nothing can have been delivered and acknowledged: the clock has jumped.
        let rate = (!time.is_zero() && time >= shortest)
            .then(|| delivered as f64 / time.as_secs_f64());
        Some(Sample {
            rate,
            rtt: now.saturating_duration_since(newest),
            app_limited: moment.app_limited,
            acked,
            delivered,
            lost: self.lost.saturating_sub(moment.lost),
            prior_delivered: moment.delivered,
            in_flight: moment.in_flight,
        })
    }
}
