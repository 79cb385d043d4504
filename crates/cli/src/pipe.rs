//! `holepunch pipe`.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use holepunch_programs::pipe::{Input, Output, PipeError, Progress, Stdin, Stdout, pipe};
use holepunch_worker::{Close, CloseCode};
use tokio::time::{MissedTickBehavior, interval};

use crate::exit::Failure;
use crate::joining::{self, Alone, Manner, MeetArgs, Telling, Turn};
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;

/// Progress is shown this often.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Send standard input to the peer, print what comes
///
/// It ends when both inputs have ended and everything has arrived, or when nobody reads the output. Where nothing goes
/// back, `< /dev/null` ends that direction at once; a terminal at which nothing is typed ends with the peer's output.
///
/// Exit code 1 when something is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tar c photos | holepunch pipe                     which prints the code\n  \
    holepunch pipe 7-guitar-fox < /dev/null | tar x   on the other side")]
pub(crate) struct Args {
    #[command(flatten)]
    meet: MeetArgs,
    /// Show on standard error how many bytes have gone each way
    #[arg(long)]
    progress: bool,
    /// Print the result as a JSON object, on standard error
    ///
    /// Standard output is the peer's.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    // Standard output is the peer's.
    let telling = Telling::lines().and_json(args.json, |told| {
        output::progress(serde_json::to_string(told).unwrap_or_default());
    });
    let manner = Manner { telling, alone: Alone::BothWays("pipe"), replaces: false };
    let mut joined = joining::join(args.meet.into(), environment, manner, &mut stop).await?;
    let progress = Progress::telling(|text| output::progress(text));
    let mut input = Input::new(Stdin::new()).typed(std::io::stdin().is_terminal());
    let mut output = Output::new(Stdout::new()).map_err(Failure::failed)?;
    let (joined, outcome) = loop {
        let outcome = tokio::select! {
            outcome = pipe(&joined.link, &mut input, &mut output, &progress) => outcome,
            never = show(&progress, args.progress) => match never {},
            _signal = stop.wait() => return Err(joined.interrupted().await),
        };
        let has_begun = !matches!(outcome, Err(PipeError::Agree(_)));
        match joined.turn(has_begun, outcome, &mut stop).await? {
            Turn::Over(joined, outcome) => break (joined, outcome),
            Turn::Again(next) => joined = next,
        }
    };
    let done = Close::from(CloseCode::Done);
    joined.leave(if outcome.is_ok() { done } else { "the pipe is broken".into() }).await;
    let summary = outcome.map_err(Failure::failed)?;
    if args.json {
        output::progress(serde_json::to_string(&summary).map_err(Failure::failed)?);
    } else if args.progress {
        line(&progress);
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the progress for ever.
async fn show(progress: &Progress, is_wanted: bool) -> Infallible {
    if !is_wanted {
        return std::future::pending().await;
    }
    let mut ticks = interval(SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        line(progress);
    }
}

fn line(progress: &Progress) {
    let (sent, received) = progress.bytes();
    output::progress(format!("{sent} bytes sent, {received} received"));
}
