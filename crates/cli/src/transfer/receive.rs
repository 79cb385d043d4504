//! `holepunch receive`: what the peer sends, into a folder.

use std::path::PathBuf;
use std::process::ExitCode;

use holepunch_programs::transfer::{self, ReceiveOptions, Summary};

use super::{Part, carry_out, not_begun};
use crate::exit::Failure;
use crate::joining::JoinArgs;
use crate::settings::Environment;

/// Receive what a peer sends by `holepunch send`, into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, here and there:\n  \
    holepunch receive --rendezvous-url https://rendezvous.example --room box incoming/\n  \
    holepunch send --rendezvous-url https://rendezvous.example --room box photos/ notes.txt\n\
    Everything that the peer sends is taken, up to the free space of the disk, and nothing outside the \
    folder is written. A transfer that breaks off leaves files named .NAME.….part, from which it goes on \
    when both sides run the same again; a peer that is back within 10 s goes on by itself.\n\
    Exit code 1 when a file has failed; the others arrive all the same.")]
pub(crate) struct Args {
    /// Where to put it; made where there is none
    #[arg(default_value = ".", value_name = "DIR")]
    into: PathBuf,
    /// Replace files that are there and differ
    #[arg(long)]
    force: bool,
    /// Take files and folders whose path begins with a dot, too (.bashrc, .ssh/authorized_keys)
    #[arg(long)]
    hidden: bool,
    /// Print JSON: a line of progress a second, then one with the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    join: JoinArgs,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let Args { into, force, hidden, json, join } = args;
    transfer::check_folder(&into).map_err(|why| not_begun(json, &Summary::default(), why))?;
    let options = ReceiveOptions { force, hidden };
    carry_out(join, environment, json, Part::Receive(into, options)).await
}
