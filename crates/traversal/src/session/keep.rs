//! Keeping a path: keep-alive and consent, the suspicion that it is gone, and its repair.

use std::time::{Duration, Instant};

use super::paths::Route;
use super::{Phase, Session};
use crate::doors::{SessionEvent, SessionFailure, Turn};
use crate::schedule;
use holepunch_wire::session::LinkState;

/// An unanswered check is repeated once after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// A path on which checks have been unanswered for so long is suspect, or for two round trips.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// The same where data has gone unanswered already: the path is asked every so often, ...
const DOUBT_ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// ... and is suspect so soon, or after two round trips.
const DOUBT_SUSPECT_AFTER: Duration = Duration::from_millis(150);
/// No path is suspect before it has been asked so often: a machine that has slept in between finds the
/// answer to the first check behind its own timer.
const ASKED_MIN: u32 = 2;
/// While a path is suspect, all routes are tried again this often, by how long it has been gone: an outage that
/// somebody waits for is short, and one that lasts is none of a line. The first is what lets data move within a
/// second of the line's return, ...
const REPAIR_EVERY: [(Duration, Duration); 2] = [
    (Duration::from_secs(30), Duration::from_millis(300)),
    (Duration::from_secs(300), Duration::from_secs(1)),
];
/// ... and so seldom after that, while a relay serves.
const REPAIR_SELDOM: Duration = Duration::from_secs(10);
/// A controlled side that the peer checks need not check the path itself: so much later than its turn
/// it does, when the peer's next check has not come.
const PEER_CHECKS_GRACE: Duration = Duration::from_secs(2);
/// A peer that has answered nothing for so long has withdrawn its consent (RFC 7675 §5.1).
pub(crate) const CONSENT: Duration = Duration::from_secs(30);

/// What is known of the path in use.
#[derive(Debug)]
pub(crate) struct Keep {
    heard_at: Instant,
    ask_at: Instant,
    /// The first check since the last answer.
    asked_at: Option<Instant>,
    /// How many there have been since then.
    asked: u32,
    pub(super) suspect_since: Option<Instant>,
    /// Whether data has gone unanswered.
    doubted: bool,
}

impl Keep {
    pub(crate) fn new((now, rng): Turn<'_>) -> Self {
        let ask_at = now + schedule::keep_alive(rng);
        Self {
            heard_at: now,
            ask_at,
            asked_at: None,
            asked: 0,
            suspect_since: None,
            doubted: false,
        }
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect_since.is_some()
    }

    /// The path has answered a check that was sent at `sent_at`.
    pub(crate) fn answered(&mut self, sent_at: Instant, (now, rng): Turn<'_>) {
        if self.suspect_since.is_none_or(|since| sent_at >= since) || self.asked_at.is_some() {
            *self = Self::new((now, rng));
        }
    }

    /// A check of the peer's came. From elsewhere than the path in use, it may mean that the path is
    /// gone: it is asked at once. On the path in use it is as good as an answer, to a side
    /// that follows: it proves the session's password, and the answer to it keeps the mapping alive. So
    /// an idle path costs a check and an answer in each interval, and not two of each.
    pub(crate) fn peer_checks(&mut self, is_selected: bool, follows: bool, (now, rng): Turn<'_>) {
        if !is_selected {
            self.ask_now(now);
        } else if follows && self.asked_at.is_none() && !self.is_suspect() {
            *self = Self::new((now, rng));
            self.ask_at += PEER_CHECKS_GRACE;
        }
    }

    /// Data has gone unanswered on the path.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if !self.is_suspect() {
            self.doubted = true;
            self.ask_now(now);
        }
    }

    /// How long checks may stay unanswered, and after which time they are repeated.
    fn patience(&self, rtt: Duration) -> (Duration, Duration) {
        let (patience, again) = if self.doubted {
            (DOUBT_SUSPECT_AFTER, DOUBT_ASK_AGAIN_AFTER)
        } else {
            (SUSPECT_AFTER, ASK_AGAIN_AFTER)
        };
        (patience.max(rtt * 2), again.max(rtt))
    }

    /// Asks the path at once, unless it is being asked.
    pub(crate) fn ask_now(&mut self, now: Instant) {
        if self.asked_at.is_none() {
            self.ask_at = self.ask_at.min(now);
        }
    }

    pub(crate) fn poll_timeout(&self, relayed: bool) -> Instant {
        if relayed { self.ask_at } else { self.ask_at.min(self.heard_at + CONSENT) }
    }
}

