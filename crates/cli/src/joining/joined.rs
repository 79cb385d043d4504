//! A link, and what follows its end.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use holepunch_worker::{Close, CloseCode, Link, LinkError, LinkPath, PathKind};
use tokio::task::JoinHandle;

use super::BACK_WITHIN;
use super::attending::Left;
use super::company::{Company, session_of_end};
use super::waiting::Heard;
use crate::exit::Failure;
use crate::signals::Stop;

/// A link, and the worker that keeps it.
pub(crate) struct Joined {
    pub(crate) link: Link,
    pub(super) attendant: JoinHandle<Left>,
    pub(super) company: Company,
}

/// What follows a program's end.
pub(crate) enum Turn<T> {
    /// Nothing: that was its outcome.
    Over(Joined, T),
    /// It has not had its turn, since the peer refused the link. Here is the next one.
    Again(Joined),
}

/// Why a program may go on with another link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Another {
    /// The peer has another link.
    Busy,
    /// One of the two does not know the room's secret.
    Secret(LinkError),
    /// The same peer has made a new link.
    Replaced,
    /// The network, or the peer, has gone.
    Lost(LinkError),
    /// Whoever has called is not the one that was waited for.
    Unwanted,
}

impl Joined {
    /// What follows a program's end: where the two do not share a secret, the next link.
    pub(crate) async fn turn<T>(
        self,
        has_begun: bool,
        outcome: T,
        stop: &mut Stop,
    ) -> Result<Turn<T>, Failure> {
        match self.another(has_begun) {
            Some(Another::Busy) => {
                self.leave(CloseCode::Busy).await;
                Err(Failure::failed("the peer is busy with another link"))
            }
            Some(refused @ Another::Secret(_)) => Ok(Turn::Again(self.next(refused, stop).await?)),
            Some(Another::Replaced | Another::Lost(_) | Another::Unwanted) | None => {
                Ok(Turn::Over(self, outcome))
            }
        }
    }

    /// Why the link has ended, where another one may follow. It is no refusal where the program `has_begun`
    /// with the peer: whoever ends the link so after that has had its part.
    pub(crate) fn another(&self, has_begun: bool) -> Option<Another> {
        match self.link.ended()? {
            LinkError::ClosedByPeer(close) if close.code == CloseCode::Busy && !has_begun => {
                Some(Another::Busy)
            }
            why @ (LinkError::SecretMissing(_) | LinkError::WrongSecret) => {
                (!has_begun).then_some(Another::Secret(why))
            }
            LinkError::Closed(close) if close.code == CloseCode::BegunAnew => {
                Some(Another::Replaced)
            }
            why @ (LinkError::Unreachable(_) | LinkError::SessionEnded(..)) => {
                Some(Another::Lost(why))
            }
            LinkError::Closed(_)
            | LinkError::ClosedByPeer(_)
            | LinkError::WrongKey { .. }
            | LinkError::Impostor { .. }
            | LinkError::NoProtocol(_)
            | LinkError::Protocol(_)
            | _ => None,
        }
    }

    /// Where calls are waited for, whoever knows the id may come: one that is not meant is sent away with the reason, and does
    /// not end the program.
    pub(crate) fn after_caller(&self, why: &str) -> Option<Another> {
        if !self.company.waiting.is_for_calls() {
            return None;
        }
        self.company.say(why);
        self.link.close(why);
        Some(Another::Unwanted)
    }

    /// Waits for the link that follows one that has ended.
    pub(crate) async fn next(self, why: Another, stop: &mut Stop) -> Result<Self, Failure> {
        let Self { link, attendant, mut company } = self;
        let left = attendant.await.map_err(Failure::failed)?;
        if let Some(link) = left.next {
            if let Another::Lost(error) = why {
                company.say(format!("the link is lost: {error}; going on with the next one"));
            }
            return Ok(company.joined(link, left.links));
        }
        company.back_until = match &why {
            Another::Lost(_) => Some(company.began.elapsed() + BACK_WITHIN),
            // It is still waited for: that was somebody else.
            Another::Busy | Another::Secret(_) => company.back_until,
            Another::Replaced | Another::Unwanted => None,
        };
        if company.back_until.is_some() {
            company.waiting.lost(BACK_WITHIN);
        }
        // What was told meanwhile is not told again; but wrong codes count, whenever they come.
        let mut counted = Ok(());
        while let Some(notice) = company.worker.next_notice().now_or_never().flatten() {
            if company.last != session_of_end(&notice) {
                counted = counted.and(company.waiting.recount(&notice));
            }
        }
        let heard = match &why {
            Another::Busy => company.waiting.busy(),
            Another::Secret(error) => company.waiting.no_link(link.peer(), error),
            Another::Replaced => Heard::Nothing,
            Another::Unwanted => Heard::Line("waiting for another call".to_owned()),
            Another::Lost(error) => Heard::Line(format!(
                "the link is lost: {error}; waiting {} s for the peer to come back",
                BACK_WITHIN.as_secs()
            )),
        };
        drop(link);
        company.was_refused = matches!(why, Another::Busy | Another::Secret(_));
        let patience = company.back_until.or(company.patience);
        let outcome = match counted.map_err(Failure::failed).and_then(|()| company.take(heard)) {
            Ok(()) => company.next_link(left.links, stop, patience).await,
            Err(failure) => Err(failure),
        };
        company.or_leave(outcome).await
    }

    /// When the command began.
    pub(crate) fn began(&self) -> Instant {
        self.company.began
    }

    /// Ends the link and the worker, within a second. What matters has to have arrived before.
    pub(crate) async fn leave(self, why: impl Into<Close>) {
        self.link.close(why);
        self.company.leave().await;
    }

    /// Ends everything because somebody wants that.
    pub(crate) async fn interrupted(self) -> Failure {
        self.leave(CloseCode::Interrupted).await;
        Failure::interrupted()
    }
}

/// Waits for a direct path, but not longer than this. Whether there is one.
pub(crate) async fn until_direct(link: &Link, wait: Duration) -> bool {
    tokio::select! {
        () = first_direct(link) => true,
        _ended = link.closed() => false,
        () = tokio::time::sleep(wait) => is_direct(&link.path()),
    }
}

/// Returns when there is, or has been, a direct path.
pub(crate) async fn first_direct(link: &Link) {
    let mut events = link.path_events();
    while !is_direct(&events.next().await.path) {}
}

fn is_direct(path: &LinkPath) -> bool {
    matches!(path.kind, PathKind::Direct { .. })
}
