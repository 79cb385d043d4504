//! When a path that could not be opened, or has gone, is opened again.

use std::time::{Duration, Instant};

/// The peer has not given out what a further path needs, just after the handshake: tried again so soon,
/// which doubles ...
const FIRST: Duration = Duration::from_millis(5);
/// ... up to this: a relay that comes back waits behind a direct route that cannot be opened.
const LONGEST: Duration = Duration::from_millis(500);

/// The next attempt of the side that opens paths. The other side waits, and has none.
#[derive(Debug)]
pub(crate) struct Again {
    is_opening: bool,
    at: Option<Instant>,
    after: Duration,
    /// QUIC could not open a path when it was last asked to.
    was_refused: bool,
    /// It has opened none since then.
    refused_since: Option<Instant>,
}

impl Again {
    pub(crate) fn new(is_opening: bool) -> Self {
        Self { is_opening, at: None, after: FIRST, was_refused: false, refused_since: None }
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether this side may open paths now; the attempt that was planned is this one.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_opening && self.at.is_none_or(|at| at <= now);
        self.at.take_if(|_| is_due);
        self.was_refused &= !is_due;
        is_due
    }

    /// QUIC cannot open a path: plans the next attempt.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.was_refused = true;
        self.refused_since.get_or_insert(now);
        self.plan(now);
    }

    /// QUIC has opened a path.
    pub(crate) fn opened(&mut self) {
        self.refused_since = None;
    }

    /// Since when QUIC cannot open a path; `None` where it could when it was last asked to.
    pub(crate) fn refused_since(&self) -> Option<Instant> {
        self.refused_since.filter(|_| self.was_refused)
    }

    /// A path is missing: plans the next attempt.
    pub(crate) fn plan(&mut self, now: Instant) {
        if self.is_opening {
            self.at = Some(now + self.after);
            self.after = (self.after * 2).min(LONGEST);
        }
    }

    /// A path works: the next one that is missing is tried soon.
    pub(crate) fn succeeded(&mut self) {
        self.after = FIRST;
        self.at = None;
        self.refused_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_further_and_further_apart_until_one_succeeds() {
        let (mut now, mut again) = (crate::epoch(), Again::new(true));
        assert!(again.is_due(now), "at first");
        let mut waits = Vec::new();
        for _ in 0..9 {
            again.plan(now);
            let at = again.at().unwrap();
            assert!(!again.is_due(now));
            waits.push(at - now);
            now = at;
            assert!(again.is_due(now));
            assert_eq!(again.at(), None, "an attempt is made once");
        }
        assert_eq!(waits[..3], [1, 2, 4].map(|times| FIRST * times));
        assert_eq!(waits[7..], [LONGEST; 2]);
        again.succeeded();
        again.refused(now);
        assert_eq!(again.refused_since(), Some(now));
        assert_eq!(again.at(), Some(now + FIRST));
        assert!(again.is_due(now + FIRST) && again.refused_since().is_none());
        again.refused(now + FIRST);
        assert_eq!(again.refused_since(), Some(now), "it has opened none meanwhile");
        again.opened();
        assert_eq!(again.refused_since(), None);
    }

    /// A moment that has passed would be waited for again and again.
    #[test]
    fn the_side_that_accepts_plans_nothing() {
        let (now, mut again) = (crate::epoch(), Again::new(false));
        again.plan(now);
        assert_eq!((again.is_due(now), again.at()), (false, None));
    }
}
