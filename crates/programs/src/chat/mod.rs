//! Lines of text both ways, with a name and the time.

mod lines;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use holepunch_link::{CloseCode, Link, LinkError, RecvStream, WriteError};
use jiff::Timestamp;
pub use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::agree::{AgreeError, Agreed, Greeting, agree};
use crate::ending::{self, CONFIRMS, Silent, Tell, confirm, patiently, stay};
use crate::is_orderly;
use crate::messages::{MessageError, read_frame, write_message};
use crate::sending::Sending;
use holepunch_wire::text::{harmless, harmless_json};
use lines::Lines;

/// The version of what goes over the link; the two sides have to have the same one.
pub const VERSION: u32 = 1;
/// Longest text of one message, in bytes: some pages. A longer line is sent as several messages.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Longest message: each byte of the text may need six in JSON, and there is a name.
const MESSAGE_BYTES_MAX: usize = 6 * TEXT_BYTES_MAX + 4096;
/// Bytes that are read, and written, at once where many messages come together.
const READ_BYTES: usize = 64 * 1024;
/// Characters of a name that are shown.
pub const NAME_CHARACTERS_MAX: usize = 40;
/// Characters of an id that stand for a name: enough to tell two apart.
const ID_CHARACTERS: usize = 8;

/// A peer that has everything has answered the end with its own within so long, if its output takes what it has heard.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);

/// How a chat is held.
#[derive(Debug, Clone)]
pub struct Chat {
    /// The own name; without it the peer shows the id.
    pub name: Option<String>,
    /// How what the peer says is written.
    pub form: Form,
}

/// How what the peer says is written.
#[derive(Debug, Clone)]
pub enum Form {
    /// `[12:34:56] name: text`, the time in this zone.
    Text(TimeZone),
    /// One JSON object a line.
    Json,
}

/// What goes over the link.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    Message {
        time: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        text: String,
    },
}

/// What is written in JSON. Who it is from is what the peer has proved, not what it says.
#[derive(Serialize)]
#[serde(tag = "type", rename = "message")]
struct Heard<'a> {
    from: &'a str,
    name: &'a str,
    time: String,
    text: &'a str,
}

/// How a chat has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Whether the peer has ended it.
    pub peer_left: bool,
}

