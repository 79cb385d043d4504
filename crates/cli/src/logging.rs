//! Logs on standard error: text for people, JSON with Cloud Logging's severities for machines.

mod ids;
mod json;
mod shown;
mod tame;

use std::fmt;
use std::io::BufWriter;
use std::time::Duration;

use jiff::Zoned;
use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::exit::Failure;
use crate::output::Log;
use crate::screen::{Stream, has_colours, is_terminal};
use json::JsonLine;
use shown::Shown;
use tame::{Form, tame};

/// Always added to the filter: this codec warns about every malformed datagram of a stranger, and these two
/// tell each step and what the worker says itself.
const QUIET: &str = "stun_types=error,stun_proto=off,turn_client_proto=off";

/// Lines that wait for a reader of the log that is slow, or has stopped. What comes then is left out:
/// a service must not stand still because nobody reads what it says.
const LINES_WAITING_MAX: usize = 100_000;
/// Lines that wait are written together, so many bytes at most: a write for each would be most of what a busy log costs.
const WRITTEN_BYTES_MAX: usize = 32 * 1024;
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
    // By target and level alone: a filter by fields of spans would bring a machine for regular expressions along.
    let filter: Targets = format!("{QUIET},{chosen}").parse().map_err(|error| {
        Failure::usage(format!("the log filter {chosen:?} (--log, RUST_LOG) is not valid: {error}"))
    })?;
    let is_terminal = is_terminal(Stream::Err);
    let default = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("log")
        .finish(BufWriter::with_capacity(WRITTEN_BYTES_MAX, Log));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format.unwrap_or(default) {
        LogFormat::Text => {
            let look = Look { is_terminal, coloured: has_colours(Stream::Err) };
            registry.with(text_layer(writer, look)).try_init()
        }
        LogFormat::Json => registry.with(json_layer(writer)).try_init(),
    };
    // A second command in one process, as in a laboratory, keeps the first one's log.
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    Ok(Logging(Some(guard)))
}

/// How text looks.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Whether it is read where it appears: times, ids, and what is said again are short then.
    is_terminal: bool,
    coloured: bool,
}

/// The time of a line.
enum Clock {
    /// The date and the time, in UTC: in a file.
    Whole,
    /// The time of the day, where somebody looks on.
    OfDay,
}

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        match self {
            Self::Whole => SystemTime.format_time(writer),
            Self::OfDay => write!(writer, "{}", Zoned::now().strftime("%H:%M:%S%.3f")),
        }
    }
}

fn text_layer<S, W>(writer: W, look: Look) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let form = if look.coloured { Form::Coloured } else { Form::Plain };
    let (clock, shown) = match look.is_terminal {
        true => (Clock::OfDay, Some(Shown::default())),
        false => (Clock::Whole, None),
    };
    tracing_subscriber::fmt::layer()
        .with_writer(tame(writer, form, shown))
        .with_timer(clock)
        .with_ansi(look.coloured)
        .with_target(false)
}

fn json_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine)
        .with_writer(tame(writer, Form::Json, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// What others may say: sets the title, clears the screen, turns text around, overwrites the line.
    const HOSTILE: &str = "\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{202e}\u{9b}31m\rx\nERROR y\t\u{200b}z";

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// A line with such a text as message, as text, and as something shown.
    fn logged(subscriber: impl Subscriber + Send + Sync) {
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("session", peer = HOSTILE).entered();
            tracing::warn!(why = HOSTILE, id = %HOSTILE, quoted = ?HOSTILE, "{HOSTILE}");
        });
    }

    #[test]
    fn what_others_say_stays_in_its_line_of_text_and_colours_nothing() {
        for coloured in [false, true] {
            let written = Written::default();
            let writer = written.clone();
            let look = Look { is_terminal: coloured, coloured };
            let layer = text_layer(move || writer.clone(), look);
            logged(tracing_subscriber::registry().with(layer));
            let text = written.text();
            let (line, rest) = text.split_once('\n').unwrap();
            assert_eq!((rest, line.contains("OWNED")), ("", true), "{text:?}");
            let mut own = String::from(line);
            for colour in ["0", "1", "2", "3", "32", "33"] {
                own = own.replace(&format!("\u{1b}[{colour}m"), "");
            }
            assert_eq!(own != line, coloured, "{text:?}");
            assert_eq!(holepunch_wire::text::harmless(&own, usize::MAX), own);
        }
    }

    #[test]
    fn on_a_terminal_an_id_stands_there_whole_once_and_elsewhere_each_time() {
        const ID: &str = "3f420cb5-1ff7-83ba-a222-9a80c7313115";
        let expected = [
            (
                true,
                [
                    "worker starts worker=3f420cb5-1ff7-83ba-a222-9a80c7313115",
                    "worker{worker=3f420cb5}: done",
                ],
            ),
            (
                false,
                [
                    "worker starts worker=3f420cb5-1ff7-83ba-a222-9a80c7313115",
                    "worker{worker=3f420cb5-1ff7-83ba-a222-9a80c7313115}: done",
                ],
            ),
        ];
        for (is_terminal, expected) in expected {
            let written = Written::default();
            let writer = written.clone();
            let look = Look { is_terminal, coloured: false };
            let layer = text_layer(move || writer.clone(), look);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::info!(worker = %ID, "worker starts");
                let _span = tracing::info_span!("worker", worker = %ID).entered();
                tracing::info!("done");
            });
            let text = written.text();
            for (line, expected) in text.lines().zip(expected) {
                let (time, told) = line.split_once(" INFO ").unwrap();
                assert_eq!(told, expected);
                assert_eq!(time.trim().len() == "12:34:56.789".len(), is_terminal, "{line}");
            }
            assert_eq!(text.lines().count(), 2);
        }
    }

    #[test]
    fn what_others_say_is_escaped_in_json_and_means_the_same() {
        let written = Written::default();
        let writer = written.clone();
        logged(tracing_subscriber::registry().with(json_layer(move || writer.clone())));
        let text = written.text();
        let (line, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "");
        assert_eq!(holepunch_wire::text::harmless(line, usize::MAX), line);
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in ["why", "id", "message", "peer"] {
            assert_eq!(entry[field], HOSTILE, "{line}");
        }
    }
}
