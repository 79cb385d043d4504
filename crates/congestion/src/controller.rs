//! The controller as the library calls it.

use std::any::Any;
use std::time::{Duration, Instant};

use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerMetrics};

use crate::Bbr;

impl Controller for Bbr {
    fn on_packet_sent(&mut self, now: Instant, bytes: u16, _pn: u64) {
        let shortest = self.shortest();
        self.sampler.handle_sent(now, u64::from(bytes), shortest);
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
        self.smoothed_rtt = rtt.get();
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
            self.handle_sample(sample, now);
        }
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        _lost_bytes: u64,
        _largest_lost_pn: u64,
    ) {
        self.handle_loss(is_persistent_congestion, is_ecn);
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, _pn: u64, _now: Instant) {
        self.sampler.handle_lost(u64::from(lost_bytes));
        self.losses.handle_lost(u64::from(lost_bytes));
    }

    fn on_spurious_congestion_event(&mut self) {
        self.handle_spurious_loss();
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
        let bits = self.rate() * 8.0;
        metrics.bandwidth_estimate = (bits > 0.0).then_some(bits as u64);
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
