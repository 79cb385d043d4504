//! How two sides come to the same end: whoever says that it is done knows that the other one knows, or says that
//! it does not.
//!
//! What was said last may be lost, and the acknowledgement of that as well, without an end. But a link lives through
//! an outage of almost 30 s. So a side that has said its last word stays until that was acknowledged, the peer has
//! closed the link, or the link is lost; and one that has heard the peer's last word has succeeded whatever happens
//! to its own. Then an outage that the link survives leaves nobody in the wrong.
//!
//! A peer that is there and never says its last word is given up, [`Silent`]: it may be stuck, or mean no good.

use std::time::Duration;

use holepunch_link::{CloseCode, Link, LinkError, RecvStream, SendStream, WriteError};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use crate::messages::{read_frame, write_message};

/// Tells a person what is waited for.
pub type Tell<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// What takes longer is told: on a link that works, the last word takes a round trip.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// A peer has so long for its last word, or for what is missing before it. A receiver says nothing while it brings to its disk
/// what the system has kept in memory: 12 GB at 10 MB/s take 20 min. Nor does a pipe whose reader has paused.
pub(crate) const LAST_WORD_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Whoever has heard the peer's last word stays so long at most for the peer to have this side's. One that lives has it by
/// then, also after an outage of 25 s; one that has gone is not waited for until its link is lost, which takes longer
/// where the farewell itself was lost.
const STAYS_MAX: Duration = Duration::from_secs(35);
/// Longest last word, in bytes.
const WORD_BYTES_MAX: usize = 256;

/// What stands in a greeting of a side that says its last word by [`confirm`].
pub(crate) const CONFIRMS: &str = "confirms";

/// The last word, on a stream of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LastWord {
    /// All that the peer has sent is here, and all that was sent to it is there.
    Complete {},
}

/// The peer is there, and has not said its last word. Nobody knows what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer is there, but nothing more has come of it for {} min: {what}", LAST_WORD_WITHIN.as_secs() / 60)]
pub struct Silent {
    /// What this side waits for.
    what: &'static str,
}

impl Silent {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// Waits, and says for what where it takes long.
///
/// # Errors
/// It takes longer than a last word may.
pub(crate) async fn patiently<T>(
    what: &'static str,
    tell: &Tell<'_>,
    awaited: impl Future<Output = T>,
) -> Result<T, Silent> {
    let silent = silence(what, tell, || Some(()));
    tokio::select! {
        biased;
        come = awaited => Ok(come),
        silent = silent => Err(silent),
    }
}

/// Returns when nothing has come of the peer's last word for too long, and says for what this waits. `mark` changes with all
/// that comes of it, and is nothing while something else is waited for.
pub(crate) async fn silence<T: PartialEq>(
    what: &'static str,
    tell: &Tell<'_>,
    mark: impl Fn() -> Option<T>,
) -> Silent {
    let (mut last, mut since, mut is_told) = (mark(), Instant::now(), false);
    loop {
        sleep(TELL_AFTER).await;
        let next = mark();
        if next.is_none() || next != last {
            (last, since) = (next, Instant::now());
            continue;
        }
        if !std::mem::replace(&mut is_told, true) {
            tell(what);
        }
        if since.elapsed() >= LAST_WORD_WITHIN {
            return Silent { what };
        }
    }
}

/// Tells the peer that this side is complete, and hears the same of it. The initiator asks, and the other one answers.
/// `Ok` says that both know.
///
/// # Errors
/// The link has ended before, with why. An end that the peer has made is one, too: the caller knows its reasons.
pub(crate) async fn confirm(link: &Link) -> Result<(), LinkError> {
    if link.is_initiator() {
        let (mut send, mut recv) = link.open_bi().await?;
        say(link, &mut send).await?;
        hear(link, &mut recv).await
    } else {
        let (mut send, mut recv) = link.accept_bi().await?;
        hear(link, &mut recv).await?;
        // From here on the peer's word is known. This side's is not, until it was acknowledged.
        if say(link, &mut send).await.is_ok() {
            stay(send.stopped()).await;
        }
        Ok(())
    }
}

/// Stays until the peer has this side's last word, where its own is known: what becomes of it changes nothing here.
pub(crate) async fn stay<T>(until: impl Future<Output = T>) {
    let _or_it_has_gone = timeout(STAYS_MAX, until).await;
}

async fn say(link: &Link, send: &mut SendStream) -> Result<(), LinkError> {
    match write_message(send, &LastWord::Complete {}).await {
        Ok(()) => {
            let _unless_stopped = send.finish();
            Ok(())
        }
        Err(_) => Err(why(link)),
    }
}

async fn hear(link: &Link, recv: &mut RecvStream) -> Result<(), LinkError> {
    let heard = read_frame(recv, WORD_BYTES_MAX).await;
    let word = heard.ok().flatten().and_then(|word| serde_json::from_slice(&word).ok());
    match word {
        Some(LastWord::Complete {}) => Ok(()),
        None => Err(why(link)),
    }
}

fn why(link: &Link) -> LinkError {
    let unclear = || LinkError::Protocol("its last word is not understood".to_owned());
    link.ended().unwrap_or_else(unclear)
}

/// Returns when the peer has acknowledged everything and the end, or has closed the link with `complete`.
///
/// # Errors
/// The peer has stopped reading, or the link has ended otherwise.
pub(crate) async fn acknowledged(
    send: &mut SendStream,
    complete: CloseCode,
) -> Result<(), WriteError> {
    match send.stopped().await {
        Ok(None) | Err(WriteError::Finished) => Ok(()),
        Ok(Some(code)) => Err(WriteError::Stopped(code)),
        Err(WriteError::Link(LinkError::ClosedByPeer(close))) if close.code == complete => Ok(()),
        Err(error) => Err(error),
    }
}
