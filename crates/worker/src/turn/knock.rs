//! Finding out whether two TURN servers let packets through both ways, before QUIC sends any.
//!
//! A packet is lost while the other side has no channel yet, and QUIC would repeat its first one only
//! after a while. And an address that a peer names may be anybody's: it gets a few packets of one byte
//! until something has come back from there.

use std::time::{Duration, Instant};

/// "Do you hear me?" No packet of QUIC is as short.
pub(super) const KNOCK: &[u8] = &[1];
/// "I hear you."
pub(super) const ANSWER: &[u8] = &[2];
/// The pause after the first knock, which doubles.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
/// Knocks at one address: the last one is 6.3 s after the first.
const KNOCKS_MAX: u32 = 7;
/// Knocks of the peer that are answered: all that an honest one makes, some of them twice.
const ANSWERS_MAX: u32 = 16;

/// What is known of the way to one address of the peer.
#[derive(Debug)]
pub(super) struct Knocking {
    made: u32,
    pub(super) next_at: Option<Instant>,
    answers: u32,
    /// Whether something has come from the peer.
    pub(super) is_heard: bool,
}

impl Knocking {
    pub(super) fn begin(now: Instant) -> Self {
        Self { made: 0, next_at: Some(now), answers: 0, is_heard: false }
    }

    /// Whether to knock now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.next_at.is_none_or(|at| at > now) {
            return false;
        }
        let pause = AGAIN_FIRST * 2_u32.pow(self.made);
        self.made += 1;
        self.next_at = (self.made < KNOCKS_MAX).then(|| now + pause);
        true
    }

    /// Takes a datagram of the peer. Whether it is for QUIC, and whether it is to be answered.
    pub(super) fn handle(&mut self, datagram: &[u8]) -> (bool, bool) {
        self.is_heard = true;
        self.next_at = None;
        let is_answered = datagram == KNOCK && self.answers < ANSWERS_MAX;
        self.answers += u32::from(is_answered);
        (datagram.len() > KNOCK.len(), is_answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_where_nobody_answers_gets_seven_knocks_within_seven_seconds() {
        let start = Instant::now();
        let mut knocking = Knocking::begin(start);
        let mut made = Vec::new();
        while let Some(at) = knocking.next_at {
            assert!(knocking.is_due(at) && !knocking.is_due(at));
            made.push((at - start).as_millis());
        }
        assert_eq!(made, [0, 100, 300, 700, 1500, 3100, 6300]);
        assert!(!knocking.is_heard);
    }

    #[test]
    fn a_knock_is_answered_and_an_answer_is_not_and_the_rest_is_for_quic() {
        let mut knocking = Knocking::begin(Instant::now());
        assert_eq!(knocking.handle(KNOCK), (false, true));
        assert!(knocking.is_heard && knocking.next_at.is_none());
        assert_eq!(knocking.handle(ANSWER), (false, false));
        assert_eq!(knocking.handle(&[1, 2]), (true, false));
        let answered = (0..100).filter(|_| knocking.handle(KNOCK).1).count();
        assert_eq!(answered, 15, "one was answered before");
    }
}
