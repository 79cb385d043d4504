//! The sender's side.

mod arriving;
mod listing;
mod opened;
mod reading;
mod sizeless;
mod states;

use std::collections::BTreeMap;
use std::sync::Arc;

use holepunch_link::{CloseCode, Link, RecvStream, SendStream};
use tokio::io::BufReader;
use tokio::sync::mpsc;

pub use listing::Listing;

use super::error::TransferError;
use super::progress::Progress;
use super::summary::{Names, Phase, Summary};
use super::wire::{self, Answer, BATCH_MAX, FromReceiver, FromSender};
use super::{Met, Part, closing, meet};
use crate::ending::{acknowledged, patiently, silence, stay};
use arriving::Arriving;
use listing::Listed;
use reading::{Piece, Reading};
use states::States;

/// Pieces that are read and wait to be sent: enough that the disk and the link work at the same time.
const PIECES_QUEUED_MAX: usize = 4;
/// Bytes of a message of the list; what is around a path counts as [`AROUND_PATH_BYTES`], and every
/// character of it may need two bytes in JSON.
const LIST_MESSAGE_BYTES: usize = 64 * 1024;
const AROUND_PATH_BYTES: usize = 160;

/// Sends what is listed to the peer, which receives. Where it fails as a whole, it closes the link, so
/// that the peer learns why.
///
/// # Errors
/// The peer does not receive, does not keep to the protocol, or is gone. Failures of single files are in
/// the summary.
pub async fn send(
    link: &Link,
    listing: &Arc<Listing>,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    closing(link, run(link, listing, progress).await).await
}

async fn run(
    link: &Link,
    listing: &Arc<Listing>,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    let Met { mut send, mut recv, reports, confirms, .. } = meet(link, Part::Send).await?;
    for failure in listing.failures() {
        progress.failed(&failure.path, &failure.reason);
    }
    for skipped in &listing.skipped {
        progress.skipped(&skipped.path, &skipped.reason);
    }
    progress.named(Names::of(listing.entries.iter().map(|listed| listed.entry.path.as_str())));
    progress.listed(listing.totals);
    progress.is_at(Phase::Asking);
    write_list(&mut send, listing).await?;
    // Without a bound: `hear` takes one answer for each entry of our own list, and no more.
    let (answered, answers) = mpsc::unbounded_channel();
    let (pieces, to_send) = mpsc::channel(PIECES_QUEUED_MAX);
    let states = Arc::new(States::new(listing.entries.len()));
    let reading = Reading {
        listing: Arc::clone(listing),
        states: Arc::clone(&states),
        progress: Arc::clone(progress),
        answers,
        pieces,
        had: BTreeMap::new(),
        begun: BTreeMap::new(),
        pending: Vec::new(),
        pending_of_files: 0,
        has_begun: false,
    };
    let thread = tokio::task::spawn_blocking(move || reading.run());
    let arriving = Arriving::new(progress, reports);
    let hearing = Hearing { listing, states: &states, progress, arriving: &arriving, answered };
    let tell = |text: &str| progress.waits(text);
    let what = "everything was sent; waiting for the receiver to have it on its disk";
    let silent = silence(what, &tell, || arriving.outcome());
    let both = async {
        tokio::try_join!(write_pieces(&mut send, to_send, &arriving), hearing.hear(&mut recv))
    };
    let outcome = tokio::select! {
        biased;
        outcome = both => outcome,
        silent = silent => Err(silent.into()),
    };
    // Its channels are closed: it ends.
    thread.await.map_err(|error| TransferError::Thread(error.to_string()))?;
    outcome?;
    until_known(&mut send, confirms, progress).await;
    Ok(progress.summary())
}

/// The receiver has finished, and whatever happens from here on, everything is on its disk. It stays until it knows
/// that this side has heard so: leaving before that would leave it in doubt.
///
/// An acknowledgement of the receiver's last message would not do: what acknowledges it may be lost together with the
/// end of the link, while everything that this side has said is acknowledged.
async fn until_known(send: &mut SendStream, confirms: bool, progress: &Progress) {
    let known = async {
        if confirms {
            let mut message = Vec::new();
            wire::encode(&FromSender::Known {}, &mut message);
            send.write_chunk(message.into()).await?;
        }
        let _unless_stopped = send.finish();
        acknowledged(send, CloseCode::Complete).await
    };
    let tell = |text: &str| progress.waits(text);
    let what = "everything is on the receiver's disk; waiting for the receiver to know that this side knows";
    // It knows all that it needs to.
    let _whatever_the_receiver_says = patiently(what, &tell, stay(known)).await;
}

