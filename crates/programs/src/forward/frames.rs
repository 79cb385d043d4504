//! How the bytes of a TCP connection stand on its stream: in frames, so that what the other side may send
//! can be told in between.
//!
//! A frame is a kind (1 byte) and a number (4 bytes, big-endian); behind the head of [`Frame::Data`] as
//! many bytes follow.

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 5;
/// Most bytes of a connection in one frame.
pub const DATA_BYTES_MAX: u32 = 64 * 1024;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// So many bytes of the connection follow, at least one and at most [`DATA_BYTES_MAX`].
    Data(u32),
    /// The connection ends in this direction; only credit comes behind it.
    End,
    /// The other side may send so many bytes more, at least one.
    Credit(u32),
    /// So many bytes that this side was allowed to send, at least one, it gives back.
    Return(u32),
}

/// What the rules forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of a connection, or one in the wrong place")]
pub struct Malformed;

impl Frame {
    /// Its bytes, without those that follow.
    #[must_use]
    pub fn head(self) -> [u8; HEAD_BYTES] {
        let (kind, number) = match self {
            Self::Data(bytes) => (0, bytes),
            Self::End => (1, 0),
            Self::Credit(bytes) => (2, bytes),
            Self::Return(bytes) => (3, bytes),
        };
        let [a, b, c, d] = u32::to_be_bytes(number);
        [kind, a, b, c, d]
    }

    fn parse([kind, number @ ..]: [u8; HEAD_BYTES]) -> Result<Self, Malformed> {
        match (kind, u32::from_be_bytes(number)) {
            (0, bytes @ 1..=DATA_BYTES_MAX) => Ok(Self::Data(bytes)),
            (1, 0) => Ok(Self::End),
            (2, bytes @ 1..) => Ok(Self::Credit(bytes)),
            (3, bytes @ 1..) => Ok(Self::Return(bytes)),
            _ => Err(Malformed),
        }
    }
}

/// What a [`Reader`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the connection, of one frame or of a part of it; never none.
    Bytes(&'a [u8]),
    /// As [`Frame::End`].
    End,
    /// As [`Frame::Credit`].
    Credit(u32),
    /// As [`Frame::Return`].
    Return(u32),
}

/// Reads frames, however they are cut. It holds no more than a head.
#[derive(Debug, Default)]
pub struct Reader {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// What the frame under way still has.
    left: usize,
    is_ended: bool,
}

impl Reader {
    /// The next piece, taken off the front of `input`; `None` where more is needed.
    ///
    /// # Errors
    /// The stream cannot be read any further.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Malformed> {
        while self.left == 0 {
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            self.head[self.head_bytes] = *byte;
            self.head_bytes += 1;
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                if let Some(piece) = self.begin(Frame::parse(self.head)?)? {
                    return Ok(Some(piece));
                }
            }
        }
        if input.is_empty() {
            return Ok(None);
        }
        let (bytes, rest) = input.split_at(self.left.min(input.len()));
        *input = rest;
        self.left -= bytes.len();
        Ok(Some(Piece::Bytes(bytes)))
    }

    fn begin(&mut self, frame: Frame) -> Result<Option<Piece<'static>>, Malformed> {
        match frame {
            Frame::Credit(bytes) => return Ok(Some(Piece::Credit(bytes))),
            Frame::Data(_) | Frame::End | Frame::Return(_) if self.is_ended => {
                return Err(Malformed);
            }
            Frame::Data(bytes) => self.left = usize::try_from(bytes).map_err(|_| Malformed)?,
            Frame::End => {
                self.is_ended = true;
                return Ok(Some(Piece::End));
            }
            Frame::Return(bytes) => return Ok(Some(Piece::Return(bytes))),
        }
        Ok(None)
    }

    /// Whether the connection's end has come, and the stream may end here.
    #[must_use]
    pub fn may_end(&self) -> bool {
        self.is_ended && self.head_bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut Reader, mut input: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut all = Vec::new();
        while let Some(piece) = reader.next(&mut input)? {
            all.push(match piece {
                Piece::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Piece::End | Piece::Credit(_) | Piece::Return(_) => format!("{piece:?}"),
            });
        }
        Ok(all)
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let mut bytes = Frame::Data(5).head().to_vec();
        bytes.extend_from_slice(b"bytes");
        bytes.extend_from_slice(&Frame::Credit(0x0102_0304).head());
        bytes.extend_from_slice(&Frame::Return(7).head());
        bytes.extend_from_slice(&Frame::End.head());
        bytes.extend_from_slice(&Frame::Credit(1).head());
        for cut in 0..=bytes.len() {
            let mut reader = Reader::default();
            let (first, rest) = bytes.split_at(cut);
            let mut all = read(&mut reader, first).unwrap();
            assert_eq!(reader.may_end(), cut == 25 || cut == 30, "{cut}");
            all.extend(read(&mut reader, rest).unwrap());
            assert_eq!(all.concat(), "bytesCredit(16909060)Return(7)EndCredit(1)", "{cut}");
            assert!(reader.may_end());
        }
    }

    #[test]
    fn what_the_rules_forbid_is_malformed() {
        for bad in
            [Frame::Data(0), Frame::Data(DATA_BYTES_MAX + 1), Frame::Credit(0), Frame::Return(0)]
        {
            assert_eq!(read(&mut Reader::default(), &bad.head()), Err(Malformed), "{bad:?}");
        }
        for bad in [[1, 0, 0, 0, 1], [4, 0, 0, 0, 1]] {
            assert_eq!(read(&mut Reader::default(), &bad), Err(Malformed), "{bad:?}");
        }
        for late in [Frame::Data(1), Frame::End, Frame::Return(1)] {
            let both = [Frame::End.head(), late.head()].concat();
            assert_eq!(read(&mut Reader::default(), &both), Err(Malformed), "{late:?}");
        }
    }
}
