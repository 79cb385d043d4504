//! The controller: a model of the path, and what it makes of it.

use std::any::Any;
use std::time::{Duration, Instant};

use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerMetrics};

use crate::BbrConfig;
use crate::aggregation::Aggregation;
use crate::cycle::Cycle;
use crate::filter::MaxFilter;
use crate::losses::Losses;
use crate::min_rtt::MinRtt;
use crate::sampler::{Sample, Sampler};
use crate::startup::Startup;

/// What the rate is multiplied by at the start: with 4 ln 2, a sender that is paced doubles its rate with each round trip.
const STARTUP_PACING: f64 = 2.77;
/// After the start, until what has gathered in the queue is gone: the reverse of what filled it.
const DRAIN_PACING: f64 = 0.5;
/// A little less than the path carries: what a clock that is late and a sample that is too high put into the queue
/// leaves it again.
const PACING_MARGIN: f64 = 0.99;
/// Round trips' worth of data that may be in flight. One is under way; the second one is for acknowledgements that are
/// late, and for what was lost and has to come again.
const WINDOW_GAIN: f64 = 2.0;
/// While the shortest round-trip time is measured, half of what the path holds: the queue empties, and the path does not.
const PROBE_RTT_GAIN: f64 = 0.5;
/// Packets that may be in flight in any case: with fewer, one that is lost is only noticed by a timer.
const WINDOW_MIN_PACKETS: u64 = 4;
/// Packets beyond the model: those that wait to leave by one system call, that are on their way, and that are
/// acknowledged together.
const BURST_PACKETS: u64 = 30;
/// Timers fire a millisecond late, and acknowledgements wait as long for a process that is scheduled: no path is taken
/// for shorter.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Above this rate in bytes a second, nothing is paced: the pacer's largest burst, 256 packets, is gone before its
/// timer, of a millisecond, fires. Acknowledgements set the pace, as the window bounds what is in flight.
const PACED_RATE_MAX: f64 = 256.0 * 1200.0 * 1000.0;

#[derive(Debug, Clone)]
enum Mode {
    Startup(Startup),
    Drain,
    Cycle(Cycle),
    ProbeRtt { until: Option<Instant>, round: u64 },
}

/// A controller after BBR: it sends as fast as the path is measured to deliver, whatever is lost on the way, and keeps
/// no more in flight than the path holds twice.
#[derive(Debug, Clone)]
pub struct Bbr {
    config: BbrConfig,
    mtu: u64,
    sampler: Sampler,
    /// Bytes a second.
    rate: MaxFilter,
    aggregation: Aggregation,
    min_rtt: MinRtt,
    srtt: Duration,
    round: u64,
    /// The round ends when something is acknowledged that was sent after so many bytes were delivered.
    round_ends: u64,
    losses: Losses,
    mode: Mode,
    /// Whether the path has once been full.
    filled: bool,
    window: u64,
    /// The window before it was cut for a while.
    prior_window: u64,
}

impl Bbr {
    pub(crate) fn new(config: BbrConfig, mtu: u16) -> Self {
        Self {
            config,
            mtu: u64::from(mtu),
            sampler: Sampler::new(),
            rate: MaxFilter::new(),
            aggregation: Aggregation::new(),
            min_rtt: MinRtt::new(),
            srtt: Duration::ZERO,
            round: 0,
            round_ends: 0,
            losses: Losses::default(),
            mode: Mode::Startup(Startup::default()),
            filled: false,
            window: config.initial_window,
            prior_window: 0,
        }
    }

    /// Bytes that the path holds without a queue, times `gain`.
    fn path_bytes(&self, gain: f64) -> f64 {
        let rtt = self.min_rtt.get().unwrap_or(self.srtt).max(GRANULARITY);
        self.rate.max() * rtt.as_secs_f64() * gain
    }

    fn window_min(&self) -> u64 {
        WINDOW_MIN_PACKETS * self.mtu
    }

    fn pacing_gain(&self) -> f64 {
        match &self.mode {
            Mode::Startup(_) => STARTUP_PACING,
            Mode::Drain => DRAIN_PACING,
            Mode::Cycle(cycle) => cycle.pacing_gain(),
            Mode::ProbeRtt { .. } => 1.0,
        }
    }

    fn handle_sample(&mut self, sample: &Sample, now: Instant) {
        let new_round = sample.prior_delivered >= self.round_ends;
        if new_round {
            self.round += 1;
            self.round_ends = self.sampler.delivered();
        }
        self.losses.handle_delivered(sample.acked);
        if let Some(rate) = sample.rate
            // What an idle application sends is no measure of what the path carries, unless it is more than was known.
            && (!sample.app_limited || rate >= self.rate.max())
        {
            self.rate.insert(rate, new_round, now);
        }
        self.aggregation.handle_batch(
            sample.acked,
            self.rate.max(),
            self.window,
            new_round,
            now,
        );
        self.turn(sample, new_round, now);
        self.check_min_rtt(sample, now);
        if new_round {
            self.losses = Losses::default();
        }
        self.set_window(sample);
    }

