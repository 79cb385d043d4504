//! Who is measured, and how.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use holepunch_lab::LabError;
use holepunch_lab::fast_line::LaneCounts;
use holepunch_lab::fast_line::network::{LineNetwork, Place, SERVICE};
use serde::Serialize;

use crate::Args;
use crate::cell::Cell;

/// A program of somebody else's comes up within this, on a bad line too.
const PEER_UP_WITHIN: Duration = Duration::from_secs(60);
/// Beside its time such a program waits for a direct path, and until all has arrived.
const PEER_ENDS_WITHIN: Duration = Duration::from_secs(120);
/// Ports and times on its command line: its relay's, and seconds for a direct path.
const PEER_RELAY_PORT: u16 = 3343;
const PEER_DISCOVERY_PORT: &str = "7842";
const PEER_DIRECT_WITHIN: &str = "20";
/// A line on which more packets of a hundred than this come late is not the one that was meant.
const LATE_PERCENT_MAX: f64 = 5.0;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// TCP with BBR
    Bbr,
    /// TCP with Cubic
    Cubic,
    /// `holepunch pipe`
    Holepunch,
    #[value(skip)]
    Peer,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
            Self::Holepunch => "holepunch",
            Self::Peer => "peer",
        })
    }
}

/// How much has arrived, and what the line did meanwhile.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) mbit: f64,
    pub(crate) line: Line,
}

/// What the line did from its beginning on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// To the receiver.
    there: LaneCounts,
    /// To the sender.
    back: LaneCounts,
    /// Packets that the line has not read in time.
    overruns: u64,
}

impl Line {
    pub(crate) fn of(network: &LineNetwork) -> Result<Self, LabError> {
        let [there, back] = network.counts()?;
        Ok(Self { there, back, overruns: network.overruns()? })
    }

    /// Whether it was the line that was meant.
    pub(crate) fn is_good(&self) -> bool {
        let is_punctual =
            |lane: &LaneCounts| lane.late as f64 * 100.0 <= lane.passed as f64 * LATE_PERCENT_MAX;
        let failed = self.overruns + self.there.failed + self.back.failed;
        failed == 0 && is_punctual(&self.there) && is_punctual(&self.back)
    }
}

impl Contender {
    /// Measures it alone, on a new line.
    pub(crate) fn measure(self, cell: &Cell, args: &Args) -> Result<Figure, LabError> {
        let time = Duration::from_secs(args.seconds);
        let network = cell.build()?;
        let mbit = match self {
            Self::Bbr => tcp(&network, "bbr", time)?,
            Self::Cubic => tcp(&network, "cubic", time)?,
            Self::Holepunch => holepunch(&network, time)?,
            Self::Peer => {
                // It is among those who are measured only where there is one.
                let command = args.peer_command.as_deref().unwrap_or(Path::new(""));
                peer(&network, command, args.seconds)?
            }
        };
        Ok(Figure { mbit, line: Line::of(&network)? })
    }
}

fn tcp(network: &LineNetwork, control: &str, time: Duration) -> Result<f64, LabError> {
    let arrivals = network.tcp(control, time)?.arrivals()?;
    Ok(arrivals.mbit_per_second(Duration::ZERO, time))
}

fn holepunch(network: &LineNetwork, time: Duration) -> Result<f64, LabError> {
    let rendezvous = network.rendezvous()?;
    let flow = network.pipe(&rendezvous)?;
    let end = flow.begun()? + time;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    Ok(flow.arrivals().mbit_per_second(Duration::ZERO, time))
}

fn peer(network: &LineNetwork, command: &Path, seconds: u64) -> Result<f64, LabError> {
    let command = command.to_string_lossy();
    let relay = network.other(Place::Wan, &command, &["relay", &SERVICE.to_string()])?;
    relay.said("READY", PEER_UP_WITHIN)?;
    let url = format!("https://{SERVICE}:{PEER_RELAY_PORT}");
    let listener = network.other(Place::Host(1), &command, &["listen", &url])?;
    let id = listener.said("ID", PEER_UP_WITHIN)?;
    listener.said("REPORT", PEER_UP_WITHIN)?;
    let seconds_word = seconds.to_string();
    let words = ["dial", &url, &id, PEER_DISCOVERY_PORT, &seconds_word, PEER_DIRECT_WITHIN];
    let dialer = network.other(Place::Host(0), &command, &words)?;
    let result = dialer.said("RESULT", PEER_ENDS_WITHIN + Duration::from_secs(seconds))?;
    let figure = |name: &str| {
        let word = result.split_whitespace().find_map(|word| word.strip_prefix(name))?;
        word.strip_prefix('=')?.parse::<f64>().ok()
    };
    match (figure("direct"), figure("bulk_mbit")) {
        (Some(1.0), Some(mbit)) => Ok(mbit),
        _ => Err(LabError::NotProven { why: "not direct".to_owned(), evidence: result }),
    }
}
