//! The controller on a path that is a formula: what it makes of rates, losses and silences.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use noq_proto::congestion::ControllerFactory;

use crate::{Bbr, BbrConfig};

const INITIAL: u64 = 38_400;
const MTU: u64 = 1_200;
const RTT: Duration = Duration::from_millis(40);
const STEP: Duration = Duration::from_millis(1);

/// A path that delivers `rate` bytes in a millisecond, and one packet in `loss` not at all.
struct Path {
    bbr: Bbr,
    now: Instant,
    rate: u64,
    loss: u64,
    queue: VecDeque<(Instant, u64)>,
    /// Sent and acknowledged after a round trip: when, and the moment of sending.
    under_way: VecDeque<(Instant, Instant)>,
    sent: u64,
    credit: u64,
    allowed: f64,
}

impl Path {
    fn new(rate: u64, loss: u64) -> Self {
        Self {
            bbr: Bbr::new(BbrConfig { initial_window: INITIAL }, MTU as u16),
            now: crate::epoch(),
            rate,
            loss,
            queue: VecDeque::new(),
            under_way: VecDeque::new(),
            sent: 0,
            credit: 0,
            allowed: 0.0,
        }
    }

    fn in_flight(&self) -> u64 {
        (self.queue.len() + self.under_way.len()) as u64 * MTU
    }

    /// Plays a time, in which the application always has something to send, or nothing.
    fn play(&mut self, time: Duration, busy: bool) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            self.acknowledge(!busy);
            if busy {
                self.send();
            }
            self.credit = (self.credit + self.rate).min(self.rate + MTU);
            while self.credit >= MTU
                && let Some((sent, _)) = self.queue.pop_front()
            {
                self.credit -= MTU;
                self.under_way.push_back((self.now + RTT, sent));
            }
        }
    }

    fn acknowledge(&mut self, app_limited: bool) {
        let mut came = false;
        while self.under_way.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, sent)) = self.under_way.pop_front() else { return };
            self.bbr.sampler.handle_ack(sent, MTU);
            came = true;
        }
        if came {
            let (now, in_flight) = (self.now, self.in_flight());
            let sample = self.bbr.sampler.end_batch(now, in_flight, app_limited, Duration::ZERO);
            if let Some(sample) = sample {
                self.bbr.handle_sample(sample, now);
            }
        }
    }

    fn send(&mut self) {
        let rate = self.bbr.pacing_rate().map_or(f64::MAX, |rate| rate as f64 / 1e3);
        self.allowed = (self.allowed + rate).min(rate + MTU as f64);
        while self.allowed >= MTU as f64 && self.in_flight() + MTU <= self.bbr.window {
            self.allowed -= MTU as f64;
            self.sent += 1;
            self.bbr.sampler.handle_sent(self.now, MTU, RTT);
            if self.loss != 0 && self.sent.is_multiple_of(self.loss) {
                self.bbr.sampler.handle_lost(MTU);
                self.bbr.losses.handle_lost(MTU);
                self.bbr.handle_loss(false, false);
            } else {
                self.queue.push_back((self.now, MTU));
            }
        }
    }

    /// Bytes a second that the controller believes in, of those that the path has.
    fn believed(&self) -> f64 {
        self.bbr.rate() / (self.rate as f64 * 1e3)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_rate_of_the_path_is_found_in_a_second() {
    let mut path = Path::new(6_000, 0);
    path.play(SECOND, true);
    assert!((0.9..1.1).contains(&path.believed()), "{}", path.believed());
}

#[test]
fn losses_at_random_do_not_lower_it() {
    for loss in [1_000, 100, 50, 20] {
        let mut path = Path::new(6_000, loss);
        path.play(10 * SECOND, true);
        assert!((0.9..1.1).contains(&path.believed()), "1 in {loss}: {}", path.believed());
    }
}

#[test]
fn after_the_start_the_window_is_a_bounded_share_more_than_the_path_holds() {
    let mut path = Path::new(6_000, 0);
    path.play(5 * SECOND, true);
    let holds = 6_000.0 * 40.0;
    let windows = path.bbr.window as f64 / holds;
    // 1.75, and the bursts.
    assert!((1.7..2.3).contains(&windows), "{windows}");
}

#[test]
fn the_queue_of_the_start_is_gone_after_it() {
    let mut path = Path::new(6_000, 0);
    path.play(3 * SECOND, true);
    let queued = path.queue.len() as f64 * MTU as f64;
    assert!(queued < 6_000.0 * 40.0 * 0.4, "{queued}");
}

#[test]
fn an_idle_application_makes_the_path_no_slower() {
    let mut path = Path::new(6_000, 0);
    path.play(2 * SECOND, true);
    let before = path.believed();
    for _ in 0..100 {
        path.play(STEP, true);
        path.play(Duration::from_millis(200), false);
    }
    assert!(path.believed() > before * 0.9, "{before} {}", path.believed());
}

#[test]
fn a_path_that_becomes_slower_is_known_within_seconds() {
    let mut path = Path::new(6_000, 0);
    path.play(2 * SECOND, true);
    path.rate = 1_500;
    path.play(5 * SECOND, true);
    assert!(path.believed() < 1.3, "{}", path.believed());
}

#[test]
fn a_path_that_becomes_faster_is_known_within_seconds() {
    let mut path = Path::new(6_000, 0);
    path.play(2 * SECOND, true);
    path.rate = 12_000;
    path.play(5 * SECOND, true);
    assert!(path.believed() > 0.9, "{}", path.believed());
}

#[test]
fn when_nothing_has_arrived_for_long_the_window_is_small_and_grows_back() {
    let mut path = Path::new(6_000, 0);
    path.play(2 * SECOND, true);
    let before = path.bbr.window;
    path.bbr.handle_loss(true, false);
    assert_eq!(path.bbr.window, 4 * MTU);
    path.play(SECOND, true);
    assert!(path.bbr.window > before * 9 / 10, "{before} {}", path.bbr.window);
}

#[test]
fn before_anything_is_known_the_library_paces_by_the_initial_window() {
    let path = Path::new(6_000, 0);
    assert_eq!((path.bbr.window, path.bbr.pacing_rate()), (INITIAL, None));
}

#[test]
fn a_path_faster_than_timers_is_not_paced() {
    let mut path = Path::new(1_000_000, 0);
    path.play(3 * SECOND, true);
    assert_eq!(path.bbr.pacing_rate(), None, "{}", path.bbr.rate());
}

#[test]
fn each_path_has_a_controller_of_its_own_with_the_initial_window() {
    let config = Arc::new(BbrConfig { initial_window: INITIAL });
    assert_eq!(config.build(crate::epoch(), 1_200).window(), INITIAL);
}
