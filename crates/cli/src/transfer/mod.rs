//! `holepunch send` and `holepunch receive`: files and folders over a link.

mod receive;
mod send;
mod show;

pub(crate) use receive::{Args as ReceiveArgs, run as run_receive};
pub(crate) use send::{Args as SendArgs, run as run_send};

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use holepunch_link::Link;
use holepunch_programs::INTERRUPTED;
use holepunch_programs::transfer::{
    self, Listing, Progress, ReceiveOptions, Summary, TransferError,
};

use crate::exit::Failure;
use crate::joining::{self, Another, JoinArgs, Manner};
use crate::path_history::path_changes;
use crate::settings::Environment;
use crate::signals::Stop;
use show::{Show, Way};

/// A side's own part.
enum Part {
    Send(Arc<Listing>),
    Receive(PathBuf, ReceiveOptions),
}

impl Part {
    async fn carry_out(
        &self,
        link: &Link,
        progress: &Arc<Progress>,
    ) -> Result<Summary, TransferError> {
        match self {
            Self::Send(listing) => transfer::send(link, listing, progress).await,
            Self::Receive(into, options) => transfer::receive(link, into, *options, progress).await,
        }
    }
}

/// Joins, transfers, shows, and leaves. Where the peer begins anew, or is
/// gone and comes back, the transfer goes on with it.
async fn carry_out(
    join: JoinArgs,
    environment: &Environment,
    json: bool,
    part: Part,
) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let way = Way::new(json);
    let manner = Manner { telling: way.telling(), replaces: true };
    let mut joined = joining::join(join, environment, manner, &mut stop).await?;
    let (show, progress, outcome) = loop {
        let show = Show::new(&way);
        let progress = Arc::new(show.progress());
        let link = joined.link.clone();
        let outcome = tokio::select! {
            outcome = part.carry_out(&link, &progress) => Some(outcome),
            _ = stop.wait() => None,
            () = show.watch(&progress) => None,
        };
        let goes_on = |another: &Another| match (another, &outcome) {
            // A peer that takes its part and then says so is none that may be waited for again.
            (Another::Secret(_), Some(Err(error))) => matches!(error, TransferError::Agree(_)),
            (Another::Busy | Another::Replaced | Another::Lost(_), Some(Err(_))) => true,
            (_, Some(Ok(_)) | None) => false,
        };
        let another = joined.another().filter(goes_on);
        let Some(another) = another else { break (show, progress, outcome) };
        show.pause();
        joined = joined.next(another, &mut stop).await?;
    };
    let summary = progress.summary();
    show.end(&summary, path_changes(&joined.link), outcome.as_ref());
    let reason = match &outcome {
        Some(Ok(_)) => "the transfer is complete".to_owned(),
        Some(Err(error)) => format!("the transfer has failed: {error}"),
        None => INTERRUPTED.to_owned(),
    };
    joined.leave(&reason).await;
    match outcome {
        Some(Ok(summary)) => Ok(ExitCode::from(u8::from(summary.failed > 0))),
        Some(Err(error)) => Err(Failure::failed(error)),
        None => Err(Failure::interrupted()),
    }
}
