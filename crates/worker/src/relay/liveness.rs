//! Whether a relay's connection still carries anything.
//!
//! TCP tells too late: after an outage of 20 s its next retransmission may be 13 s away (RFC 6298 §5.5), while a new
//! connection is there in some round trips. So a silence is asked about by a ping, soon where frames were
//! under way, and when that stays without an answer, others are opened beside it.

use std::time::Duration;

use tokio::time::Instant;

/// An idle relay is asked this often whether it is still there: nginx and many load balancers end a connection on which
/// nothing has passed for a minute. The worker asks, since it is the one to open another connection; the relay's own ping
/// is for workers that are gone.
const ASK_IDLE_AFTER: Duration = Duration::from_secs(27);
/// What servers between the two allow at least, twice: one ping may come late.
const _: () = assert!(2 * ASK_IDLE_AFTER.as_secs() < 60);
/// Frames were carried, and nothing has come for so long: a peer's QUIC acknowledges within 25 ms and a round trip.
const ASK_AFTER: Duration = Duration::from_millis(750);
/// The ping has no answer: other connections are tried. A healthy one may be this slow, where frames wait
/// before the ping; it is used until another one is there.
const DOUBT_AFTER: Duration = Duration::from_millis(750);
/// The connection is given up. An answer may take so long.
const GONE_AFTER: Duration = Duration::from_secs(5);
const _: () = assert!(DOUBT_AFTER.as_millis() < GONE_AFTER.as_millis(), "doubt comes first");

/// What there is to do about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// A ping is to be sent.
    Ask,
    /// Others are to be tried.
    Doubtful,
    /// It is to be closed.
    Gone,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Liveness {
    heard_at: Instant,
    /// Since when frames have been carried and no ping has been answered.
    carried_since: Option<Instant>,
    asked_at: Option<Instant>,
    pub(super) is_doubtful: bool,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard_at: now, carried_since: None, asked_at: None, is_doubtful: false }
    }

    /// A frame has been sent, or has come. Whether [`due`](Self::due) is earlier from now on.
    pub(super) fn carried(&mut self, now: Instant) -> bool {
        let is_first = self.carried_since.is_none();
        self.carried_since.get_or_insert(now);
        is_first
    }

    /// Anything has come from the relay.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The ping has been answered. Whether that ends a doubt. Nothing else does: after an outage frames may come
    /// while those to the relay still wait for TCP.
    pub(super) fn answered(&mut self) -> bool {
        if self.asked_at.take().is_some() {
            self.carried_since = None;
        }
        std::mem::take(&mut self.is_doubtful)
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        match (self.asked_at, self.carried_since) {
            (Some(asked_at), _) if self.is_doubtful => asked_at.max(self.heard_at) + GONE_AFTER,
            (Some(asked_at), _) => asked_at.max(self.heard_at) + DOUBT_AFTER,
            (None, Some(since)) => since.max(self.heard_at) + ASK_AFTER,
            (None, None) => self.heard_at + ASK_IDLE_AFTER,
        }
    }

    /// Looks; what there is to do.
    pub(super) fn look(&mut self, now: Instant) -> Option<Finding> {
        if now < self.due() {
            return None;
        }
        if self.asked_at.is_none() {
            self.asked_at = Some(now);
            return Some(Finding::Ask);
        }
        if !std::mem::replace(&mut self.is_doubtful, true) {
            return Some(Finding::Doubtful);
        }
        Some(Finding::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_asked_seldom_and_one_that_has_carried_frames_once_soon() {
        let (start, mut liveness) = (Instant::now(), Liveness::new(Instant::now()));
        assert!(liveness.due() >= start + ASK_IDLE_AFTER);
        assert!(liveness.due() < start + Duration::from_secs(30), "nginx waits for 60 s");
        let at = start + ASK_IDLE_AFTER / 2;
        assert!(liveness.carried(at) && !liveness.carried(at));
        assert_eq!(liveness.due(), at + ASK_AFTER);
        assert_eq!(liveness.look(at), None);
        assert_eq!(liveness.look(at + ASK_AFTER), Some(Finding::Ask));
        let answered = at + ASK_AFTER * 3 / 2;
        liveness.heard(answered);
        assert!(!liveness.answered(), "there was no doubt");
        assert_eq!(liveness.due(), answered + ASK_IDLE_AFTER, "the answer has said it");
    }

    #[test]
    fn while_frames_come_nothing_is_asked() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        for _ in 0..1000 {
            liveness.carried(now);
            now += ASK_AFTER / 2;
            liveness.heard(now);
            assert_eq!(liveness.look(now), None);
        }
    }

    #[test]
    fn a_ping_without_an_answer_is_doubtful_and_then_the_end() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.carried(start);
        let asked = start + ASK_AFTER;
        assert_eq!(liveness.look(asked), Some(Finding::Ask));
        assert_eq!(liveness.look(asked + DOUBT_AFTER), Some(Finding::Doubtful));
        assert_eq!(liveness.look(asked + GONE_AFTER), Some(Finding::Gone));
    }

    #[test]
    fn what_comes_before_the_answer_puts_doubt_off_and_does_not_end_it() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.carried(start);
        let asked = start + ASK_AFTER;
        liveness.look(asked);
        let heard = asked + DOUBT_AFTER / 2;
        liveness.heard(heard);
        assert_eq!(liveness.look(asked + DOUBT_AFTER), None, "the ping waits behind what comes");
        assert_eq!(liveness.look(heard + DOUBT_AFTER), Some(Finding::Doubtful));
        liveness.heard(heard + DOUBT_AFTER);
        assert!(liveness.is_doubtful, "frames to the relay may be stuck");
        assert!(liveness.answered() && !liveness.is_doubtful);
    }
}
