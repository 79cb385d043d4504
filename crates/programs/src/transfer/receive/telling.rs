//! Tells the sender what is wanted, how much has come, and what became of it.

use std::time::Duration;

use holepunch_link::{Link, LinkError, SendStream, WriteError};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::super::COMPLETE;
use super::super::error::TransferError;
use super::super::summary::Phase;
use super::super::wire::{self, BATCH_MAX, FromReceiver};
use super::ledger::{Ledger, Told};
use crate::ending::{acknowledged, patiently};

/// How often the sender is told how much has come: as often as it moves its bar.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// A sender that looks at nothing more has closed the link within so long, and said why.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// What is told to the sender, and by what.
pub(super) struct Telling<'a> {
    pub(super) told: mpsc::UnboundedReceiver<Told>,
    pub(super) ledger: &'a Ledger,
    /// Whether the sender wants to know how much has come.
    pub(super) reports: bool,
    pub(super) link: &'a Link,
}

impl Telling<'_> {
    /// Until the sender knows that everything is here.
    pub(super) async fn run(mut self, send: &mut SendStream) -> Result<(), TransferError> {
        let mut waiting = Vec::new();
        let (mut reported, mut ticks) = (0, ticks());
        loop {
            let is_over = tokio::select! {
                number = self.told.recv_many(&mut waiting, BATCH_MAX) => number == 0,
                _ = ticks.tick(), if self.reports => false,
            };
            if is_over {
                return Err(TransferError::Ended);
            }
            let mut message = Vec::new();
            // Before the results: what is complete has come.
            let bytes = self.ledger.received_bytes();
            if self.reports && bytes > reported {
                reported = bytes;
                wire::encode(&FromReceiver::Received { bytes }, &mut message);
            }
            let has_finished = encode(&mut waiting, &mut message);
            if !message.is_empty() {
                send.write_chunk(message.into()).await?;
            }
            if has_finished {
                send.finish()?;
                return self.until_known(send).await;
            }
        }
    }

    /// Everything is on the disk: whether the sender knows that decides whether this side has succeeded, since the
    /// sender has only then.
    async fn until_known(&self, send: &mut SendStream) -> Result<(), TransferError> {
        let progress = &self.ledger.progress;
        progress.is_at(Phase::End);
        let tell = |text: &str| progress.waits(text);
        let what = "everything is here and on the disk; waiting for the sender to know that";
        match patiently(what, &tell, acknowledged(send, COMPLETE)).await {
            Ok(()) => Ok(()),
            Err(WriteError::Link(error)) => Err(TransferError::Unconfirmed(error)),
            // A sender that leaves once it knows looks at nothing more, and one that was interrupted as well.
            Err(WriteError::Stopped(_) | WriteError::Finished) => {
                match timeout(CLOSED_WITHIN, self.link.closed()).await {
                    Ok(LinkError::ClosedByPeer(reason)) if reason == COMPLETE => Ok(()),
                    Ok(error) => Err(TransferError::Unconfirmed(error)),
                    Err(_) => Ok(()),
                }
            }
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Puts what waits behind `message`; whether it is the last.
fn encode(waiting: &mut Vec<Told>, message: &mut Vec<u8>) -> bool {
    let (mut answers, mut results, mut has_finished) = (Vec::new(), Vec::new(), false);
    for told in waiting.drain(..) {
        match told {
            Told::Answer(index, answer) => answers.push((index, answer)),
            Told::Result(index, failure) => results.push((index, failure)),
            Told::Finished => has_finished = true,
        }
    }
    // An entry's answer comes before its result.
    if !answers.is_empty() {
        wire::encode(&FromReceiver::Answers(answers), message);
    }
    if !results.is_empty() {
        wire::encode(&FromReceiver::Results(results), message);
    }
    if has_finished {
        wire::encode(&FromReceiver::Finished {}, message);
    }
    has_finished
}
