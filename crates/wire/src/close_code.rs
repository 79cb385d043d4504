//! Close codes of a WebSocket (RFC 6455 §7.4.1, and IANA's registry of them).

/// Longest reason of a close frame, in bytes: a control frame's 125 without the code (RFC 6455 §5.5).
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// A close code that this project sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// What the connection was for has ended.
    Normal = 1000,
    /// This end stops.
    GoingAway = 1001,
    /// A frame is not valid.
    ProtocolError = 1002,
    /// A text is not UTF-8.
    InvalidData = 1007,
    /// The other end does not keep to a rule: it is not who it says, or has used up what it may.
    Policy = 1008,
    /// A message is too long.
    TooBig = 1009,
    /// A ping was not answered.
    Internal = 1011,
    /// This end stops, and the next connection finds another one in its place.
    Restart = 1012,
    /// There is no place at the moment, or what waits is not read.
    TryAgain = 1013,
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code as Self
    }
}

/// Whether a close frame may name this code: those that are registered, but for the ones that only stand for a frame
/// without a code, or for none (1005, 1006, 1015), and those of frameworks and programs (§7.4.2).
#[must_use]
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_stand_for_no_frame_and_those_of_nobody_are_not_sent() {
        let all = (0..=u16::MAX).filter(|code| may_be_sent(*code));
        let registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        assert!(all.eq(registered.into_iter().chain(3000..=4999)));
    }
}
