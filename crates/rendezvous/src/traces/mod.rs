//! Traces of sessions, for a collector of OpenTelemetry: the tracer is told what happens as the log and the metrics are, and makes
//! spans of it.
//!
//! A session is a trace. Its id is the session's number, twice, and the number alone is that of its root: whoever has a
//! line of the log has the trace, and what several rendezvous tell of one session comes together.

mod export;
mod wishes;

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::Uri;
use holepunch_matchmaker::{Event, Told};
use holepunch_wire::session::SessionId;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::links::{Link, Links, News, Path};
use crate::telling::{Observer, nats};
pub(crate) use export::{Exporting, Queue};
use wishes::Wishes;

/// Where traces are taken, by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

/// Why a text names no place that takes traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the URL of a collector without query, as in http://127.0.0.1:4318")]
pub struct OtlpEndpointError;

impl FromStr for OtlpEndpoint {
    type Err = OtlpEndpointError;

    /// Of the collector as a whole, as in `OTEL_EXPORTER_OTLP_ENDPOINT`: each signal has a path behind it.
    fn from_str(text: &str) -> Result<Self, OtlpEndpointError> {
        let url: Uri = text.parse().map_err(|_| OtlpEndpointError)?;
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        if !is_http || url.query().is_some() || url.host().is_none_or(str::is_empty) {
            return Err(OtlpEndpointError);
        }
        Ok(Self(format!("{}/v1/traces", text.trim_end_matches('/'))))
    }
}

/// Which span of a session it is. A session has each once, so that this is the rest of its id.
#[derive(Debug, Clone, Copy)]
enum Part {
    Session = 0,
    FirstWish = 1,
    SecondWish = 2,
    Relayed = 3,
    Direct = 4,
    NoLink = 5,
}

/// Makes spans of what happens.
#[derive(Debug)]
pub(crate) struct Tracer {
    links: Links,
    wishes: Mutex<Wishes>,
    queue: Queue,
}

impl Tracer {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { links: Links::default(), wishes: Mutex::default(), queue }
    }

    /// What workers wish for, and since when.
    fn note_wish(&self, told: &Told, at: SystemTime) {
        let Some(room) = &told.room else { return };
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Queued { worker, .. } = &told.event {
            wishes.note(room, worker, at);
        } else if let Event::Left(worker, _) = &told.event {
            wishes.take(room, worker);
        } else if let Event::Paired(first, second) = &told.event {
            // What becomes of them, nobody tells.
            for worker in [first, second] {
                wishes.take(room, worker);
            }
        }
    }

    /// From the wish of each of the two to their offer.
    fn tell_pairing(&self, session: SessionId, told: &Told, at: SystemTime) {
        let (Event::SessionStarted(workers, strategy, _), Some(room)) = (&told.event, &told.room)
        else {
            return;
        };
        for (worker, part) in workers.iter().zip([Part::FirstWish, Part::SecondWish]) {
            let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(since) = wishes.take(room, worker) else { continue };
            drop(wishes);
            let mut span = span(session, part, "pairing", (since, at.max(since)));
            span.attributes = vec![
                KeyValue::new("holepunch.worker", worker.as_str().to_owned()),
                KeyValue::new("holepunch.strategy", strategy.as_str()),
            ];
            self.queue.push(span);
        }
    }

    /// From the offer to a path that is better than the one before.
    fn tell_link(&self, session: SessionId, link: &Link, news: News) {
        let News::Linked(path, strategy, elapsed) = news else { return };
        let part = if path == Path::Direct { Part::Direct } else { Part::Relayed };
        let time = (link.began, link.began + elapsed);
        let mut span = span(session, part, "link", time);
        span.attributes = vec![
            KeyValue::new("holepunch.path", path.code()),
            KeyValue::new("holepunch.strategy", strategy.as_str()),
            KeyValue::new("holepunch.nats", nats(link.nats)),
        ];
        self.queue.push(span);
    }

    /// From the offer to the end.
    fn tell_session(&self, (session, link): (SessionId, Link), told: &Told, at: SystemTime) {
        let Event::SessionEnded(reason) = &told.event else { return };
        let time = (link.began, at.max(link.began));
        let nats = KeyValue::new("holepunch.nats", nats(link.nats));
        if link.best == Path::None {
            let mut span = span(session, Part::NoLink, "link", time);
            span.status = Status::error(reason.code());
            span.attributes = vec![
                KeyValue::new("holepunch.path", link.best.code()),
                KeyValue::new("holepunch.strategy", link.strategy.as_str()),
                nats.clone(),
            ];
            self.queue.push(span);
        }
        let mut span = span(session, Part::Session, "session", time);
        span.attributes = vec![
            KeyValue::new("holepunch.session", session.to_string()),
            KeyValue::new("holepunch.path", link.best.code()),
            KeyValue::new("holepunch.reason", reason.code()),
            nats,
        ];
        let [first, second] = link.workers.each_ref().map(|it| it.as_str().to_owned());
        span.attributes.push(KeyValue::new("holepunch.worker.first", first));
        span.attributes.push(KeyValue::new("holepunch.worker.second", second));
        if let Some(room) = link.room {
            span.attributes.push(KeyValue::new("holepunch.room", room.name.as_str().to_owned()));
            let tenant = room.tenant.name().map(str::to_owned);
            span.attributes.extend(tenant.map(|it| KeyValue::new("holepunch.tenant", it)));
        }
        self.queue.push(span);
    }
}

impl Observer for Tracer {
    fn observe(&self, told: &Told, at: SystemTime) {
        self.note_wish(told, at);
        let Some((session, _)) = told.session else { return };
        self.tell_pairing(session, told, at);
        // Before the session is forgotten, or has a better path.
        let link = self.links.find(session);
        let (Some(news), Some(link)) = (self.links.observe(told, at), link) else { return };
        match news {
            News::Linked(..) => self.tell_link(session, &link, news),
            News::Ended(_) => self.tell_session((session, link), told, at),
        }
    }
}

fn span(
    session: SessionId,
    part: Part,
    name: &'static str,
    (start_time, end_time): (SystemTime, SystemTime),
) -> SpanData {
    let trace = TraceId::from(u128::from(session.0) << 64 | u128::from(session.0));
    let id = SpanId::from(session.0.wrapping_add(part as u64));
    let is_root = matches!(part, Part::Session);
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: if is_root { SpanId::INVALID } else { SpanId::from(session.0) },
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time,
        end_time,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("holepunch").build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_a_url_of_http() {
        let named = |text: &str| text.parse::<OtlpEndpoint>().map(|OtlpEndpoint(url)| url);
        assert_eq!(named("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(named("https://a.example/otlp/").unwrap(), "https://a.example/otlp/v1/traces");
        for text in ["", "127.0.0.1:4318", "grpc://a:4317", "http://", "http://a/?b=c", "/v1"] {
            assert_eq!(named(text), Err(OtlpEndpointError), "{text}");
        }
    }
}
