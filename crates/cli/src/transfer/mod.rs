//! `holepunch send` and `holepunch receive`: files and folders over a link.

mod approval;
mod json;
mod names;
mod receive;
mod send;
mod show;

pub(crate) use receive::{Args as ReceiveArgs, run as run_receive};
pub(crate) use send::{Args as SendArgs, run as run_send};

use std::process::ExitCode;
use std::sync::Arc;

use holepunch_link::{CloseCode, Link};
use holepunch_programs::transfer::{
    self, Listing, Progress, ReceiveOptions, Summary, TransferError,
};

use crate::exit::Failure;
use crate::joining::{self, Alone, JoinArgs, Joined, Manner};
use crate::path_history::{PathChange, path_changes};
use crate::settings::Environment;
use crate::signals::Stop;
use approval::Approval;
use show::{Show, Way};

/// A side's own part.
enum Part {
    Send(Arc<Listing>),
    Receive(Approval, ReceiveOptions),
}

impl Part {
    async fn carry_out(
        &self,
        link: &Link,
        progress: &Arc<Progress>,
    ) -> Result<Summary, TransferError> {
        match self {
            Self::Send(listing) => transfer::send(link, listing, progress).await,
            Self::Receive(approval, options) => {
                transfer::receive_asking(link, approval, *options, progress).await
            }
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
    let alone = match &part {
        Part::Send(_) => Alone::MakesCode("receive"),
        Part::Receive(..) => Alone::AsksForCode,
    };
    let manner = Manner { telling: way.telling(), alone, replaces: true };
    let joined = joining::join(join, environment, manner, &mut stop).await;
    let show = Show::new(&way);
    let progress = Arc::new(show.progress());
    let mut path_history = Vec::new();
    let ended = match joined {
        Ok(joined) => {
            over_links(joined, &part, &show, &progress, &mut path_history, &mut stop).await
        }
        Err(failure) => Err(failure),
    };
    let error = match &ended {
        Ok((_, Some(Ok(_)))) => None,
        Ok((_, Some(Err(error)))) => Some(Failure::failed(error)),
        Ok((_, None)) => Some(Failure::failed(CloseCode::Interrupted.text())),
        Err(failure) if failure.is_usage() => return ended.map(|_| ExitCode::SUCCESS),
        Err(failure) => Some(failure.clone()),
    };
    show.end(&progress.summary(), path_history, error);
    let (joined, outcome) = ended?;
    match outcome {
        Some(Ok(summary)) => {
            joined.leave(CloseCode::Complete).await;
            Ok(ExitCode::from(u8::from(summary.failed > 0)))
        }
        Some(Err(error)) => {
            joined.leave(&format!("the transfer has failed: {error}")).await;
            Err(Failure::failed(error))
        }
        None => Err(joined.interrupted().await),
    }
}

/// What is wrong on this side before anybody is called; in JSON, it is the end of the summary.
fn not_begun(json: bool, summary: &Summary, why: impl std::fmt::Display) -> Failure {
    if json {
        Show::new(&Way::Json).end(summary, Vec::new(), Some(Failure::failed(&why)));
    }
    Failure::failed(why)
}

/// Why whoever has come is not the one that a receiver waits for: somebody who knows its id may call, and is not to end it.
fn unwanted(part: &Part, outcome: &Result<Summary, TransferError>) -> Option<String> {
    let Part::Receive(..) = part else { return None };
    let error = outcome.as_ref().err()?;
    let is_unwanted = matches!(
        error,
        TransferError::Declined | TransferError::Agree(_) | TransferError::SamePart { .. }
    );
    is_unwanted.then(|| error.to_string())
}

/// The last link, and what the transfer has come to; no outcome where it was interrupted.
type Carried = (Joined, Option<Result<Summary, TransferError>>);

/// The transfer, over one link after the other. The ways of all of them come into `path_history`.
async fn over_links(
    mut joined: Joined,
    part: &Part,
    show: &Show,
    progress: &Arc<Progress>,
    path_history: &mut Vec<PathChange>,
    stop: &mut Stop,
) -> Result<Carried, Failure> {
    loop {
        let link = joined.link.clone();
        show.way().linked(&link);
        let outcome = tokio::select! {
            outcome = part.carry_out(&link, progress) => Some(outcome),
            _ = stop.wait() => None,
            never = show.watch(progress) => match never {},
        };
        path_history.extend(path_changes(&link));
        let has_begun = !matches!(outcome, Some(Err(TransferError::Agree(_))));
        let another = joined.another(has_begun).filter(|_| matches!(outcome, Some(Err(_))));
        let unwanted = outcome.as_ref().and_then(|outcome| unwanted(part, outcome));
        let another = another.or_else(|| joined.after_caller(&unwanted?));
        let Some(another) = another else { return Ok((joined, outcome)) };
        let why = link.ended().map(|why| why.to_string()).unwrap_or_default();
        show.way().link_lost(&why);
        drop(link);
        progress.begin_again();
        joined = joined.next(another, stop).await?;
    }
}
