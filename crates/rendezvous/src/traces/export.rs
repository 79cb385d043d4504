//! Spans wait for their turn, and are sent to the collector many at once. A collector that is slow, away or of another mind costs spans, which
//! are counted, and nothing else.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::OtlpEndpoint;
use crate::metrics::ByWord;
use crate::tls;

/// Spans that wait, some 1 KiB each. A session has five at most.
const SPANS_WAITING_MAX: usize = 8192;
/// Spans in one request.
const SPANS_SENT_MAX: usize = 512;
/// So long others are waited for that go in the same request.
const GATHER_WITHIN: Duration = Duration::from_secs(1);
/// A request and its answer, with all that is tried again.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// A collector that asks for it is asked again so often.
const RETRIES_MAX: usize = 2;
/// At the end, time for the spans that wait still.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What becomes of a span, as the places of the words.
const EXPORTED: usize = 0;
const QUEUE_FULL: usize = 1;
const NOT_TAKEN: usize = 2;

/// Takes spans, and never waits.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    sender: mpsc::Sender<SpanData>,
    /// What has become of them.
    pub(crate) outcomes: ByWord,
}

impl Queue {
    fn new() -> (Self, mpsc::Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(SPANS_WAITING_MAX);
        let outcomes = ByWord::new("outcome", ["exported", "queue_full", "not_taken"]);
        (Self { sender, outcomes }, receiver)
    }

    pub(super) fn push(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.outcomes.add(QUEUE_FULL, 1);
        }
    }
}

/// What sends the spans, as long as the server runs.
#[derive(Debug)]
pub(crate) struct Exporting {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends what is pushed into the queue, as this instance.
    pub(crate) fn start(endpoint: &OtlpEndpoint, instance: u32) -> Result<(Queue, Self), String> {
        let exporter = exporter(endpoint, instance)?;
        let (queue, waiting) = Queue::new();
        let (stop, stopped) = oneshot::channel();
        let outcomes = queue.outcomes.clone();
        let run = Run { exporter, waiting, outcomes, is_taken: true };
        Ok((queue, Self { stop, task: tokio::spawn(run.run(stopped)) }))
    }

    /// Sends what waits, as far as there is time.
    pub(crate) async fn finish(mut self) {
        // One that has panicked needs no word.
        let _is_told = self.stop.send(());
        if timeout(FLUSH_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

fn exporter(OtlpEndpoint(url): &OtlpEndpoint, instance: u32) -> Result<SpanExporter, String> {
    let tls = tls::client_config().map_err(|why| why.to_string())?;
    let client = reqwest::Client::builder()
        .timeout(EXPORT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|why| why.to_string())?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(url)
        .with_protocol(Protocol::HttpJson)
        .with_timeout(EXPORT_TIMEOUT)
        .with_retry_policy(RetryPolicy::recommended().with_max_retries(RETRIES_MAX))
        .build()
        .map_err(|why: ExporterBuildError| why.to_string())?;
    let resource = Resource::builder_empty().with_service_name("holepunch-rendezvous");
    let resource = resource.with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        // As in the ids of events.
        KeyValue::new("service.instance.id", format!("{instance:08x}")),
    ]);
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

struct Run {
    exporter: SpanExporter,
    waiting: mpsc::Receiver<SpanData>,
    outcomes: ByWord,
    /// Whether the collector took the last ones.
    is_taken: bool,
}

impl Run {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = gather(&mut self.waiting, &mut batch) => {}
                _ = &mut stopped => break,
            }
            self.export(std::mem::take(&mut batch)).await;
        }
        self.waiting.close();
        loop {
            let room = SPANS_SENT_MAX.saturating_sub(batch.len());
            self.waiting.recv_many(&mut batch, room).await;
            if batch.is_empty() {
                return;
            }
            self.export(std::mem::take(&mut batch)).await;
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let sent = match timeout(EXPORT_TIMEOUT, self.exporter.export(batch)).await {
            Ok(sent) => sent.map_err(|why| why.to_string()),
            Err(late) => Err(late.to_string()),
        };
        self.outcomes.add(if sent.is_ok() { EXPORTED } else { NOT_TAKEN }, spans);
        // A collector that is away would be told of with every request.
        match (&sent, std::mem::replace(&mut self.is_taken, sent.is_ok())) {
            (Err(why), true) => tracing::warn!(why, spans, "the collector takes no traces"),
            (Ok(()), false) => tracing::info!("the collector takes traces again"),
            (Ok(()), true) | (Err(_), false) => {}
        }
    }
}

/// Waits for spans, and a moment for others.
async fn gather(waiting: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    if batch.is_empty() && waiting.recv_many(batch, SPANS_SENT_MAX).await == 0 {
        // Nobody is left who has any: the end comes by another way.
        return std::future::pending().await;
    }
    let others = async {
        while batch.len() < SPANS_SENT_MAX {
            if waiting.recv_many(batch, SPANS_SENT_MAX - batch.len()).await == 0 {
                return;
            }
        }
    };
    // Late is as good as full.
    let _is_full = timeout(GATHER_WITHIN, others).await;
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use holepunch_wire::session::SessionId;

    use super::super::{Part, span};
    use super::*;

    #[test]
    fn spans_beyond_what_may_wait_are_counted_and_dropped() {
        let (queue, waiting) = Queue::new();
        let now = SystemTime::UNIX_EPOCH;
        for _ in 0..SPANS_WAITING_MAX + 3 {
            queue.push(span(SessionId(7), Part::Session, "session", (now, now)));
        }
        assert_eq!(waiting.len(), SPANS_WAITING_MAX);
        assert_eq!(queue.outcomes.counts().collect::<Vec<_>>(), [0, 3, 0]);
    }
}
