//! `holepunch send` and `holepunch receive`: files and folders over a link.

mod receive;
mod send;
mod show;

pub(crate) use receive::{Args as ReceiveArgs, run as run_receive};
pub(crate) use send::{Args as SendArgs, run as run_send};

use std::process::ExitCode;
use std::sync::Arc;

use holepunch_link::Link;
use holepunch_programs::transfer::{Progress, Summary, TransferError};

use crate::exit::Failure;
use crate::joining::{self, JoinArgs};
use crate::path_history::path_changes;
use crate::settings::Environment;
use crate::signals::Stop;
use show::Show;

/// Joins, transfers, shows, and leaves; `transfer` is the side's own part.
async fn carry_out(
    join: JoinArgs,
    environment: &Environment,
    json: bool,
    transfer: impl AsyncFnOnce(&Link, &Arc<Progress>) -> Result<Summary, TransferError>,
) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let joined = tokio::select! {
        joined = joining::join(join, environment) => joined?,
        _ = stop.wait() => return Err(Failure::interrupted()),
    };
    let show = Show::new(json);
    let progress = Arc::new(show.progress());
    let link = joined.link.clone();
    let outcome = tokio::select! {
        outcome = transfer(&link, &progress) => Some(outcome),
        _ = stop.wait() => None,
        () = show.watch(&progress) => None,
    };
    let summary = progress.summary();
    show.end(&summary, path_changes(&link), outcome.as_ref());
    let reason = match &outcome {
        Some(Ok(_)) => "the transfer is complete".to_owned(),
        Some(Err(error)) => format!("the transfer has failed: {error}"),
        None => "interrupted".to_owned(),
    };
    drop(link);
    joined.leave(&reason).await;
    match outcome {
        Some(Ok(summary)) => Ok(ExitCode::from(u8::from(summary.failed > 0))),
        Some(Err(error)) => Err(Failure::failed(error)),
        None => Err(Failure::interrupted()),
    }
}
