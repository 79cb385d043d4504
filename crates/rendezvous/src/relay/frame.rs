//! Frames of a WebSocket (RFC 6455 §5.2), read out of a buffer and written into one.
//!
//! The library that serves the other WebSockets copies each frame once more on its way out, clears its
//! buffer before each read, and keeps both buffers of a connection that is idle. A relay does little
//! else than to move frames: here they are handed on where they were read.

use axum::body::Bytes;
use bytes::{Buf, BytesMut};
use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;

use holepunch_wire::close_code::{CLOSE_REASON_BYTES_MAX, CloseCode, may_be_sent};

/// First byte of a whole message: FIN, and the kind.
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const IS_MASKED: u8 = 0x80;
/// Longest payload of a ping, pong or close (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 2 + CLOSE_REASON_BYTES_MAX;
/// Longest head of a frame: kind, length in eight bytes, mask.
const HEAD_BYTES_MAX: usize = 14;

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A binary message.
    Data(Bytes),
    /// A text message, or a pong: nothing to do.
    Nothing,
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// The client's end of it, to be answered with this code.
    Close(u16),
}

/// Why a stream cannot be read any further: the close code and its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken(pub(super) CloseCode, pub(super) &'static str);

const INVALID: Broken = Broken(CloseCode::ProtocolError, "not a valid WebSocket frame");
const TOO_BIG: Broken = Broken(CloseCode::TooBig, "a frame of the relay has at most 64 KiB");

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    first: u8,
    mask: [u8; 4],
    length: usize,
}

/// Takes messages of a client off a buffer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The head of the frame that is being read, already off the buffer.
    head: Option<Head>,
    /// Kind and first parts of a message in several frames.
    parts: Option<(u8, BytesMut)>,
}

impl Reader {
    /// The next message; `None` where more bytes are needed.
    ///
    /// # Errors
    /// The stream is broken, and cannot be read any further.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Received>, Broken> {
        loop {
            if self.head.is_none() {
                self.head = read_head(buffer)?;
            }
            let Some(head) = self.head.filter(|head| head.length <= buffer.len()) else {
                return Ok(None);
            };
            self.head = None;
            let mut payload = buffer.split_to(head.length);
            apply_mask(&mut payload, head.mask);
            if let Some(received) = self.take(head.first, payload)? {
                return Ok(Some(received));
            }
        }
    }

    /// How many bytes the frame under way still needs.
    pub(super) fn missing(&self, buffer: &BytesMut) -> usize {
        let wanted = self.head.map_or(HEAD_BYTES_MAX, |head| head.length);
        wanted.saturating_sub(buffer.len())
    }

    /// Takes the payload of a frame; `None` where its message goes on.
    fn take(&mut self, first: u8, payload: BytesMut) -> Result<Option<Received>, Broken> {
        match first {
            CLOSE => return answer_to_close(&payload).map(|code| Some(Received::Close(code))),
            PING => return Ok(Some(Received::Ping(payload.freeze()))),
            PONG => return Ok(Some(Received::Nothing)),
            _ => {}
        }
        let (is_last, kind) = (first & FIN != 0, first & !FIN);
        let (kind, payload) = match (kind, self.parts.take()) {
            (0, Some((kind, mut parts)))
                if parts.len() + payload.len() <= RELAY_FRAME_BYTES_MAX =>
            {
                parts.extend_from_slice(&payload);
                (kind, parts)
            }
            (0, Some(_)) => return Err(TOO_BIG),
            (1 | 2, None) => (kind, payload),
            _ => return Err(INVALID),
        };
        if !is_last {
            self.parts = Some((kind, payload));
            return Ok(None);
        }
        let is_data = kind | FIN == BINARY;
        Ok(Some(if is_data { Received::Data(payload.freeze()) } else { Received::Nothing }))
    }
}

/// The code that answers a close frame: its own, where it may have one (RFC 6455 §5.5.1).
fn answer_to_close(payload: &[u8]) -> Result<u16, Broken> {
    match payload {
        [] => Ok(CloseCode::Normal.into()),
        [_] => Err(INVALID),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(INVALID);
            }
            let is_text = std::str::from_utf8(reason).is_ok();
            is_text.then_some(code).ok_or(Broken(CloseCode::InvalidData, "a reason must be UTF-8"))
        }
    }
}

/// Takes the head of a frame off the buffer, once it is whole.
fn read_head(buffer: &mut BytesMut) -> Result<Option<Head>, Broken> {
    let [first, second, rest @ ..] = &buffer[..] else { return Ok(None) };
    let (first, second) = (*first, *second);
    let is_control = first & 0x08 != 0;
    let is_known =
        if is_control { matches!(first, CLOSE | PING | PONG) } else { first & 0x0f <= 2 };
    // A client's frames are always masked (RFC 6455 §5.1).
    if first & RESERVED != 0 || second & IS_MASKED == 0 || !is_known {
        return Err(INVALID);
    }
    let (length, rest) = match second & !IS_MASKED {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (usize::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => {
                (usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX), rest)
            }
            None => return Ok(None),
        },
        short => (usize::from(short), rest),
    };
    if is_control && length > CONTROL_BYTES_MAX {
        return Err(INVALID);
    }
    if length > RELAY_FRAME_BYTES_MAX {
        return Err(TOO_BIG);
    }
    let Some(&mask) = rest.first_chunk() else { return Ok(None) };
    let head_bytes = buffer.len() - rest.len() + mask.len();
    buffer.advance(head_bytes);
    Ok(Some(Head { first, mask, length }))
}

