//! `GET /metrics`: OpenMetrics. What happens is counted as it is told; what is there is looked at when somebody asks.

mod scrape;
mod told;
mod words;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use holepunch_matchmaker::Told;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::connections::Connections;
use crate::events::Events;
use crate::links::Links;
use crate::peers::Peers;
use crate::refused::Refusals;
use crate::relay::Relay;
use crate::stun::StunServer;
use crate::telling::Observer;
pub(crate) use scrape::{Gauges, ROOMS, Scrape, class_of};
use told::Counters;
pub(crate) use words::{ByWord, by_reason};

/// Before the name of every metric.
const PREFIX: &str = "holepunch";
/// What an answer is (OpenMetrics 1.0).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    counters: Counters,
    gauges: Gauges,
    /// What workers say of their links.
    pub(crate) links: Links,
}

impl Metrics {
    /// Those of what happens at desks and in halls, and of what the two have besides.
    pub(crate) fn new(relay: Option<&Relay>, peers: Option<&Peers>, events: &Events) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The server's software", build);
        let (counters, gauges) =
            (Counters::register(&mut registry), Gauges::register(&mut registry));
        let metrics =
            Self { registry: Mutex::new(registry), counters, gauges, links: Links::default() };
        let dropped = relay.map(Relay::dropped).cloned().unwrap_or_default();
        let relay = relay.map(Relay::figures).cloned().unwrap_or_default();
        metrics.add("relay_bytes", "Bytes that workers have sent to the relay", relay.bytes);
        metrics.add(
            "relay_refused",
            "Relay connections that were not taken",
            relay.refused.family(),
        );
        let help = "Datagrams of the relay that went nowhere";
        metrics.add("relay_datagrams_dropped", help, dropped.words().family());
        metrics.add("relay_slowed", "Sessions over their relay's rate", relay.slowed);
        metrics.add("relay_over_quota", "Relay connections over a quota", relay.over_quota);
        let peers = peers.map(Peers::figures).cloned().unwrap_or_default();
        metrics.add("store_request_seconds", "Time until the store has answered", peers.seconds);
        metrics.add("store_unanswered", "Requests without an answer", peers.unanswered);
        metrics.add("store_unasked", "Requests for which there was no room", peers.unasked);
        metrics.add("packets", "Packets to and from other rendezvous", peers.packets.family());
        metrics.add("events", "Events that the event stream has had", events.told.clone());
        metrics.add("events_missed", "Events too old for a reader", events.missed.clone());
        metrics
    }

    /// Those of what listens.
    pub(crate) fn add_listening(&self, refusals: &Refusals, connections: &Connections) {
        self.add("requests_refused", "Requests refused", refusals.words().family());
        let ended = "Connections that were ended for others";
        self.add("connections_evicted", ended, connections.evicted());
    }

    /// Those of the STUN server.
    pub(crate) fn add_stun(&self, stun: Option<&StunServer>) {
        let answers = stun.map_or_else(crate::stun::no_answers, StunServer::answers);
        self.add("stun_answers", "Binding requests, by what was answered", answers.family());
    }

    /// Those of the tracer.
    #[cfg(feature = "otel")]
    pub(crate) fn add_spans(&self, outcomes: &ByWord) {
        self.add("spans", "Spans of traces, by what became of them", outcomes.family());
    }

    /// The answer to a scrape.
    pub(crate) fn text(&self, now: &Scrape) -> String {
        self.gauges.set(now);
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // A text takes whatever is written to it.
        let _always_fits = encode(&mut text, &registry);
        text
    }

    fn add(&self, name: &str, help: &str, metric: impl Metric) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help, metric);
    }
}

impl Observer for Arc<Metrics> {
    fn observe(&self, told: &Told, at: SystemTime) {
        let news = self.links.observe(told, at);
        self.counters.count(told, news);
    }
}
