//! Close codes of a WebSocket (RFC 6455 §7.4.1, and IANA's registry of them).

pub(crate) const NORMAL: u16 = 1000;
pub(crate) const GOING_AWAY: u16 = 1001;
pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const INVALID_DATA: u16 = 1007;
pub(crate) const POLICY: u16 = 1008;
pub(crate) const TOO_BIG: u16 = 1009;
pub(crate) const TRY_AGAIN: u16 = 1013;

/// Whether a close frame may name this code: those that are registered, but for the ones that only stand for a frame
/// without a code, or for none (1005, 1006, 1015), and those of frameworks and programs (§7.4.2).
pub(crate) fn may_be_sent(code: u16) -> bool {
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
