//! `GET /metrics`: OpenMetrics. What happens is counted as it is told; what is there is looked at when somebody asks.

mod scrape;
mod shown;
mod told;
mod words;

use std::sync::Arc;
use std::time::SystemTime;

use holepunch_matchmaker::Told;

use crate::events::Events;
use crate::links::Links;
use crate::peers::Peers;
use crate::telling::Observer;
pub(crate) use scrape::{Gauges, ROOMS, Scrape, class_of};
pub(crate) use shown::Shown;
use told::Counters;
pub(crate) use words::{ByWord, by_reason};

/// What an answer is (OpenMetrics 1.0).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one rendezvous.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) shown: Shown,
    counters: Counters,
    gauges: Gauges,
    /// What workers say of their links.
    pub(crate) links: Links,
}

impl Metrics {
    /// Those of what happens at desks and in halls, and of what goes to others.
    pub(crate) fn new(peers: Option<&Peers>, events: &Events) -> Self {
        let shown = Shown::new();
        let (counters, gauges) =
            shown.change(|registry| (Counters::register(registry), Gauges::register(registry)));
        let peers = peers.map(Peers::figures).cloned().unwrap_or_default();
        shown.add("store_request_seconds", "Time until the store has answered", peers.seconds);
        shown.add("store_unanswered", "Requests without an answer", peers.unanswered);
        shown.add("store_unasked", "Requests for which there was no room", peers.unasked);
        shown.add("packets", "Packets to and from other rendezvous", peers.packets.family());
        shown.add("events", "Events that the event stream has had", events.told.clone());
        shown.add("events_missed", "Events too old for a reader", events.missed.clone());
        Self { shown, counters, gauges, links: Links::default() }
    }

    /// Those of the tracer.
    #[cfg(feature = "otel")]
    pub(crate) fn add_spans(&self, outcomes: &ByWord) {
        self.shown.add("spans", "Spans of traces, by what became of them", outcomes.family());
    }

    /// What is there at the moment, for the answer that follows.
    pub(crate) fn see(&self, now: &Scrape) {
        self.gauges.set(now);
    }
}

impl Observer for Arc<Metrics> {
    fn observe(&self, told: &Told, at: SystemTime) {
        let news = self.links.observe(told, at);
        self.counters.count(told, news);
    }
}
