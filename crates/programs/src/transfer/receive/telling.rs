//! Tells the sender what is wanted, how much has come, and what became of it.

use std::time::Duration;

use holepunch_link::SendStream;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::error::TransferError;
use super::super::wire::{self, BATCH_MAX, FromReceiver};
use super::ledger::{Ledger, Told};
use crate::ending::patiently;

/// How often the sender is told how much has come: as often as it moves its bar.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What is told to the sender, and by what.
pub(super) struct Telling<'a> {
    pub(super) told: mpsc::UnboundedReceiver<Told>,
    pub(super) ledger: &'a Ledger,
    /// Whether the sender wants to know how much has come.
    pub(super) reports: bool,
}

impl Telling<'_> {
    /// Until everything is here, and is told.
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
                // A sender reads at once.
                let tell = |text: &str| self.ledger.progress.waits(text);
                let what = "waiting for the sender to take what it is told of its files";
                patiently(what, &tell, send.write_chunk(message.into())).await??;
            }
            if has_finished {
                send.finish()?;
                return Ok(());
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
