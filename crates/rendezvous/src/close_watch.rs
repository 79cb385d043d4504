//! The bytes under a WebSocket, with an eye on how its client closes it.
//!
//! The library takes a close code that it does not know, as 1014, for a breach of the protocol. Such a frame never reaches it:
//! reading ends before the frame does, with an error that names the code.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use holepunch_wire::close_code::{CLOSE_REASON_BYTES_MAX, may_be_sent};

/// Kind and flags of a close frame (RFC 6455 §5.2).
const CLOSE: u8 = 0x88;
const IS_MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;
const CODE_BYTES: usize = 2;
/// Payload lengths of a close frame that has a code (§5.5).
const WITH_CODE: std::ops::RangeInclusive<u64> = 2..=2 + CLOSE_REASON_BYTES_MAX as u64;
/// Longest head of a frame: kind, length in eight bytes (as few as need be, by §5.2, but nobody refuses more), mask; and the
/// code of a close frame behind it.
const HEAD_BYTES_MAX: usize = 2 + 8 + MASK_BYTES + CODE_BYTES;

/// The client has closed the WebSocket, with a code that the library does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("closed with {0}")]
pub(crate) struct ClosedWith(pub(crate) u16);

/// What carries a WebSocket, for the library to read.
#[derive(Debug)]
pub(crate) struct CloseWatch<S> {
    inner: S,
    scan: Scan,
    closed: Option<ClosedWith>,
}

impl<S> CloseWatch<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, scan: Scan::default(), closed: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CloseWatch<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.closed.is_none() {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
            if let Some((harmless, closed)) = this.scan.look(&buffer.filled()[before..]) {
                this.closed = Some(closed);
                // The last byte of the code is missing: no frame that the library takes for whole.
                buffer.set_filled(before + harmless);
            }
        }
        match this.closed {
            Some(closed) if buffer.filled().len() == before => {
                Poll::Ready(Err(io::Error::other(closed)))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CloseWatch<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Follows a client's frames by their heads. It sees them before the library does, so any bytes may come.
#[derive(Debug, Default)]
struct Scan {
    /// The head of the frame under way, as far as it has come, with the code of a close frame behind it.
    head: [u8; HEAD_BYTES_MAX],
    length: usize,
    /// Bytes of a frame behind its head that are still to come.
    left: u64,
}

impl Scan {
    /// Looks through what has come next, up to a close code that the library does not know: how many bytes stand before
    /// its last one.
    fn look(&mut self, bytes: &[u8]) -> Option<(usize, ClosedWith)> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.left > 0 {
                let here = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(self.left);
                self.left -= here;
                at += usize::try_from(here).unwrap_or(bytes.len());
                continue;
            }
            self.head[self.length] = *byte;
            self.length += 1;
            if let Some(head) = Head::of(&self.head[..self.length]) {
                self.length = 0;
                self.left = head.left;
                if let Some(code) = head.code.filter(|code| is_unknown(*code)) {
                    return Some((at, ClosedWith(code)));
                }
            }
            at += 1;
        }
        None
    }
}

/// The head of a frame, and what follows it.
#[derive(Debug)]
struct Head {
    /// That of a close frame that has one.
    code: Option<u16>,
    left: u64,
}

impl Head {
    /// `None` where more bytes are needed.
    fn of(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (length, rest) = match second & !IS_MASKED {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let mask_bytes = if second & IS_MASKED == 0 { 0 } else { MASK_BYTES };
        let (mask, rest) = rest.split_at_checked(mask_bytes)?;
        if *first != CLOSE || !WITH_CODE.contains(&length) {
            return Some(Self { code: None, left: length });
        }
        let [high, low] = *rest.first_chunk::<CODE_BYTES>()?;
        let mask = mask.first_chunk::<CODE_BYTES>().copied().unwrap_or_default();
        let code = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
        Some(Self { code: Some(code), left: length - 2 })
    }
}

/// Whether the library would take a code that is registered for a breach of the protocol.
fn is_unknown(code: u16) -> bool {
    may_be_sent(code) && !CloseCode::from(code).is_allowed()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    const TEXT: u8 = 0x81;
    const MASK: [u8; 4] = [0x5a, 0x01, 0xff, 0x33];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(length @ 0..126) => frame.push(IS_MASKED | u8::try_from(length).unwrap()),
            Ok(length) => {
                frame.push(IS_MASKED | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(IS_MASKED | 127);
                frame.extend_from_slice(&u64::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn close(code: u16, reason: &str) -> Vec<u8> {
        frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// Where and with which code the watch stops, of a stream that is read in pieces of this length.
    fn stops(stream: &[u8], piece: usize) -> Option<(usize, u16)> {
        let mut scan = Scan::default();
        for (number, bytes) in stream.chunks(piece).enumerate() {
            if let Some((harmless, closed)) = scan.look(bytes) {
                return Some((number * piece + harmless, closed.0));
            }
        }
        None
    }

    #[test]
    fn the_code_is_found_behind_frames_of_every_length_however_they_are_cut() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            // What looks like the frame that is sought lies in a payload.
            let inner: Vec<u8> = close(1014, "").into_iter().cycle().take(length).collect();
            let before = [frame(TEXT, &inner), frame(0x89, b"ping")].concat();
            let stream = [&before[..], &close(1014, "bad gateway")].concat();
            for piece in [1, 2, 3, 7, 1024, stream.len()] {
                let found = Some((before.len() + 2 + MASK_BYTES + 1, 1014));
                assert_eq!(stops(&stream, piece), found, "{length} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_length_that_is_written_longer_than_it_needs_is_read() {
        for masked in [0, IS_MASKED] {
            let mask = if masked == 0 { &[][..] } else { &[0; MASK_BYTES] };
            let code = 1014_u16.to_be_bytes();
            for length in [&[126, 0, 2][..], &[127, 0, 0, 0, 0, 0, 0, 0, 2]] {
                let (first, rest) = length.split_first().unwrap();
                let frame = [&[CLOSE, masked | first][..], rest, mask, &code].concat();
                for piece in [1, frame.len()] {
                    assert_eq!(stops(&frame, piece), Some((frame.len() - 1, 1014)));
                }
            }
        }
    }

    #[test]
    fn what_the_library_knows_is_left_to_it() {
        for code in (0..=u16::MAX).filter(|code| *code != 1014) {
            assert_eq!(stops(&close(code, "x"), 64), None, "{code}");
        }
        let without_code = [frame(CLOSE, b""), frame(CLOSE, &[3]), close(1000, "")].concat();
        assert_eq!(stops(&without_code, 1), None);
    }

    #[tokio::test]
    async fn the_reader_gets_what_came_before_and_then_the_code() {
        let before = frame(TEXT, b"hello");
        let stream = [&before[..], &close(1014, "")].concat();
        let mut watch = CloseWatch::new(&stream[..]);
        let mut read = Vec::new();
        for _ in 0..2 {
            let error = watch.read_to_end(&mut read).await.unwrap_err();
            let closed = error.get_ref().and_then(|error| error.downcast_ref::<ClosedWith>());
            assert_eq!(closed, Some(&ClosedWith(1014)));
        }
        assert!(read.starts_with(&before));
        assert_eq!(read.len(), stream.len() - 1);
    }
}
