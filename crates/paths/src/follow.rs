//! The accepting side follows its peer to another address.
//!
//! QUIC does by itself, once a packet of the peer's comes from there (RFC 9000 §9.3), and says nothing of
//! it. The traversal machine sees the peer's checks come from there at about the same time, or none come
//! any more and the peer turns to the relay, or the relay is gone: that is when QUIC is asked.

use std::time::{Duration, Instant};

/// QUIC is asked so soon after the traversal machine has another route, which doubles: the packet that
/// shows QUIC the address leaves when the peer has had an answer to its check from there ...
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// ... and this often: 2.5 s in all. By then the two routes differ because NATs make them so.
const LOOKS_MAX: u32 = 8;

/// What is known of the routes: the direct one, and the relay where it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known<R> {
    pub(crate) direct: Option<R>,
    pub(crate) relay: Option<R>,
    /// The path in use is that of a relay which is not connected.
    pub(crate) is_cut: bool,
}

impl<R: Copy> Known<R> {
    /// The route that the peer most likely sends by.
    pub(crate) fn wanted(&self) -> Option<R> {
        self.relay.or(self.direct)
    }
}

/// When QUIC is to be asked where the peer is.
#[derive(Debug)]
pub(crate) struct Follow<R> {
    /// What was known when QUIC was asked last.
    known: Known<R>,
    looks: u32,
    look_at: Option<Instant>,
}

impl<R> Default for Follow<R> {
    fn default() -> Self {
        let known = Known { direct: None, relay: None, is_cut: false };
        Self { known, looks: 0, look_at: None }
    }
}

impl<R: Copy + PartialEq> Follow<R> {
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Nothing is to be asked.
    pub(crate) fn rest(&mut self) {
        self.look_at = None;
    }

    /// Plans the next look, where one is due. `differs` tells whether QUIC has another route.
    pub(crate) fn plan(&mut self, known: Known<R>, differs: bool, now: Instant) {
        if self.known != known {
            (self.known, self.looks, self.look_at) = (known, 0, None);
        }
        if !differs {
            self.look_at = None;
        } else if self.look_at.is_none_or(|at| at <= now) {
            let wait = LOOK_FIRST * (1 << self.looks);
            self.look_at = (self.looks < LOOKS_MAX).then(|| now + wait);
            self.looks = (self.looks + 1).min(LOOKS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Known<u16> {
        Known { direct: Some(port), relay: None, is_cut: false }
    }

    #[test]
    fn quic_is_asked_for_a_while_whenever_the_route_has_changed() {
        let (start, mut follow) = (crate::epoch(), Follow::default());
        follow.plan(route(1), false, start);
        assert_eq!(follow.look_at(), None);
        for port in [2, 3] {
            let (mut now, mut looks) = (start, 0);
            follow.plan(route(port), true, now);
            while let Some(at) = follow.look_at() {
                follow.plan(route(port), true, now);
                assert_eq!(follow.look_at(), Some(at), "not before it is time");
                (now, looks) = (at, looks + 1);
                follow.plan(route(port), true, now);
            }
            assert_eq!((looks, now - start), (LOOKS_MAX, LOOK_FIRST * 255));
        }
        follow.plan(route(4), true, start);
        follow.plan(route(4), false, start);
        assert_eq!(follow.look_at(), None, "QUIC has followed");
    }
}
