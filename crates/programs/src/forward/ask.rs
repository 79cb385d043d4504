//! What this side asks the peer for, for as long as a stream is open.

use holepunch_link::RecvStream;
use tokio::time::timeout;

use super::request::{Answer, Request, answered};
use super::station::Carrier;
use crate::messages::write_message;
use crate::sending::Sending;

/// The peer's answer, and the stream; what is asked for ends with it.
///
/// # Errors
/// There is no answer, in words.
pub(super) async fn ask(
    carrier: &Carrier,
    request: &Request,
) -> Result<(Answer, Sending, RecvStream), String> {
    let (send, mut recv) = carrier.link.open_bi().await.map_err(|error| error.to_string())?;
    let mut send = Sending::new(send);
    write_message(&mut *send, request).await.map_err(|error| error.to_string())?;
    let answer = timeout(carrier.station.times.answer, answered(&mut recv)).await;
    let answer = answer.map_err(|_| "the peer has not answered in time".to_owned())?;
    let answer = answer.map_err(|error| format!("the peer's answer: {error}"))?;
    let answer = answer.ok_or("the peer has ended the stream without an answer")?;
    Ok((answer, send, recv))
}
