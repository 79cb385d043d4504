//! What the traversal machine of a worker does for a link whose direct route is known: checks, and the suspicion that there is
//! none. The real one asks at the same moments (`traversal::session::keep`); it is not here because it needs a rendezvous.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

const MS: Duration = Duration::from_millis(1);
/// The checks of a punch, since its begin; then one every [`PUNCH_EVERY`].
const PUNCH: [u32; 5] = [0, 10, 30, 70, 150];
const PUNCH_EVERY: Duration = Duration::from_millis(100);
/// While nothing is wrong.
const KEEP_ALIVE_MS: std::ops::RangeInclusive<u64> = 9_000..=10_000;
/// How long checks may stay unanswered, and after which time they are repeated; the same where data goes unanswered.
const PATIENCE: [(Duration, Duration); 2] = [
    (Duration::from_millis(500), Duration::from_millis(250)),
    (Duration::from_millis(150), Duration::from_millis(50)),
];
/// No route is suspect before it has been asked so often.
const ASKED_MIN: u32 = 2;
/// A suspect route is asked so often.
const REPAIR_EVERY: Duration = Duration::from_millis(300);

/// The checks of one side.
#[derive(Debug)]
pub(crate) struct Checks {
    began: Instant,
    ask_at: Instant,
    asked_at: Option<Instant>,
    asked: u32,
    is_known: bool,
    is_suspect: bool,
    is_doubted: bool,
    rtt: Duration,
}

impl Checks {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            ask_at: now,
            asked_at: None,
            asked: 0,
            is_known: false,
            is_suspect: false,
            is_doubted: false,
            rtt: Duration::ZERO,
        }
    }

    /// Whether a check has been answered.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether the route answers no more; where none has been answered yet, unanswered data is all there is to know.
    pub(crate) fn is_suspect(&self, has_relay: bool) -> bool {
        self.is_suspect || !self.is_known && self.is_doubted && has_relay
    }

    pub(crate) fn wakes_at(&self) -> Instant {
        self.ask_at
    }

    /// Data goes unanswered.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if !self.is_suspect {
            self.is_doubted = true;
            if self.asked_at.is_none() {
                self.ask_at = self.ask_at.min(now);
            }
        }
    }

    /// A check that was sent at `sent_at` has been answered.
    pub(crate) fn answered(&mut self, sent_at: Instant, now: Instant, random: &mut StdRng) {
        let keep_alive = Duration::from_millis(random.random_range(KEEP_ALIVE_MS));
        let rtt = now.saturating_duration_since(sent_at);
        *self = Self { is_known: true, rtt, ask_at: now + keep_alive, ..Self::new(self.began) };
    }

    /// A check of the peer's has come. Whether it triggers one back.
    pub(crate) fn peer_checks(&self) -> bool {
        self.is_suspect || !self.is_known
    }

    /// Whether a check leaves now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if self.ask_at > now {
            return false;
        }
        self.asked += 1;
        if !self.is_known {
            let next = PUNCH.get(self.asked as usize).map(|ms| self.began + *ms * MS);
            self.ask_at = next.unwrap_or(now + PUNCH_EVERY).max(now + MS);
            return true;
        }
        let (patience, again) = PATIENCE[usize::from(self.is_doubted)];
        let (patience, again) = (patience.max(self.rtt * 2), again.max(self.rtt));
        let asked_at = *self.asked_at.get_or_insert(now);
        let unanswered_for = now - asked_at;
        self.is_suspect |= unanswered_for >= patience && self.asked > ASKED_MIN;
        self.ask_at = match (self.is_suspect, unanswered_for >= patience) {
            (true, _) => now + REPAIR_EVERY,
            (false, true) => now + again,
            (false, false) => (now + again).min(asked_at + patience),
        };
        self.ask_at = self.ask_at.max(now + MS);
        true
    }
}
