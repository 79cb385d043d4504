//! Measures a link: round trips, throughput each way, datagrams.
//!
//! The initiator says what is measured next, on a stream of its own per measurement; the other side
//! serves. Both have the results in the end.

mod measure;
mod serve;

use std::time::Duration;

use holepunch_link::{Link, LinkError, RecvStream};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::agree::{AgreeError, Agreed, Greeting, Patience, agree_with};
use crate::ending::{LAST_WORD_WITHIN, Silent, stay};
use crate::messages::{MESSAGE_BYTES_MAX, MessageError, read_frame, read_message, write_message};
use holepunch_wire::text::harmless;

/// The version of what goes over the link; the two sides have to have the same one.
pub const VERSION: u32 = 1;
/// Longest time of one measurement.
pub const SECONDS_MAX: u32 = 3600;
/// The side that is measured hears of each measurement at its end, within so long.
const TOLD_WITHIN: Duration = Duration::from_secs(SECONDS_MAX as u64 + LAST_WORD_WITHIN.as_secs());
/// Longest name of a path that is shown, in characters: it is the peer's text.
const PATH_CHARS_MAX: usize = 80;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long each direction is filled.
    pub bulk: Duration,
    /// Most round trips that are made.
    pub round_trips: u32,
    /// How long they are made at most; one is made in any case.
    pub round_trips_within: Duration,
    /// Datagrams in a second, and how long they are sent.
    pub datagrams_per_second: u32,
    /// How long datagrams are sent.
    pub datagrams: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let datagrams = Duration::from_secs(2);
        Self {
            bulk: Duration::from_secs(5),
            round_trips: 1000,
            round_trips_within: Duration::from_secs(5),
            datagrams_per_second: 500,
            datagrams,
        }
    }
}

impl Settings {
    /// No measurement takes longer than this; each direction is filled so long.
    #[must_use]
    pub fn of_at_most(time: Duration) -> Self {
        let usual = Self::default();
        Self { bulk: time, round_trips_within: time, datagrams: usual.datagrams.min(time), ..usual }
    }

    /// How long all measurements take together, at most.
    #[must_use]
    pub fn in_all(self) -> Duration {
        self.round_trips_within
            .saturating_add(self.bulk.saturating_mul(2))
            .saturating_add(self.datagrams)
    }
}

/// What a measurement is, as the other side is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "snake_case")]
enum Request {
    /// Answer each message of 64 bytes with itself.
    Echo,
    /// Read to the end; say how much there was.
    Sink,
    /// Write for so long.
    Source { millis: u64 },
    /// Count datagrams until the stream ends.
    Datagrams,
}

/// Throughput in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bulk {
    /// Bytes that arrived.
    pub bytes: u64,
    /// In so long.
    pub seconds: f64,
    /// Million bits in a second.
    pub mbit_per_second: f64,
    /// CPU seconds for a gigabyte (10⁹ bytes), of the sender and the receiver, where the system tells.
    pub sender_cpu_seconds_per_gb: Option<f64>,
    /// The same of the receiver.
    pub receiver_cpu_seconds_per_gb: Option<f64>,
}

/// Round trips of 64 bytes on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// How many.
    pub count: u32,
    /// The median in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took at most so long.
    pub p99_ms: f64,
    /// The shortest.
    pub min_ms: f64,
}

/// Datagrams from the initiator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// Arrived.
    pub received: u64,
    /// The share that did not, in percent.
    pub lost_percent: f64,
    /// How much the time between two of them varies (RFC 3550 §6.4.1), in milliseconds.
    pub jitter_ms: f64,
}

/// All results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The path at the end.
    pub path: String,
    /// Whether it is direct.
    pub direct: bool,
    /// Round trips.
    pub round_trips: RoundTrips,
    /// From the initiator.
    pub up: Bulk,
    /// To the initiator.
    pub down: Bulk,
    /// From the initiator.
    pub datagrams: Datagrams,
}

impl Report {
    /// A report of the peer's: what cannot be is not in it.
    fn checked(self) -> Self {
        let Datagrams { sent, received, .. } = self.datagrams;
        let datagrams = Datagrams { received: received.min(sent), ..self.datagrams };
        Self { path: shown(&self.path), datagrams, ..self }
    }
}

/// What the initiator says on the stream of the greeting.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told {
    /// What has just been measured, in words.
    Step { text: String },
    /// Everything.
    Report { report: Box<Report> },
}

