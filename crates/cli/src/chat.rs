//! `holepunch chat`.

use std::process::ExitCode;

use holepunch_programs::chat::{Chat, Form, chat};
use holepunch_programs::{DONE, harmless};
use jiff::tz::TimeZone;
use tokio::io::{BufReader, stdin, stdout};

use crate::exit::Failure;
use crate::joining::{self, JoinArgs};
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;

/// Characters of the peer's id that are shown: all of any id of ours.
const ID_CHARACTERS_MAX: usize = 128;

/// Chat with the peer, line by line
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, on both sides:\n  \
    holepunch chat --rendezvous-url https://rendezvous.example --room tea --name Ada\n  \
    echo done | holepunch chat --room builds --json\n\
    It ends with the input, when everything has arrived, or when the peer leaves.")]
pub(crate) struct Args {
    #[command(flatten)]
    join: JoinArgs,
    /// The name that the peer sees [default: the beginning of this worker's id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print what the peer says as JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let form = if args.json { Form::Json } else { Form::Text(TimeZone::system()) };
    let settings = Chat { name: args.name, form };
    let joined = tokio::select! {
        joined = joining::join(args.join, environment) => joined?,
        _signal = stop.wait() => return Err(Failure::interrupted()),
    };
    let peer = harmless(joined.link.peer().as_str(), ID_CHARACTERS_MAX);
    output::progress(format!("linked with {peer}: type a line to send it, Ctrl-D to end"));
    let outcome = tokio::select! {
        outcome = chat(&joined.link, &settings, BufReader::new(stdin()), stdout()) => outcome,
        _signal = stop.wait() => {
            joined.leave("interrupted").await;
            return Err(Failure::interrupted());
        }
    };
    joined.leave(if outcome.is_ok() { DONE } else { "the chat has failed" }).await;
    let summary = outcome.map_err(Failure::failed)?;
    if summary.peer_left {
        output::progress("the peer has left");
    }
    Ok(ExitCode::SUCCESS)
}
