//! `holepunch chat`.

use std::io::IsTerminal;
use std::process::ExitCode;

use holepunch_programs::chat::{Chat, ChatError, Form, Summary, chat};
use holepunch_worker::{Close, CloseCode};
use jiff::tz::TimeZone;
use tokio::io::{AsyncBufRead, AsyncWrite, BufReader, stdin, stdout};

use crate::exit::Failure;
use crate::joining::{self, Alone, Joined, Manner, MeetArgs, Telling, Turn};
use crate::line_editor::{LineEditor, discard_typed};
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;

/// Chat with the peer, line by line
///
/// It ends with the input, when everything has arrived, or when the peer leaves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, here and there (the first prints the code):\n  \
    holepunch chat --name Ada\n  \
    holepunch chat 7-guitar-fox")]
pub(crate) struct Args {
    #[command(flatten)]
    meet: MeetArgs,
    /// The name that the peer sees
    ///
    /// [env: CHAT_NAME] [default: the beginning of this worker's id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print what the peer says as JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let json = args.json;
    let outcome = talk(args, environment).await;
    output::json_failure(json, &outcome);
    outcome
}

async fn talk(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let telling = Telling::lines().and_json(args.json, output::json_line);
    let form = if args.json { Form::Json } else { Form::Text(TimeZone::system()) };
    let name = environment.setting("--name", args.name, &["CHAT_NAME"])?;
    let settings = Chat { name, form };
    let manner = Manner { telling, alone: Alone::BothWays("chat"), replaces: false };
    let joined = joining::join(args.meet.into(), environment, manner, &mut stop).await?;
    let mut editor = if args.json { None } else { LineEditor::start().await? };
    if std::io::stdin().is_terminal() {
        output::progress("type a line to send it, Ctrl-D to end");
    }
    let outcome = over_links(joined, &settings, &mut editor, &mut stop).await;
    if let Some(editor) = editor {
        // Whoever has ended it expects that.
        let is_surprised = !matches!(&outcome, Ok(summary) if !summary.peer_left);
        editor.close(is_surprised).await;
    } else if std::io::stdin().is_terminal() {
        discard_typed();
    }
    outcome.map(|_| ExitCode::SUCCESS)
}

/// Chats over one link after the other, until a peer that shares the secret has had its turn.
async fn over_links(
    mut joined: Joined,
    settings: &Chat,
    editor: &mut Option<LineEditor>,
    stop: &mut Stop,
) -> Result<Summary, Failure> {
    let mut input: Box<dyn AsyncBufRead + Send + Unpin> = match editor {
        Some(editor) => Box::new(BufReader::new(editor.input())),
        None => Box::new(BufReader::new(stdin())),
    };
    let tell = |text: &str| output::progress(text);
    let (joined, outcome) = loop {
        let output: Box<dyn AsyncWrite + Send + Unpin> = match editor {
            Some(editor) => Box::new(editor.output()),
            None => Box::new(stdout()),
        };
        let outcome = tokio::select! {
            outcome = chat(&joined.link, settings, &mut input, output, &tell) => outcome,
            _signal = stop.wait() => return Err(joined.interrupted().await),
        };
        let has_begun = !matches!(outcome, Err(ChatError::Agree(_)));
        match joined.turn(has_begun, outcome, stop).await? {
            Turn::Over(joined, outcome) => break (joined, outcome),
            Turn::Again(next) => joined = next,
        }
    };
    if let Some(editor) = editor {
        editor.hears_nobody();
    }
    if outcome.as_ref().is_ok_and(|summary| summary.peer_left) {
        output::progress("the peer has left");
    }
    let done = Close::from(CloseCode::Done);
    joined.leave(if outcome.is_ok() { done } else { "the chat has failed".into() }).await;
    outcome.map_err(Failure::failed)
}