/// The pause before a path that has been suspect for so long is tried again.
fn repair_after(suspect_for: Duration) -> Duration {
    let stage = REPAIR_EVERY.iter().find(|(until, _)| suspect_for <= *until);
    stage.map_or(REPAIR_SELDOM, |(_, every)| *every)
}

impl Session {
    /// Asks the path in use whether it answers, and draws the conclusions.
    pub(super) fn keep(&mut self, (now, rng): Turn<'_>) {
        let rtt = self.paths.selected().map(|path| path.rtt).unwrap_or_default();
        let has_relay = self.has_relay();
        let Phase::Linked(keep) = &mut self.phase else { return };
        if keep.heard_at + CONSENT <= now && !has_relay {
            self.remotes.stop();
            return self.fail(SessionFailure::Lost, now);
        }
        if keep.ask_at > now {
            return;
        }
        let asked_at = *keep.asked_at.get_or_insert(now);
        let (patience, again) = keep.patience(rtt);
        let unanswered_for = now.saturating_duration_since(asked_at);
        let becomes_suspect =
            keep.suspect_since.is_none() && unanswered_for >= patience && keep.asked >= ASKED_MIN;
        keep.asked = keep.asked.saturating_add(1);
        if becomes_suspect {
            keep.suspect_since = Some(now);
        }
        keep.ask_at = match keep.suspect_since {
            Some(since) => now + repair_after(now.saturating_duration_since(since)),
            // One that comes late has its time as well.
            None if unanswered_for >= patience => now + again,
            None => (now + again).min(asked_at + patience),
        };
        // At the very end of its patience it asks no more, but draws the conclusion.
        keep.ask_at = keep.ask_at.max(now + Duration::from_millis(1));
        let is_suspect = keep.is_suspect();
        if becomes_suspect {
            self.suspect(now);
        }
        if is_suspect {
            self.try_all_routes((now, rng));
        } else if let Some(route) = self.paths.selected().map(|path| path.route) {
            self.send_check(route, true, None, (now, rng));
        }
    }

    /// The path answers no more.
    fn suspect(&mut self, now: Instant) {
        self.alarm = true;
        if let Some(path) = self.paths.selected() {
            let remote = path.route.to;
            self.tell(SessionEvent::Suspect(remote));
        }
        self.remotes.restart(|_| false, now);
        self.report(LinkState::Repairing, "the path answers no more".to_owned(), now);
    }

    /// One check on every route that has ever answered, and to the peer's endpoint. Its other
    /// addresses had checks of their own when the path became suspect.
    fn try_all_routes(&mut self, (now, rng): Turn<'_>) {
        let mut routes: Vec<Route> = self.paths.iter().map(|path| path.route).collect();
        let endpoint =
            self.endpoint.and_then(|to| Some(Route { socket: self.socket_for(to)?, to }));
        routes.extend(endpoint.filter(|endpoint| !routes.contains(endpoint)));
        for route in routes {
            self.send_check(route, false, None, (now, rng));
        }
    }

    /// Everything that is known of the own network has changed: the path is tried at once.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        let has_relay = self.has_relay();
        match &mut self.phase {
            Phase::Linked(keep) => keep.ask_now(now),
            Phase::GaveUp { .. } if has_relay => {
                // The other network may let through what this one did not.
                self.remotes.restart(|_| false, now);
                (self.phase, self.planned) = (Phase::Checking, now);
            }
            Phase::GaveUp { .. } | Phase::Checking | Phase::Over => {}
        }
    }

    /// Data has gone unanswered on the path.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if let Phase::Linked(keep) = &mut self.phase {
            keep.doubt(now);
        }
    }

    /// Whether the path has become suspect since this was last asked: the public endpoint may have
    /// changed.
    pub(crate) fn take_alarm(&mut self) -> bool {
        std::mem::take(&mut self.alarm)
    }
}