async fn write_list(send: &mut SendStream, listing: &Listing) -> Result<(), TransferError> {
    let mut message = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for Listed { entry, .. } in &listing.entries {
        let length = entry.path.len() * 2 + AROUND_PATH_BYTES;
        if batch.len() == BATCH_MAX || bytes + length > LIST_MESSAGE_BYTES {
            wire::encode(&FromSender::Entries(std::mem::take(&mut batch)), &mut message);
            send.write_chunk(std::mem::take(&mut message).into()).await?;
            bytes = 0;
        }
        batch.push(entry.clone());
        bytes += length;
    }
    if !batch.is_empty() {
        wire::encode(&FromSender::Entries(batch), &mut message);
    }
    // A list is bounded to far fewer entries.
    let entries = u32::try_from(listing.entries.len()).unwrap_or(u32::MAX);
    let (bytes, unoffered) = (listing.totals.bytes, listing.unoffered.clone());
    wire::encode(&FromSender::Listed { entries, bytes, unoffered }, &mut message);
    Ok(send.write_chunk(message.into()).await?)
}

async fn write_pieces(
    send: &mut SendStream,
    mut pieces: mpsc::Receiver<Piece>,
    arriving: &Arriving<'_>,
) -> Result<(), TransferError> {
    while let Some(piece) = pieces.recv().await {
        arriving.hands(piece.of_files);
        send.write_chunk(piece.bytes).await?;
        arriving.handed();
    }
    arriving.is_all();
    Ok(())
}

/// Takes what the receiver says.
struct Hearing<'a> {
    listing: &'a Listing,
    states: &'a States,
    progress: &'a Progress,
    arriving: &'a Arriving<'a>,
    answered: mpsc::UnboundedSender<(u32, Answer)>,
}

impl Hearing<'_> {
    /// Until the receiver has told what became of every entry. It takes everything at once: a receiver
    /// that waits for us to read would not read, either.
    async fn hear(self, recv: &mut BufReader<RecvStream>) -> Result<(), TransferError> {
        let mut open = self.listing.entries.len();
        let (mut json, mut was_asked) = (Vec::new(), false);
        while wire::read_json(recv, &mut json).await? {
            match FromReceiver::parse(&json)? {
                FromReceiver::Asking {} if !std::mem::replace(&mut was_asked, true) => {
                    self.progress.asking();
                }
                FromReceiver::Asking {} => {
                    return Err(TransferError::Protocol("it asks somebody twice".to_owned()));
                }
                FromReceiver::Answers(answers) => {
                    self.progress.answered();
                    for (index, answer) in answers {
                        open -= usize::from(self.answer(index, answer)?);
                    }
                }
                FromReceiver::Results(results) => {
                    for (index, failure) in results {
                        self.result(index, failure)?;
                        open -= 1;
                    }
                }
                FromReceiver::Received { bytes } => self.arriving.told(bytes),
                FromReceiver::Finished {} if open == 0 => {
                    self.arriving.finished();
                    return Ok(());
                }
                FromReceiver::Finished {} => {
                    let why = format!("it has finished, but {open} files have no result");
                    return Err(TransferError::Protocol(why));
                }
            }
        }
        Err(TransferError::Ended)
    }

    /// Takes an answer; whether it is the receiver's last word on the entry.
    fn answer(&self, index: u32, answer: Answer) -> Result<bool, TransferError> {
        let listed = self.listing.entries.get(index as usize);
        let size = listed.and_then(Listed::file).map(|file| file.size);
        let is_last = matches!(answer, Answer::There {} | Answer::Refused { .. });
        let suits = match (&answer, size) {
            (Answer::Refused { .. }, _) | (Answer::There {}, None) => self.states.decline(index),
            (Answer::From { length, .. } | Answer::Compare { length }, Some(size))
                if *length > size =>
            {
                false
            }
            (Answer::Compare { .. }, Some(_)) => self.states.compare(index),
            (Answer::Whole {} | Answer::From { .. } | Answer::Unless { .. }, Some(_)) => {
                self.states.want(index)
            }
            (Answer::There {}, Some(_)) | (_, None) => false,
        };
        let Some(listed) = listed.filter(|_| suits) else {
            let why = format!("an answer to entry {index} that does not suit it");
            return Err(TransferError::Protocol(why));
        };
        if let Answer::Refused { reason } = &answer {
            let reason = at_the_receiver(reason);
            self.progress.entry_failed(index, size.unwrap_or(0), &listed.entry.path, &reason);
        }
        // Where the thread has ended, the outcome of writing says why.
        let _when_ended = self.answered.send((index, answer));
        Ok(is_last)
    }

    fn result(&self, index: u32, failure: Option<String>) -> Result<(), TransferError> {
        let unasked =
            || TransferError::Protocol(format!("a result of entry {index} not asked for"));
        let is_new = self.states.done(index).ok_or_else(unasked)?;
        self.arriving.has_result();
        let Some(listed) = self.listing.entries.get(index as usize).filter(|_| is_new) else {
            return Ok(());
        };
        match failure {
            Some(reason) => {
                let size = listed.file().map_or(0, |file| file.size);
                let reason = at_the_receiver(&reason);
                self.progress.entry_failed(index, size, &listed.entry.path, &reason);
            }
            None => self.progress.completed(index, &listed.entry.path),
        }
        Ok(())
    }
}

fn at_the_receiver(reason: &str) -> String {
    format!("at the receiver: {reason}")
}
