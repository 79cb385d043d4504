//! `send` and `receive`: files and folders over a link, resumed where they broke off.
//!
//! The life of a transfer: the sender lists what it has ([`Listing`]) and sends the list. The receiver
//! looks at its folder and answers, entry by entry, what it wants of it: all, what follows a part that
//! an earlier transfer has left, or nothing. The sender checks what the receiver says it has, by its
//! hash, and sends the rest, file after file on one stream; it never waits for the result of one file
//! before the next. The receiver writes each file beside its place, compares the hash, and gives it its
//! name last. Both end when every file has its result.
//!
//! `docs/transfer.md` says what is promised, and every message.

mod error;
mod name;
mod progress;
mod receive;
mod send;
mod summary;
#[cfg(test)]
mod tests;
pub mod wire;

pub use error::TransferError;
pub use name::{COMPONENT_BYTES_MAX, DEPTH_MAX, NameError, PATH_BYTES_MAX, RelativePath, shown};
pub use progress::{FAILURES_KEPT_MAX, Progress};
pub use receive::{
    Answer, Ask, Incoming, ReceiveOptions, Top, check_folder, receive, receive_asking,
};
pub use send::{Listing, send};
pub use summary::{Failure, NAMES_MAX, Names, Notice, Phase, Summary, Totals};

use std::time::Duration;

use holepunch_link::{CloseCode, Link, LinkError, RecvStream, SendStream};
use tokio::io::BufReader;
use tokio::time::timeout;

use crate::agree::{Greeting, agree, arrived};
use crate::ending::CONFIRMS;

/// A peer that ends its stream, since it ends the link, has ended the link by then.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// The name of the program in the greeting.
const PROGRAM: &str = "transfer";
/// What is read from the link at once while messages are short.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The parts of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Send,
    Receive,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }
}

/// The stream of a transfer.
struct Met {
    send: SendStream,
    recv: BufReader<RecvStream>,
    /// Whether the receiver tells how much has come, as both sides understand.
    reports: bool,
    /// Whether the sender tells that it knows of the receiver's end, as both sides understand.
    confirms: bool,
    /// Whether the sender says first what it has, where both compare.
    proves: bool,
    /// Whether the peer wants to know that somebody is asked.
    asks: bool,
}

/// Greets the peer, which needs to have the other part.
async fn meet(link: &Link, part: Part) -> Result<Met, TransferError> {
    let own = Greeting::new(PROGRAM, part.word(), wire::VERSION)
        .with(wire::REPORTS)
        .with(CONFIRMS)
        .with(wire::PROVES)
        .with(wire::ASKS);
    let mut agreed = agree(link, &own).await?;
    let (own, other) = (part.word(), part.other().word());
    if agreed.peer.part == own {
        arrived(&mut agreed.send).await;
        return Err(TransferError::SamePart { own, other });
    }
    if agreed.peer.part != other {
        let came = shown(&agreed.peer.part);
        return Err(TransferError::Protocol(format!("expected the part {other}, came {came:?}")));
    }
    let (reports, confirms) = (agreed.peer.has(wire::REPORTS), agreed.peer.has(CONFIRMS));
    let (proves, asks) = (agreed.peer.has(wire::PROVES), agreed.peer.has(wire::ASKS));
    let recv = BufReader::with_capacity(READ_BUFFER_BYTES, agreed.recv);
    Ok(Met { send: agreed.send, recv, reports, confirms, proves, asks })
}

/// Closes the link of a transfer that has failed, with the reason. Where the peer did so first, its
/// reason is the one to show.
async fn closing<T>(link: &Link, outcome: Result<T, TransferError>) -> Result<T, TransferError> {
    let Err(error) = outcome else { return outcome };
    if matches!(error, TransferError::Ended) {
        // The end of the stream may be here before that of the link.
        let _unless_the_peer_stays = timeout(CLOSED_WITHIN, link.closed()).await;
    }
    let error = match (error, link.ended()) {
        (TransferError::Ended, Some(ended)) => TransferError::Link(ended),
        (error, _) => error,
    };
    if matches!(&error, TransferError::Link(LinkError::ClosedByPeer(why)) if why.code == CloseCode::Declined)
    {
        return Err(TransferError::Unwanted);
    }
    if matches!(error, TransferError::Declined) {
        link.close(CloseCode::Declined);
    } else {
        link.close(&format!("the transfer has failed: {error}"));
    }
    Err(error)
}