/// Eight bytes at a time: the compiler makes vectors of it.
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The head of a frame to a client, which is not masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnHead {
    bytes: [u8; 10],
    length: u8,
}

impl OwnHead {
    pub(super) fn new(first: u8, payload_bytes: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = first;
        let length = match u16::try_from(payload_bytes) {
            Ok(short @ 0..126) => {
                bytes[1] = short.to_be_bytes()[1];
                2
            }
            Ok(medium) => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            Err(_) => {
                bytes[1] = 127;
                let long = u64::try_from(payload_bytes).unwrap_or(u64::MAX);
                bytes[2..].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        Self { bytes, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The payload of a close frame.
pub(super) fn close_payload(code: u16, reason: &str) -> Bytes {
    debug_assert!(reason.len() + 2 <= CONTROL_BYTES_MAX);
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x5a, 0x01, 0xff, 0x33];

    /// A frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = OwnHead::new(first, payload.len()).as_bytes().to_vec();
        frame[1] |= IS_MASKED;
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<Received>, Broken> {
        let mut buffer = BytesMut::from(bytes);
        let mut all = Vec::new();
        while let Some(received) = reader.next(&mut buffer)? {
            all.push(received);
        }
        Ok(all)
    }

    #[test]
    fn frames_of_every_length_are_read_however_they_are_cut() {
        let payload: Vec<u8> = (0..=255).cycle().take(RELAY_FRAME_BYTES_MAX).collect();
        for length in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536] {
            let bytes = [frame(BINARY, &payload[..length]), frame(PING, b"x")].concat();
            for cut in [1, 2, 3, 5, 9, 13, 14, 15, bytes.len() - 1] {
                let (mut reader, mut buffer) = (Reader::default(), BytesMut::new());
                let mut all = Vec::new();
                let (first, rest) = bytes.split_at(cut.min(bytes.len()));
                for part in [first, rest] {
                    buffer.extend_from_slice(part);
                    while let Some(received) = reader.next(&mut buffer).unwrap() {
                        all.push(received);
                    }
                }
                let data = Received::Data(Bytes::copy_from_slice(&payload[..length]));
                let ping = Received::Ping(Bytes::from_static(b"x"));
                assert_eq!(all, [data, ping], "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_in_parts_is_put_together_with_a_ping_between_them() {
        let parts = [frame(0x02, b"ab"), frame(PING, b""), frame(0, b"c"), frame(0x80, b"de")];
        let all = read(&mut Reader::default(), &parts.concat()).unwrap();
        let data = Received::Data(Bytes::from_static(b"abcde"));
        assert_eq!(all, [Received::Ping(Bytes::new()), data]);
        let large = [frame(0x02, &[0; 40_000]), frame(0x80, &[0; 40_000])].concat();
        assert_eq!(read(&mut Reader::default(), &large), Err(TOO_BIG));
    }

    #[test]
    fn texts_and_pongs_say_nothing() {
        let bytes = [frame(0x81, b"\xff"), frame(PONG, b"x"), frame(CLOSE, b"")].concat();
        let all = read(&mut Reader::default(), &bytes).unwrap();
        assert_eq!(
            all,
            [Received::Nothing, Received::Nothing, Received::Close(CloseCode::Normal.into())]
        );
    }

    #[test]
    fn a_close_is_answered_with_its_own_code_where_that_may_be_sent() {
        let closed = |payload: &[u8]| read(&mut Reader::default(), &frame(CLOSE, payload));
        for code in [1000_u16, 1011, 1013, 1014, 3000, 4999] {
            let payload = [&code.to_be_bytes()[..], "ü".as_bytes()].concat();
            assert_eq!(closed(&payload), Ok(vec![Received::Close(code)]));
        }
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(closed(&code.to_be_bytes()), Err(INVALID), "{code}");
        }
        assert_eq!(closed(&[3]), Err(INVALID));
        assert_eq!(
            closed(&[3, 0xe8, 0xff]).map_err(|broken| broken.0),
            Err(CloseCode::InvalidData)
        );
    }

    #[test]
    fn what_the_rules_forbid_breaks_the_stream() {
        let unmasked = [BINARY, 1, b'x'];
        let long = [BINARY, 0xff, 0, 0, 0, 0, 0, 1, 0, 1];
        for (what, bytes, broken) in [
            ("no mask", &unmasked[..], INVALID),
            ("reserved bit", &frame(0xc2, b""), INVALID),
            ("unknown kind", &frame(0x83, b""), INVALID),
            ("unknown control kind", &frame(0x8b, b""), INVALID),
            ("ping in parts", &frame(0x09, b""), INVALID),
            ("long ping", &frame(PING, &[0; 126]), INVALID),
            ("continuation of nothing", &frame(0x80, b""), INVALID),
            ("message within a message", &[frame(2, b""), frame(BINARY, b"")].concat(), INVALID),
            ("64 KiB and a byte, told by the head alone", &long[..], TOO_BIG),
        ] {
            assert_eq!(read(&mut Reader::default(), bytes), Err(broken), "{what}");
        }
    }

    #[test]
    fn a_reader_says_how_much_it_needs() {
        let bytes = frame(BINARY, &[1; 1000]);
        let (mut reader, mut buffer) = (Reader::default(), BytesMut::from(&bytes[..10]));
        assert_eq!(reader.next(&mut buffer), Ok(None));
        assert_eq!(reader.missing(&buffer), 1000 - 2);
    }
}
