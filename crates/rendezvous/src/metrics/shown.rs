//! What every server shows, a rendezvous or a relay alone: what listens, and what is relayed.

use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::words::Word;
use crate::front::Front;
use crate::relay::Relay;
use crate::stun::StunServer;
use crate::tls::Tls;

/// Before the name of every metric.
const PREFIX: &str = "holepunch";

/// All metrics of one process, by their names.
#[derive(Debug)]
pub(crate) struct Shown {
    registry: Mutex<Registry>,
    connections: Family<Word, Gauge>,
    relay_ends: Gauge,
    tls_not_after: Gauge,
}

impl Shown {
    pub(crate) fn new() -> Self {
        let registry = Mutex::new(Registry::with_prefix(PREFIX));
        let shown = Self {
            registry,
            connections: Family::default(),
            relay_ends: Gauge::default(),
            tls_not_after: Gauge::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        shown.add("build", "The server's software", build);
        shown.add("connections", "Open connections", shown.connections.clone());
        shown.add("relay_ends", "Open relay connections", shown.relay_ends.clone());
        let help = "When the certificate of TLS ends, in seconds of Unix time";
        shown.add("tls_not_after_seconds", help, shown.tls_not_after.clone());
        shown
    }

    /// Those of what listens, of the relay, and of the STUN server.
    pub(crate) fn add_service(
        &self,
        front: &Front,
        relay: Option<&Relay>,
        stun: Option<&StunServer>,
    ) {
        self.add_listening(front);
        self.add_relay(relay);
        let answers = stun.map_or_else(crate::stun::no_answers, StunServer::answers);
        self.add("stun_answers", "Binding requests, by what was answered", answers.family());
    }

    fn add_relay(&self, relay: Option<&Relay>) {
        let dropped = relay.map(Relay::dropped).cloned().unwrap_or_default();
        let relay = relay.map(Relay::figures).cloned().unwrap_or_default();
        self.add("relay_bytes", "Bytes that workers have sent to the relay", relay.bytes);
        let refused = "Relay connections that were not taken";
        self.add("relay_refused", refused, relay.refused.family());
        let help = "Datagrams of the relay that went nowhere";
        self.add("relay_datagrams_dropped", help, dropped.words().family());
        self.add("relay_slowed", "Sessions over their relay's rate", relay.slowed);
        self.add("relay_over_quota", "Relay connections over a quota", relay.over_quota);
    }

    fn add_listening(&self, front: &Front) {
        self.add("requests_refused", "Requests refused", front.refused.words().family());
        let ended = "Connections that were ended for others";
        self.add("connections_evicted", ended, front.connections.evicted());
        let tls = front.tls.as_ref().map(Tls::figures).cloned().unwrap_or_default();
        self.add("tls_handshakes", "Clients of TLS, by what came of them", tls.handshakes.family());
        let reloads = "How often the files of the certificate were read again";
        self.add("tls_reloads", reloads, tls.reloads.family());
    }

    /// The answer to a scrape, with what is open at the moment where workers come in.
    pub(crate) fn text(&self, front: &Front, relay: Option<&Relay>) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (kind, count) in ["websocket", "other"].into_iter().zip(front.connections.open()) {
            self.connections.get_or_create(&[("kind", kind)]).set(number(count));
        }
        self.relay_ends.set(number(relay.map_or(0, Relay::open_ends)));
        let not_after = front.tls.as_ref().and_then(Tls::not_after);
        let not_after = not_after.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let not_after = not_after.and_then(|it| i64::try_from(it.as_secs()).ok());
        self.tls_not_after.set(not_after.unwrap_or(0));
        let mut text = String::new();
        // A text takes whatever is written to it.
        self.change(|registry| _ = encode(&mut text, registry));
        text
    }

    /// One more.
    pub(super) fn add(&self, name: &str, help: &str, metric: impl Metric) {
        self.change(|registry| registry.register(name, help, metric));
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        change(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