    /// From start-up to drain to the cycle.
    fn turn(&mut self, sample: &Sample, new_round: bool, now: Instant) {
        let in_flight = self.sampler.in_flight() as f64;
        let held = self.path_bytes(1.0) + (BURST_PACKETS * self.mtu) as f64;
        match &mut self.mode {
            Mode::Startup(startup) => {
                if new_round
                    && !sample.app_limited
                    && startup.handle_round(self.rate.max(), self.losses.overloaded())
                {
                    self.filled = true;
                    self.mode = Mode::Drain;
                }
            }
            Mode::Drain => {
                if in_flight <= held {
                    self.mode = Mode::Cycle(Cycle::new(now));
                }
            }
            Mode::Cycle(cycle) => {
                let rtt = self.min_rtt.get().unwrap_or(self.srtt);
                cycle.advance(now, rtt, in_flight, held);
            }
            Mode::ProbeRtt { .. } => {}
        }
    }

    fn check_min_rtt(&mut self, sample: &Sample, now: Instant) {
        let light = sample.app_limited || (sample.in_flight as f64) < self.path_bytes(PROBE_RTT_GAIN);
        let expired = self.min_rtt.handle_sample(sample.rtt, light, now);
        let low = self.probe_rtt_window();
        let round = self.round;
        match &mut self.mode {
            Mode::ProbeRtt { until: until @ None, round: begun } => {
                if self.sampler.in_flight() <= low {
                    *until = Some(now + self.min_rtt.probe_length());
                    *begun = round;
                }
            }
            Mode::ProbeRtt { until: Some(until), round: begun } => {
                if now >= *until && round > *begun {
                    self.min_rtt.handle_probed(now);
                    self.window = self.window.max(self.prior_window);
                    self.mode = if self.filled {
                        Mode::Cycle(Cycle::new(now))
                    } else {
                        Mode::Startup(Startup::default())
                    };
                }
            }
            Mode::Startup(_) | Mode::Drain | Mode::Cycle(_) => {
                if expired {
                    self.prior_window = self.window;
                    self.mode = Mode::ProbeRtt { until: None, round };
                }
            }
        }
    }

    fn probe_rtt_window(&self) -> u64 {
        (self.path_bytes(PROBE_RTT_GAIN) as u64).max(self.window_min())
    }

    fn set_window(&mut self, sample: &Sample) {
        let burst = (BURST_PACKETS * self.mtu) as f64;
        let target = (self.path_bytes(WINDOW_GAIN) + self.aggregation.excess() + burst) as u64;
        if self.filled {
            self.window = (self.window + sample.acked).min(target);
        } else if self.window < target || self.sampler.delivered() < self.config.initial_window {
            self.window += sample.acked;
        }
        self.window = self.window.max(self.window_min());
        if matches!(self.mode, Mode::ProbeRtt { .. }) {
            self.window = self.window.min(self.probe_rtt_window());
        }
    }

    /// Bytes a second; none where the window alone is the bound.
    fn pacing_rate(&self) -> Option<u64> {
        let rate = self.rate.max();
        if rate == 0.0 || rate > PACED_RATE_MAX {
            return None;
        }
        let mut paced = rate * self.pacing_gain() * PACING_MARGIN;
        if !self.filled && !self.srtt.is_zero() {
            // The first samples are of a handshake, and small: what the window allows is known better.
            paced = paced.max(2.0 * self.window as f64 / self.srtt.as_secs_f64());
        }
        Some(paced as u64)
    }
}

impl Controller for Bbr {
    fn on_packet_sent(&mut self, now: Instant, bytes: u16, _pn: u64) {
        let rtt = self.min_rtt.get().unwrap_or(self.srtt);
        self.sampler.handle_sent(now, u64::from(bytes), rtt);
    }

    fn on_ack(
        &mut self,
        _now: Instant,
        sent: Instant,
        bytes: u64,
        _pn: u64,
        _app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.srtt = rtt.get();
        self.sampler.handle_ack(sent, bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        let shortest = self.min_rtt.get().unwrap_or(Duration::ZERO);
        if let Some(sample) = self.sampler.end_batch(now, in_flight, app_limited, shortest) {
            self.handle_sample(&sample, now);
        }
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        _is_ecn: bool,
        _lost_bytes: u64,
        _largest_lost_pn: u64,
    ) {
        if is_persistent_congestion {
            self.window = self.window_min();
        }
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, _pn: u64, _now: Instant) {
        self.sampler.handle_lost(u64::from(lost_bytes));
        self.losses.handle_lost(u64::from(lost_bytes));
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window;
        metrics.pacing_rate = self.pacing_rate();
        let rate = self.rate.max();
        metrics.bandwidth_estimate = (rate > 0.0).then_some((rate * 8.0) as u64);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.config.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
