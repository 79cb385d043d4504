//! Whether the side that has made a code up is there, and has this one for its peer.

use std::time::{Duration, Instant};

/// A wrong code has shown itself by then: whoever still has the other side to itself has come with the right one.
const TAKEN_AFTER: Duration = Duration::from_secs(5);
/// Whoever makes a code up is there before anybody can type it: a side that is alone by then has another code, or one that is over.
const ALONE_AFTER: Duration = Duration::from_secs(5);

/// What has become clear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Clear {
    /// Somebody else has the other side.
    Taken,
    /// Nobody is there.
    Alone,
}

/// How it looks, once this side is registered.
#[derive(Debug, Default)]
pub(super) struct Looking {
    /// Since when somebody else has the other side, with a code, or nobody is there.
    since: Option<(Instant, Clear)>,
    /// Somebody was there, or it has been told that nobody is: it is told once, and never of a code that has brought a link.
    is_known: bool,
}

impl Clear {
    /// In words, and what is waited for nevertheless.
    pub(super) fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Taken => (
                "this code is taken: somebody else has come with it before, and it is good for one; ask for another one",
                "still waiting, in case that it comes free",
            ),
            Self::Alone => (
                "nobody is there with this code: it is mistyped, used up (it is good for one), or expired (after an hour); \
                 compare it with what the other side has printed, or ask for another one",
                "still waiting",
            ),
        }
    }
}

impl Looking {
    /// This side is registered, and alone as far as it knows.
    pub(super) fn begin(&mut self) {
        self.since = (!self.is_known).then(|| (Instant::now(), Clear::Alone));
    }

    /// Somebody else has come to the other side.
    pub(super) fn is_occupied(&mut self) {
        self.since = Some((Instant::now(), Clear::Taken));
    }

    /// A link is there.
    pub(super) fn linked(&mut self) {
        (self.since, self.is_known) = (None, true);
    }

    /// A peer is there, or nobody can know.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// When it is clear, if nothing happens until then.
    pub(super) fn is_clear_at(&self) -> Option<Instant> {
        self.since.as_ref().map(|(since, clear)| match clear {
            Clear::Taken => *since + TAKEN_AFTER,
            Clear::Alone => *since + ALONE_AFTER,
        })
    }

    /// It is clear.
    pub(super) fn clear(&mut self) -> Option<Clear> {
        let (_, clear) = self.since.take()?;
        self.is_known |= clear == Clear::Alone;
        Some(clear)
    }
}
