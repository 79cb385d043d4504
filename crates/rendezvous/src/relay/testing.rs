//! The relay's frames without a socket, for the fuzz targets.

use bytes::BytesMut;
use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;

use super::frame::{OwnHead, Reader, Received};

/// A message of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A binary message.
    Data(Vec<u8>),
    /// A text message, or a pong.
    Nothing,
    /// A ping.
    Ping(Vec<u8>),
    /// The client's end of it.
    Close,
}

/// Reads what a client has sent, as it comes in these parts: the messages, and the close code where the
/// stream cannot be read any further.
///
/// # Panics
/// The reader wants no more where it has no message, or more than a frame holds.
pub fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Option<u16>) {
    let (mut reader, mut buffer, mut all) = (Reader::default(), BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(Received::Data(bytes))) => all.push(Message::Data(bytes.to_vec())),
                Ok(Some(Received::Nothing)) => all.push(Message::Nothing),
                Ok(Some(Received::Ping(bytes))) => all.push(Message::Ping(bytes.to_vec())),
                Ok(Some(Received::Close(_))) => all.push(Message::Close),
                Ok(None) => break,
                Err(broken) => return (all, Some(broken.0.into())),
            }
        }
        let missing = reader.missing(&buffer);
        assert!((1..=RELAY_FRAME_BYTES_MAX).contains(&missing), "{missing} bytes are missing");
    }
    (all, None)
}

/// The head of a whole frame of this kind, as the relay writes it.
#[must_use]
pub fn head(kind: u8, payload_bytes: usize) -> Vec<u8> {
    OwnHead::new(kind, payload_bytes).as_bytes().to_vec()
}
