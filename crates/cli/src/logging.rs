//! Logs on standard error: text for people, JSON with Cloud Logging's severities for machines.

use std::io::IsTerminal;
use std::time::Duration;

use json_subscriber::JsonLayer;
use tracing::Level;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::exit::Failure;

/// Always added to the filter: this codec warns about every malformed datagram of a stranger, and these two
/// tell each step and what the worker says itself.
const QUIET: &str = "stun_types=error,stun_proto=off,turn_client_proto=off";

/// Lines that wait for a reader of the log that is slow, or has stopped. What comes then is left out:
/// a service must not stand still because nobody reads what it says.
const LINES_WAITING_MAX: usize = 100_000;
/// At the end of the process, time for the lines that still wait.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Keeps the log going; the last lines are written when it is dropped.
#[derive(Debug)]
pub(crate) struct Logging(Option<WorkerGuard>);

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        // A reader that has stopped would hold the guard, and with it the end of the process.
        let (done, flushed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(guard);
            let _nobody_waits_any_more = done.send(());
        });
        let _in_time = flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// Starts logging for the whole process.
pub(crate) fn start(
    format: Option<LogFormat>,
    filter: Option<&str>,
    default_filter: &str,
) -> Result<Logging, Failure> {
    let chosen = filter.unwrap_or(default_filter);
    let filter = EnvFilter::try_new(format!("{QUIET},{chosen}")).map_err(|error| {
        Failure::usage(format!("the log filter {chosen:?} (--log, RUST_LOG) is not valid: {error}"))
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let default = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format.unwrap_or(default) {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .with_ansi(is_terminal)
                .with_target(false);
            registry.with(layer).try_init()
        }
        LogFormat::Json => registry.with(json_layer(writer)).try_init(),
    };
    // A second command in one process, as in a laboratory, keeps the first one's log.
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    Ok(Logging(Some(guard)))
}

fn json_layer<S>(writer: NonBlocking) -> JsonLayer<S, NonBlocking>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let mut layer = JsonLayer::<S, _>::new(writer);
    layer.with_timer("time", SystemTime);
    layer.add_dynamic_field("severity", |event, _| Some(severity(*event.metadata().level())));
    layer.with_flattened_event();
    layer.with_top_level_flattened_current_span();
    layer.with_target("target");
    layer
}

/// Cloud Logging's name of a level.
fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}
