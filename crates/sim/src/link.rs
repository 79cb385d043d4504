//! One direction of a link: delay, jitter, loss, reordering, and a bottleneck with a queue.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

/// How much later a reordered packet comes. Three packets of a search at 100 a second overtake it.
pub const REORDER_DELAY: Duration = Duration::from_millis(30);

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// Not at all.
    #[default]
    None,
    /// Each with this probability.
    Random(f64),
    /// In bursts: the model of Gilbert and Elliott, stepped once per packet.
    Burst {
        /// Probability that a burst begins.
        p_enter: f64,
        /// Probability that a burst ends.
        p_leave: f64,
        /// Probability that a packet is lost within a burst.
        loss: f64,
    },
}

/// A bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How much goes through in a second; 0 lets nothing through.
    pub bytes_per_second: u64,
    /// How much may wait; what comes beyond is dropped.
    pub queue_bytes_max: u64,
}

/// How one direction of a link behaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkConfig {
    /// What every packet takes.
    pub delay: Duration,
    /// What a packet may take longer, uniformly; it does not overtake others for that.
    pub jitter: Duration,
    /// How packets are lost.
    pub loss: Loss,
    /// The share of packets that come [`REORDER_DELAY`] later, and may be overtaken.
    pub reorder: f64,
    /// The bottleneck, if there is one.
    pub rate: Option<Rate>,
}

impl LinkConfig {
    /// A link that has this delay and is perfect otherwise.
    #[must_use]
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The same with this loss.
    #[must_use]
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// The same with this jitter.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }
}

/// What a link has carried and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Packets that arrive.
    pub carried: u64,
    /// Packets lost on the way, or because the link was down.
    pub lost: u64,
    /// Packets that found the queue full.
    pub queue_full: u64,
}

/// One direction of a link.
#[derive(Debug, Clone)]
pub struct Link {
    config: LinkConfig,
    is_up: bool,
    in_burst: bool,
    /// When the bottleneck has sent all that waits.
    busy_until: Option<Instant>,
    /// The latest arrival so far of a packet that was not reordered.
    last_arrival: Option<Instant>,
    counters: LinkCounters,
}

impl Link {
    /// A link that is up and idle.
    #[must_use]
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            is_up: true,
            in_burst: false,
            busy_until: None,
            last_arrival: None,
            counters: LinkCounters::default(),
        }
    }

    /// How it behaves.
    #[must_use]
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Makes it behave otherwise from now on; packets under way are not touched.
    pub fn set_config(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// Changes the loss alone.
    pub fn set_loss(&mut self, loss: Loss) {
        self.config.loss = loss;
    }

    /// Puts the link up, or down: then it loses everything.
    pub fn set_up(&mut self, is_up: bool) {
        self.is_up = is_up;
    }

    /// What it has carried and lost so far.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Sends a packet of so many bytes; the answer is when it arrives, or `None` when it does not.
    pub fn carry(&mut self, bytes: usize, now: Instant, rng: &mut StdRng) -> Option<Instant> {
        if !self.is_up {
            self.counters.lost += 1;
            return None;
        }
        let Some(sent) = self.through_bottleneck(bytes, now) else {
            self.counters.queue_full += 1;
            return None;
        };
        if self.is_lost(rng) {
            self.counters.lost += 1;
            return None;
        }
        self.counters.carried += 1;
        let jitter = self.config.jitter.mul_f64(rng.random());
        let arrival = sent + self.config.delay + jitter;
        if self.config.reorder > 0.0 && rng.random_bool(self.config.reorder.min(1.0)) {
            return Some(arrival + REORDER_DELAY);
        }
        let arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(arrival);
        Some(arrival)
    }

    /// When the last bit has left; `None` when the queue has no room.
    fn through_bottleneck(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.config.rate else { return Some(now) };
        if rate.bytes_per_second == 0 {
            return None;
        }
        let bytes = bytes as f64;
        let per_second = rate.bytes_per_second as f64;
        let begin = self.busy_until.map_or(now, |until| until.max(now));
        let waiting = begin.saturating_duration_since(now).as_secs_f64() * per_second;
        if waiting + bytes > rate.queue_bytes_max as f64 {
            return None;
        }
        let end = begin + Duration::from_secs_f64(bytes / per_second);
        self.busy_until = Some(end);
        Some(end)
    }

    fn is_lost(&mut self, rng: &mut StdRng) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Random(p) => rng.random_bool(p.clamp(0.0, 1.0)),
            Loss::Burst { p_enter, p_leave, loss } => {
                let turn = if self.in_burst { p_leave } else { p_enter };
                if rng.random_bool(turn.clamp(0.0, 1.0)) {
                    self.in_burst = !self.in_burst;
                }
                self.in_burst && rng.random_bool(loss.clamp(0.0, 1.0))
            }
        }
    }
}
