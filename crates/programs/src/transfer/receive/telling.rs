//! Tells the sender what is wanted, and what became of it.

use std::time::Duration;

use holepunch_link::SendStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::error::TransferError;
use super::super::wire::{self, BATCH_MAX, FromReceiver};
use super::ledger::Told;

/// For the sender to acknowledge the last message. Everything is on the disk by then, so that one who
/// does not answer costs this time alone.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);

/// Until the last message has been acknowledged.
pub(super) async fn tell(
    send: &mut SendStream,
    mut told: mpsc::UnboundedReceiver<Told>,
) -> Result<(), TransferError> {
    let mut waiting = Vec::new();
    while told.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        let (mut answers, mut results, mut finished) = (Vec::new(), Vec::new(), false);
        for told in waiting.drain(..) {
            match told {
                Told::Answer(index, answer) => answers.push((index, answer)),
                Told::Result(index, failure) => results.push((index, failure)),
                Told::Finished => finished = true,
            }
        }
        let mut message = Vec::new();
        // An entry's answer comes before its result.
        if !answers.is_empty() {
            wire::encode(&FromReceiver::Answers(answers), &mut message);
        }
        if !results.is_empty() {
            wire::encode(&FromReceiver::Results(results), &mut message);
        }
        if finished {
            wire::encode(&FromReceiver::Finished {}, &mut message);
        }
        send.write_chunk(message.into()).await?;
        if finished {
            send.finish()?;
            // Closing the link is an answer, too.
            let _acknowledged = timeout(FAREWELL_WITHIN, send.stopped()).await;
            return Ok(());
        }
    }
    Err(TransferError::Ended)
}