/// Why a measurement ends early.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The peer measures something else, or not at all.
    #[error(transparent)]
    Agree(#[from] AgreeError),
    /// What the peer says is not understood, or its stream ended.
    #[error("the peer stopped measuring: {0}")]
    Message(#[from] MessageError),
    /// A stream ended.
    #[error("the measurement broke off: {0}")]
    Stream(#[from] std::io::Error),
    /// The peer is there, and does not say its last word.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// The peer says nothing of what it measures.
    #[error("the peer is there, but has told no result for {} min", TOLD_WITHIN.as_secs() / 60)]
    Untold,
    /// The peer ended a stream before its time.
    #[error("the peer has ended a measurement before its time")]
    Early,
    /// The link has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Measures the link, or serves the peer that does: once the two have agreed, and this side, which measures, is `ready`.
/// `step` is told what has just been found.
///
/// # Errors
/// The peer runs something else, or the link ends.
pub async fn bench(
    link: &Link,
    settings: Settings,
    ready: impl Future<Output = ()>,
    mut step: impl FnMut(&str),
) -> Result<Report, BenchError> {
    let own = Greeting::new("bench", "", VERSION);
    // Older ones wait for a direct path before they greet.
    let Agreed { mut send, mut recv, .. } = agree_with(link, &own, Patience::Long).await?;
    if !link.is_initiator() {
        let serving = serve::serve(link);
        tokio::pin!(serving);
        loop {
            tokio::select! {
                served = &mut serving => served?,
                told = timeout(TOLD_WITHIN, next(&mut recv)) => match told.map_err(|_| BenchError::Untold)?? {
                    Heard::Step(text) => step(&text),
                    Heard::Report(report) => {
                        // So that the initiator knows that it has arrived.
                        send.finish().map_err(std::io::Error::from)?;
                        stay(send.stopped()).await;
                        return Ok(*report);
                    }
                },
            }
        }
    }
    ready.await;
    let mut both = async |own: String, theirs: String| {
        step(&own);
        write_message(&mut send, &Told::Step { text: theirs }).await
    };
    // None takes longer, and the answer comes after that.
    let longest = Duration::from_secs(SECONDS_MAX.into());
    let bulk = settings.bulk.min(longest);
    let round_trips =
        in_time(settings.round_trips_within, measure::round_trips(link, settings)).await?;
    let RoundTrips { p50_ms, p99_ms, .. } = round_trips;
    let text = format!("round trip p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms");
    both(text.clone(), text).await?;
    let up = in_time(bulk, measure::up(link, bulk)).await?;
    both(to_the_peer(&up), from_the_peer(&up)).await?;
    let down = in_time(bulk, measure::down(link, bulk)).await?;
    both(from_the_peer(&down), to_the_peer(&down)).await?;
    let datagrams = measure::datagrams(link, settings.datagrams_per_second, settings.datagrams);
    let datagrams = in_time(settings.datagrams, datagrams).await?;
    let path = link.path();
    let direct = matches!(path.kind, holepunch_link::PathKind::Direct { .. });
    let report = Report { path: path.kind.to_string(), direct, round_trips, up, down, datagrams };
    write_message(&mut send, &Told::Report { report: Box::new(report.clone()) }).await?;
    let _the_end =
        in_time(Duration::ZERO, async { Ok(read_message::<Told>(&mut recv).await?) }).await?;
    Ok(report)
}

/// What is done in `time` and then waits for the peer's answer.
async fn in_time<T>(
    time: Duration,
    measuring: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let what = "waiting for its part of the measurement";
    timeout(time + LAST_WORD_WITHIN, measuring).await.map_err(|_| Silent::new(what))?
}

/// What the peer has said while it measures, fit to be shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// What has just been measured, in words: one harmless line.
    Step(String),
    /// Everything, without what cannot be.
    Report(Box<Report>),
}

async fn next(recv: &mut RecvStream) -> Result<Heard, BenchError> {
    let message = read_frame(recv, MESSAGE_BYTES_MAX).await?.ok_or(BenchError::Early)?;
    Ok(heard(&message).map_err(MessageError::Malformed)?)
}

/// Reads a message of the initiator's, the content of its frame.
///
/// # Errors
/// It is none.
pub fn heard(message: &[u8]) -> Result<Heard, serde_json::Error> {
    Ok(match serde_json::from_slice(message)? {
        Told::Step { text } => Heard::Step(shown(&text)),
        Told::Report { report } => Heard::Report(Box::new(report.checked())),
    })
}

fn to_the_peer(bulk: &Bulk) -> String {
    format!("to the peer {:.0} Mbit/s", bulk.mbit_per_second)
}

fn from_the_peer(bulk: &Bulk) -> String {
    format!("from the peer {:.0} Mbit/s", bulk.mbit_per_second)
}

/// A figure without digits that mean nothing: thousandths.
fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

fn shown(text: &str) -> String {
    harmless(text, PATH_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::agree::agree;
    use holepunch_link::testing;

    #[test]
    fn how_long_all_of_it_takes_follows_from_the_settings() {
        assert_eq!(Settings::default().in_all(), Duration::from_secs(17));
        assert_eq!(Settings::of_at_most(Duration::from_secs(1)).in_all(), Duration::from_secs(4));
        assert_eq!(Settings::of_at_most(Duration::MAX).in_all(), Duration::MAX);
    }

    #[tokio::test]
    async fn both_sides_have_the_same_report() {
        let (a, b, _sockets) = testing::pair().await;
        let settings = Settings {
            bulk: Duration::from_millis(50),
            round_trips: 20,
            round_trips_within: Duration::from_secs(40),
            datagrams_per_second: 100,
            datagrams: Duration::from_millis(50),
        };
        let mut steps = [Vec::new(), Vec::new()];
        let [first, second] = &mut steps;
        let (report, served) = tokio::join!(
            bench(&a, settings, ready(()), |text| first.push(text.to_owned())),
            bench(&b, settings, ready(()), |text| second.push(text.to_owned()))
        );
        let report = report.unwrap();
        assert_eq!(report, served.unwrap());
        assert!(report.direct && report.up.bytes > 0 && report.down.bytes > 0, "{report:?}");
        assert_eq!((report.round_trips.count, steps.each_ref().map(Vec::len)), (20, [3, 3]));
        for (step, starts) in [(1, ["to the peer", "from the peer"]), (2, ["from", "to"])] {
            let told = steps.each_ref().map(|told| told[step].as_str());
            let holds = told.iter().zip(starts).all(|(told, start)| told.starts_with(start));
            assert!(holds && told[0] != told[1], "{told:?}");
        }
        for figure in [report.up.seconds, report.up.mbit_per_second, report.round_trips.p50_ms] {
            assert_eq!(figure, rounded(figure));
        }
        assert!(report.datagrams.sent >= 5, "{report:?}");
    }

    #[tokio::test]
    async fn a_peer_that_reports_more_than_there_was_is_not_believed() {
        let (a, b, _sockets) = testing::pair().await;
        let trips = RoundTrips { count: 0, p50_ms: -1e308, p99_ms: 1e308, min_ms: 0.0 };
        let nothing = Bulk {
            bytes: u64::MAX,
            seconds: 0.0,
            mbit_per_second: f64::MAX,
            sender_cpu_seconds_per_gb: None,
            receiver_cpu_seconds_per_gb: Some(-1.0),
        };
        let report = Report {
            path: "nowhere\r\n\u{202e}".to_owned(),
            direct: true,
            round_trips: trips,
            up: nothing,
            down: nothing,
            datagrams: Datagrams {
                sent: 1,
                received: u64::MAX,
                lost_percent: -1.0,
                jitter_ms: 0.0,
            },
        };
        let lying = async {
            let own = Greeting::new("bench", "", VERSION);
            let Agreed { mut send, mut recv, .. } = agree(&a, &own).await.unwrap();
            write_message(&mut send, &Told::Report { report: Box::new(report) }).await.unwrap();
            read_message::<Told>(&mut recv).await.unwrap()
        };
        let (served, _) = tokio::join!(bench(&b, Settings::default(), ready(()), |_| ()), lying);
        let served = served.unwrap();
        assert_eq!((served.datagrams.sent, served.datagrams.received), (1, 1));
        assert_eq!(served.path, "nowhere\\u{d}\\u{a}\\u{202e}");
    }

    #[tokio::test]
    async fn round_trips_end_with_their_time_however_long_each_takes() {
        let (a, b, _sockets) = testing::pair().await;
        let settings = Settings { round_trips: u32::MAX, ..Settings::of_at_most(Duration::ZERO) };
        let quiet = |_: &str| ();
        let (report, _) = tokio::join!(
            bench(&a, settings, ready(()), quiet),
            bench(&b, settings, ready(()), quiet)
        );
        assert_eq!(report.unwrap().round_trips.count, 1);
    }
}
