//! The model of a path, and what follows from it.

use std::time::{Duration, Instant};

use crate::BbrConfig;
use crate::aggregation::Aggregation;
use crate::cycle::Cycle;
use crate::filter::MaxFilter;
use crate::gain::WindowGain;
use crate::losses::Losses;
use crate::min_rtt::MinRtt;
use crate::sampler::{Sample, Sampler};
use crate::startup::Startup;

/// What the rate is multiplied by at the start: with 4 ln 2, a sender that is paced doubles its rate with each round trip.
const STARTUP_PACING: f64 = 2.77;
/// The least at the start, in windows per round trip. The first samples are of a handshake, and small: what the window
/// allows is known better.
const STARTUP_WINDOWS: f64 = 2.0;
/// What may be in flight at the start: the rate can double with each round trip, and no queue of one product of rate and
/// round trip overflows.
const STARTUP_WINDOW_GAIN: f64 = 2.0;
/// After the start, until what has gathered in the queue is gone.
const DRAIN_PACING: f64 = 0.5;
/// A little less than the path carries: what a clock that is late and a sample that is too high put into the queue
/// leaves it again.
const PACING_MARGIN: f64 = 0.99;
/// While the shortest round-trip time is measured, half of what the path holds: the queue empties, and the path does not.
const PROBE_RTT_GAIN: f64 = 0.5;
/// Packets that may be in flight in any case: with fewer, one that is lost is only noticed by a timer.
const WINDOW_MIN_PACKETS: u64 = 4;
/// Bursts beyond the model: one that waits to leave, one on its way, and one that is being acknowledged.
const BURSTS: f64 = 3.0;
/// A burst is what is sent in this time, and no less and no more than so many packets: two are acknowledged together,
/// and three times ten are about what leaves by one system call.
const BURST: Duration = Duration::from_millis(1);
const BURST_PACKETS: (f64, f64) = (2.0, 10.0);
/// Timers fire a millisecond late, and acknowledgements wait as long for a process that is scheduled: no path is taken
/// for shorter.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Above this rate, in bytes a second, nothing is paced: the largest burst of the library's pacer, 256 packets, is gone before
/// its timer, of a millisecond, fires. The window bounds what is in flight, and acknowledgements set the pace.
const PACED_RATE_MAX: f64 = 256.0 * 1200.0 * 1000.0;
/// Nor where a round trip is shorter than the timer's granularity: acknowledgements come sooner than timers. A sender that
/// was not scheduled for a while could never make up for it, since the pacer forgets what was not sent within 2 ms.
const PACED_RTT_MIN: Duration = GRANULARITY;

/// What the sender is doing.
#[derive(Debug, Clone)]
enum Mode {
    Startup(Startup),
    /// What the start-up has put into the queue leaves it.
    Drain,
    Cycle(Cycle),
    ProbeRtt(ProbeRtt),
}

/// Little is in flight, to see the path without a queue.
#[derive(Debug, Clone, Copy)]
struct ProbeRtt {
    /// When it is over; not known before little is in flight.
    until: Option<Instant>,
    /// The round in which that began: what is acknowledged in it was sent before.
    round: u64,
    /// The window before.
    window: u64,
}

