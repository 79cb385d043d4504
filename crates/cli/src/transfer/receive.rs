//! `holepunch receive`: what the peer sends, into a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use holepunch_programs::transfer::{self, ReceiveOptions, Summary};

use super::approval::Approval;
use super::show::Way;
use super::{Part, carry_out, not_begun};
use crate::code::Code;
use crate::exit::Failure;
use crate::joining::JoinArgs;
use crate::settings::Environment;

/// Receive what a peer sends, into a folder
///
/// On a terminal it names what would come, and asks. Everything that the peer sends is taken then, up to the free space
/// of the disk, and nothing outside the folder is written.
///
/// A transfer that breaks off leaves files named .NAME.….part, from which it goes on when both commands are run again
/// (a code is a new one then); where the network or a program fails and is back within 10 s, it goes on by itself.
/// Ctrl-C on one side ends both.
///
/// Exit code 1 when a file has failed; the others arrive all the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, there and here (the first prints the code):\n  \
    holepunch send photos/ notes.txt\n  \
    holepunch receive 7-guitar-fox incoming/")]
pub(crate) struct Args {
    /// The code that the sending side has printed
    ///
    /// `-` stands for a line of standard input [env: CODE]
    #[arg(value_name = "CODE")]
    first: Option<String>,
    /// Where to put it
    ///
    /// It is made where there is none [default: the current folder, or one of its own in it where several files come]
    #[arg(value_name = "DIR")]
    second: Option<PathBuf>,
    /// Take what comes without a question
    ///
    /// Nobody is asked without a terminal, either.
    #[arg(long, short)]
    yes: bool,
    /// Replace files that are there and differ
    #[arg(long)]
    force: bool,
    /// Take files and folders whose path begins with a dot, too
    ///
    /// Such are .bashrc and .ssh/authorized_keys.
    #[arg(long)]
    hidden: bool,
    /// Print JSON: progress each second, then the result
    ///
    /// Each is an object in a line of its own.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    join: JoinArgs,
}

/// Both may be left out: what looks like a code is one, and a folder of such a name is written `./7-guitar-fox`. Where a code is
/// needed (`needs_code`), what looks like a part of one is no folder that is to be made, either.
fn code_and_folder(
    first: Option<String>,
    second: Option<PathBuf>,
    needs_code: bool,
) -> Result<(Option<String>, Option<PathBuf>), Failure> {
    let is_part = |text: &str| {
        needs_code && Code::is_part(text) && !Path::new(text).try_exists().is_ok_and(|it| it)
    };
    match (first, second) {
        (None, second) => Ok((None, second)),
        (Some(text), second) if text == "-" || Code::is_like(&text) => Ok((Some(text), second)),
        (Some(text), second) if is_part(&text) => match text.parse::<Code>() {
            Ok(_) => Ok((Some(text), second)),
            Err(why) => Err(Failure::usage(format!("{why} (a folder of this name is ./{text})"))),
        },
        (Some(folder), None) => Ok((None, Some(folder.into()))),
        (Some(text), Some(_)) => Err(Failure::usage(format!(
            "expected a code before the folder, such as 7-guitar-fox, and found {text:?}"
        ))),
    }
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let Args { first, second, yes, force, hidden, json, join } = args;
    let needs_code = !join.is_named(environment) && environment.found(&["CODE"]).is_none();
    let (code, into) = code_and_folder(first, second, needs_code)?;
    let folder = into.as_deref().unwrap_or(Path::new("."));
    transfer::check_folder(folder).map_err(|why| not_begun(json, &Summary::default(), why))?;
    let options = ReceiveOptions { force, hidden };
    let approval = Approval::new(into, yes, force, &Way::new(json));
    let join = join.with_code(code);
    if !yes && !approval.asks() && join.lets_anybody_call(environment)? {
        return Err(Failure::usage(
            "ACCEPT (--accept) lets anybody send who knows this id, and nobody can be asked here: name who may (--accept=ID), \
             or take everything from everybody (--yes)",
        ));
    }
    carry_out(join, environment, json, Part::Receive(approval, options)).await
}