/// Why a chat is broken off.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The peer runs something else.
    #[error(transparent)]
    Agree(#[from] AgreeError),
    /// The input cannot be read.
    #[error("cannot read the input: {0}")]
    Input(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// A message cannot be sent, or is not understood.
    #[error("a message of the chat: {0}")]
    Message(#[from] MessageError),
    /// The link has ended.
    #[error("the link is lost: {0}")]
    Link(#[from] LinkError),
    /// The peer is there, and does not say its last word.
    #[error(transparent)]
    Silent(#[from] Silent),
}

/// Sends the lines of `input` and writes what the peer says to `output`. It returns at the end of the
/// input, when the peer has everything and has said so, or when the peer ends. What is waited for is told by `tell`
/// where it takes long.
///
/// # Errors
/// The peer runs something else or sends what is no message, the input or the output fails, or the link
/// ends: before the peer has everything, where this side's input has ended.
pub async fn chat(
    link: &Link,
    chat: &Chat,
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin,
    tell: &Tell<'_>,
) -> Result<Summary, ChatError> {
    match (run(link, chat, input, output, tell).await, link.ended()) {
        // The stream broke with the link.
        (Err(ChatError::Message(MessageError::Stream(_))), Some(why)) => Err(why.into()),
        (outcome, _) => outcome,
    }
}

async fn run(
    link: &Link,
    chat: &Chat,
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin,
    tell: &Tell<'_>,
) -> Result<Summary, ChatError> {
    let own = Greeting::new("chat", "", VERSION).with(CONFIRMS);
    let Agreed { send, recv, peer } = agree(link, &own).await?;
    let confirms = peer.has(CONFIRMS);
    let mut send = Sending::new(send);
    let (mut sent, mut received) = (0, 0);
    let peer_left = {
        let hearing = hear(link, chat, recv, output, &mut received);
        tokio::pin!(hearing);
        let said = tokio::select! {
            heard = &mut hearing => {
                heard?;
                None
            }
            said = say(chat, input, &mut send, &mut sent) => Some(said),
        };
        let _unless_stopped = send.finish();
        let peer_left = said.is_none();
        let both = async {
            let Some(said) = said else {
                // The peer has ended it, has told everything, and hears nothing more: however the link ends, that is the
                // end. It stays until it knows of this side's end.
                if confirms {
                    stay(confirm(link)).await;
                } else {
                    stay(ending::acknowledged(&mut send, CloseCode::Done)).await;
                }
                return Ok(());
            };
            said?;
            if !confirms {
                return until_acknowledged(link, &mut send, hearing).await;
            }
            // The peer answers the end with its own, and may have said something before.
            hearing.await?;
            match confirm(link).await {
                // It left meanwhile.
                Ok(()) | Err(LinkError::ClosedByPeer(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        let what = "the chat is over; waiting for the peer to have everything";
        patiently(what, tell, both).await??;
        peer_left
    };
    Ok(Summary { sent, received, peer_left })
}

/// This side has ended it, and the peer does not confirm: it has to have everything, and answers with its own end.
async fn until_acknowledged(
    link: &Link,
    send: &mut Sending,
    mut hearing: Pin<&mut impl Future<Output = Result<(), ChatError>>>,
) -> Result<(), ChatError> {
    let acknowledged = ending::acknowledged(send, CloseCode::Done);
    tokio::pin!(acknowledged);
    let mut heard = None;
    let acknowledged = loop {
        tokio::select! {
            outcome = &mut acknowledged => break outcome,
            end = &mut hearing, if heard.is_none() => heard = Some(end),
        }
    };
    match acknowledged {
        Ok(()) => {}
        Err(WriteError::Link(error)) if !matches!(error, LinkError::ClosedByPeer(_)) => {
            return Err(error.into());
        }
        // It left meanwhile, or looks at nothing more.
        Err(WriteError::Stopped(_) | WriteError::Finished | _) => return Ok(()),
    }
    let heard = match heard {
        None => timeout(FAREWELL_WITHIN, hearing).await.unwrap_or(Ok(())),
        Some(heard) => heard,
    };
    heard.or_else(|error| if link.ended().is_some() { Ok(()) } else { Err(error) })
}

async fn say(
    chat: &Chat,
    input: impl AsyncBufRead + Unpin,
    send: &mut Sending,
    sent: &mut u64,
) -> Result<(), ChatError> {
    let mut lines = Lines::new(input, TEXT_BYTES_MAX);
    while let Some(text) = lines.next().await.map_err(ChatError::Input)? {
        // Somebody has pressed Enter to see whether it works.
        if text.trim().is_empty() {
            continue;
        }
        let time = to_milliseconds(Timestamp::now());
        let said = Said::Message { time, name: chat.name.clone(), text };
        write_message(&mut **send, &said).await?;
        *sent += 1;
    }
    Ok(())
}

async fn hear(
    link: &Link,
    chat: &Chat,
    recv: RecvStream,
    mut output: impl AsyncWrite + Unpin,
    received: &mut u64,
) -> Result<(), ChatError> {
    let mut recv = BufReader::with_capacity(READ_BYTES, recv);
    let (mut lines, mut messages) = (Vec::new(), 0);
    loop {
        let frame = match read_frame(&mut recv, MESSAGE_BYTES_MAX).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            // A peer that is interrupted has left, too.
            Err(MessageError::Stream(_)) if has_left(link) => return Ok(()),
            Err(MessageError::Stream(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let said = line(link.peer().as_str(), chat, &frame).map_err(MessageError::Malformed);
        if let Ok(said) = &said {
            lines.extend_from_slice(said.as_bytes());
            lines.push(b'\n');
            messages += 1;
        }
        // Many that come together are written together; whoever reads waits for what is there, and not for more.
        let is_last = said.is_err() || !begins_with_frame(recv.buffer());
        if is_last || lines.len() >= READ_BYTES {
            output.write_all(&lines).await.map_err(ChatError::Output)?;
            output.flush().await.map_err(ChatError::Output)?;
            lines.clear();
            *received += std::mem::take(&mut messages);
        }
        said?;
    }
}

/// Whether a whole message is there, which can be read without a wait.
fn begins_with_frame(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    rest.len() >= length && length <= MESSAGE_BYTES_MAX
}

fn has_left(link: &Link) -> bool {
    link.ended().is_some_and(|end| is_orderly(&end))
}

/// Nobody types faster.
fn to_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// A message of a peer, the content of its frame, as one harmless line.
///
/// # Errors
/// It is none.
pub fn line(from: &str, chat: &Chat, message: &[u8]) -> Result<String, serde_json::Error> {
    Ok(shown(from, chat, &serde_json::from_slice(message)?))
}

fn shown(from: &str, chat: &Chat, said: &Said) -> String {
    let Said::Message { time, name, text } = said;
    let id: String = from.chars().take(ID_CHARACTERS).collect();
    let name = name.as_deref().filter(|name| !name.trim().is_empty()).unwrap_or(&id);
    match &chat.form {
        Form::Text(zone) => {
            let clock = time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
            let name = harmless(name, NAME_CHARACTERS_MAX);
            format!("[{clock}] {name}: {}", harmless(text, TEXT_BYTES_MAX))
        }
        Form::Json => {
            let time = format!("{:.3}", to_milliseconds(*time));
            let heard = Heard { from, name, time, text };
            // Strings and a time always have a form in JSON.
            harmless_json(&serde_json::to_string(&heard).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests;