/// A controller after BBR: it sends as fast as the path is measured to deliver, whatever is lost on the way, and keeps
/// little more in flight than the path holds.
#[derive(Debug, Clone)]
pub struct Bbr {
    pub(crate) config: BbrConfig,
    pub(crate) mtu: u64,
    pub(crate) sampler: Sampler,
    /// Bytes delivered in a second.
    rate: MaxFilter,
    aggregation: Aggregation,
    pub(crate) min_rtt: MinRtt,
    pub(crate) smoothed_rtt: Duration,
    /// The newest sample of it.
    pub(crate) latest_rtt: Duration,
    pub(crate) round: u64,
    /// The round ends when something is acknowledged that was sent after so many bytes were delivered.
    round_ends: u64,
    pub(crate) losses: Losses,
    mode: Mode,
    /// Whether the path has once been full.
    filled: bool,
    gain: WindowGain,
    pub(crate) window: u64,
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
            smoothed_rtt: Duration::ZERO,
            latest_rtt: Duration::ZERO,
            round: 0,
            round_ends: 0,
            losses: Losses::default(),
            mode: Mode::Startup(Startup::default()),
            filled: false,
            gain: WindowGain::new(),
            window: config.initial_window,
        }
    }

    /// The shortest round-trip time, as far as it is known.
    pub(crate) fn shortest(&self) -> Duration {
        self.min_rtt.get().unwrap_or(self.smoothed_rtt)
    }

    /// Bytes a second; zero, if nothing is known.
    pub(crate) fn rate(&self) -> f64 {
        self.rate.max()
    }

    /// Bytes that the path holds without a queue, times `gain`.
    fn path_bytes(&self, gain: f64) -> f64 {
        self.rate() * self.shortest().max(GRANULARITY).as_secs_f64() * gain
    }

    fn burst_bytes(&self) -> f64 {
        let mtu = self.mtu as f64;
        let (least, most) = BURST_PACKETS;
        BURSTS * (self.rate() * BURST.as_secs_f64()).clamp(least * mtu, most * mtu)
    }

    pub(crate) fn window_min(&self) -> u64 {
        WINDOW_MIN_PACKETS * self.mtu
    }

    fn probe_rtt_window(&self) -> u64 {
        (self.path_bytes(PROBE_RTT_GAIN) as u64).max(self.window_min())
    }

    /// A batch of acknowledgements has told something.
    pub(crate) fn handle_sample(&mut self, mut sample: Sample, now: Instant) {
        // The path was full when the packet left. That the application, or the peer's flow control, had nothing more then
        // does not make the path faster than it was.
        let full = sample.in_flight as f64 > self.path_bytes(1.0) + self.burst_bytes();
        sample.app_limited &= !full;
        self.latest_rtt = sample.rtt;
        let new_round = sample.prior_delivered >= self.round_ends;
        if new_round {
            self.round += 1;
            self.round_ends = self.sampler.delivered();
            self.gain.handle_round(now);
        }
        self.losses.handle_delivered(sample.acked);
        if let Some(rate) = sample.rate
            // What an idle application sends is no measure of the path, unless it is more than was known.
            && (!sample.app_limited || rate >= self.rate())
        {
            self.rate.insert(rate, new_round, now);
        }
        let rate = self.rate();
        self.aggregation.handle_batch(sample.acked, rate, self.window, new_round, now);
        self.advance(&sample, new_round, now);
        self.check_min_rtt(&sample, now);
        if new_round {
            self.losses = Losses::default();
        }
        self.set_window(&sample);
    }

    /// From start-up to drain to the cycle.
    fn advance(&mut self, sample: &Sample, new_round: bool, now: Instant) {
        let in_flight = self.sampler.in_flight() as f64;
        let held = self.path_bytes(1.0) + self.burst_bytes();
        let (rate, shortest) = (self.rate(), self.shortest());
        let overloaded = self.losses.overloaded();
        match &mut self.mode {
            Mode::Startup(startup) => {
                let told = new_round && !sample.app_limited;
                if told && startup.handle_round(rate, overloaded) {
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
                if new_round
                    && cycle.handle_round(overloaded)
                    && let Some(delivered) = sample.rate
                {
                    // The path has become slower. What is remembered of it would fill the queue for eight rounds more,
                    // each as long as the queue makes it.
                    self.rate.reset(delivered.min(rate));
                }
                cycle.advance(now, shortest, in_flight, held);
            }
            Mode::ProbeRtt(_) => {}
        }
    }

    fn check_min_rtt(&mut self, sample: &Sample, now: Instant) {
        let half = self.path_bytes(PROBE_RTT_GAIN);
        let light = sample.app_limited || (sample.in_flight as f64) < half;
        let expired = self.min_rtt.handle_sample(sample.rtt, light, now);
        let empty = self.sampler.in_flight() <= self.probe_rtt_window();
        match &mut self.mode {
            Mode::ProbeRtt(probe) => match probe.until {
                None if empty => {
                    probe.until = Some(now + self.min_rtt.probe_length());
                    probe.round = self.round;
                }
                Some(until) if now >= until && self.round > probe.round => {
                    self.window = self.window.max(probe.window);
                    self.min_rtt.handle_probed(now);
                    self.mode = if self.filled {
                        Mode::Cycle(Cycle::new(now))
                    } else {
                        Mode::Startup(Startup::default())
                    };
                }
                None | Some(_) => {}
            },
            Mode::Startup(_) | Mode::Drain | Mode::Cycle(_) => {
                if expired {
                    let (round, window) = (self.round, self.window);
                    self.mode = Mode::ProbeRtt(ProbeRtt { until: None, round, window });
                }
            }
        }
    }

    fn set_window(&mut self, sample: &Sample) {
        let excess = self.aggregation.excess();
        if self.filled {
            let target = self.path_bytes(self.gain.get()) + excess + self.burst_bytes();
            // Never faster than what is acknowledged: after a cut, the window grows back as it does at the start.
            self.window = (self.window + sample.acked).min(target as u64);
        } else if self.sampler.delivered() < self.config.initial_window {
            self.window += sample.acked;
        } else {
            // No more than what doubles the rate: beyond it, a queue of one product of rate and round trip overflows.
            let target = self.path_bytes(STARTUP_WINDOW_GAIN) + excess;
            self.window = self.window.max((self.window + sample.acked).min(target as u64));
        }
        self.window = self.window.max(self.window_min());
        if matches!(self.mode, Mode::ProbeRtt(_)) {
            self.window = self.window.min(self.probe_rtt_window());
        }
    }

    /// Packets were lost, or marked by the path.
    pub(crate) fn handle_loss(&mut self, persistent: bool, marked: bool) {
        // The start-up fills the queue on purpose; that it overflows ends it.
        if self.filled {
            self.gain.handle_loss(self.round, self.latest_rtt, self.shortest(), marked);
        }
        if persistent {
            // Nothing has arrived for a long time. What the path held may be gone; the model may still be true, and the
            // window grows back to it with what is acknowledged.
            self.window = self.window_min();
        }
    }

    /// All that was taken for lost has arrived.
    pub(crate) fn handle_spurious_loss(&mut self) {
        self.gain.undo();
    }

    /// Bytes a second; none where nothing is known yet, and where the window alone is the bound.
    pub(crate) fn pacing_rate(&self) -> Option<u64> {
        let rate = self.rate();
        if rate == 0.0 || rate > PACED_RATE_MAX || self.shortest() < PACED_RTT_MIN {
            return None;
        }
        let gain = match &self.mode {
            Mode::Startup(_) => STARTUP_PACING,
            Mode::Drain => DRAIN_PACING,
            Mode::Cycle(cycle) => cycle.pacing_gain(),
            Mode::ProbeRtt(_) => 1.0,
        };
        let mut paced = rate * gain * PACING_MARGIN;
        if !self.filled && !self.latest_rtt.is_zero() {
            // Not the smoothed time: with the first acknowledgement, that is still a guess.
            let window = self.window as f64;
            paced = paced.max(STARTUP_WINDOWS * window / self.latest_rtt.as_secs_f64());
        }
        Some(paced as u64)
    }
}
