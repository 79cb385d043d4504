//! Messages on a stream: JSON, each behind its length (4 bytes, big-endian).

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Why a message cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is longer than [`MESSAGE_BYTES_MAX`], or than what the program takes.
    #[error("a message of {0} bytes, expected at most {1}")]
    TooLong(usize, usize),
    /// It is not the JSON that was expected.
    #[error("a message that is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The stream ended inside it, or was given up.
    #[error(transparent)]
    Stream(#[from] io::Error),
}

/// Writes one message.
///
/// # Errors
/// It is too long, or the stream takes nothing more.
pub async fn write_message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), MessageError> {
    stream.write_all(&framed(message)?).await?;
    Ok(())
}

/// A message behind its length.
pub(crate) fn framed(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MESSAGE_BYTES_MAX);
    let length = length.ok_or(MessageError::TooLong(json.len(), MESSAGE_BYTES_MAX))?;
    Ok([&length.to_be_bytes(), json.as_slice()].concat())
}

/// Reads one message; `None` where the stream ends before it begins.
///
/// # Errors
/// It is too long, not what was expected, or the stream ends inside it.
pub async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, MessageError> {
    let json = read_frame(stream, MESSAGE_BYTES_MAX).await?;
    Ok(json.map(|json| serde_json::from_slice(&json)).transpose()?)
}

/// Reads one message without a look at what it says; `None` where the stream ends before it begins.
///
/// # Errors
/// It is longer than `bytes_max`, or the stream ends inside it.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, MessageError> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(MessageError::TooLong(length, bytes_max));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).await?;
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_and_end_with_the_stream() {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &"one").await.unwrap();
        write_message(&mut bytes, &2).await.unwrap();
        let mut rest = bytes.as_slice();
        assert_eq!(read_message::<String>(&mut rest).await.unwrap().as_deref(), Some("one"));
        assert_eq!(read_message::<u32>(&mut rest).await.unwrap(), Some(2));
        assert!(read_message::<u32>(&mut rest).await.unwrap().is_none());
        for length in 1..bytes.len() - 5 {
            assert!(read_message::<String>(&mut &bytes[..length]).await.is_err() || length >= 9);
        }
    }

    #[tokio::test]
    async fn an_overlong_message_is_refused_before_it_is_read() {
        let length = u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
        let refused = read_message::<String>(&mut &length[..]).await;
        assert!(matches!(refused, Err(MessageError::TooLong(..))));
        let long = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(matches!(
            write_message(&mut Vec::new(), &long).await,
            Err(MessageError::TooLong(..))
        ));
    }
}
