//! `holepunch send`: files and folders to the peer.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use holepunch_programs::transfer::{Listing, Summary};

use super::{Part, carry_out, not_begun};
use crate::exit::Failure;
use crate::joining::JoinArgs;
use crate::output;
use crate::settings::Environment;

/// Send files and folders to a peer
///
/// The peer runs `holepunch receive`.
///
/// A transfer that breaks off goes on where it was when both commands are run again (a code is a new one then); where
/// the network or a program fails and is back within 10 s, it goes on by itself. Ctrl-C on one side ends both. Symbolic
/// links and special files in a folder are left out.
///
/// Nothing is sent where one of the files and folders that are named cannot be. Exit code 1 when a file has failed
/// later, or in a folder; the others arrive all the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, here and there (the first prints the code):\n  \
    holepunch send photos/ notes.txt\n  \
    holepunch receive 7-guitar-fox incoming/")]
pub(crate) struct Args {
    /// The files and folders
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print JSON: progress each second, then the result
    ///
    /// Each is an object in a line of its own.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    join: JoinArgs,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let paths = args.paths;
    let listed = tokio::task::spawn_blocking(move || Listing::of(&paths)).await;
    let listing = match listed.map_err(Failure::failed)? {
        Ok(listing) => listing,
        Err(error) => return Err(not_begun(args.json, &Summary::default(), error)),
    };
    if !listing.has_all_arguments() {
        let (failures, totals) = (listing.failures().to_vec(), listing.totals());
        for failure in &failures {
            output::progress(format!("failed: {failure}"));
        }
        let summary = Summary { totals, failed: totals.files, failures, ..Summary::default() };
        let why = "nothing was sent, since not everything that was named can be";
        return Err(not_begun(args.json, &summary, why));
    }
    let listing = Arc::new(listing);
    carry_out(args.join, environment, args.json, Part::Send(listing)).await
}
