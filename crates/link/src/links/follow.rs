//! The accepting side follows its peer to another address.
//!
//! QUIC does by itself, once a packet of the peer's comes from there (RFC 9000 §9.3), and says nothing of
//! it. The traversal machine sees the peer's checks come from there at about the same time, or none come
//! any more and the peer turns to the relay: that is when QUIC is asked.

use std::time::Duration;

use tokio::time::Instant;

use super::View;
use super::paths::{Paths, is_direct};
use crate::mux::Route;

/// QUIC is asked so soon after the traversal machine has another route, which doubles: the packet that
/// shows QUIC the address leaves when the peer has had an answer to its check from there ...
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// ... and this often: 2.5 s in all. By then the two routes differ because NATs make them so.
const LOOKS_MAX: u32 = 8;

/// What is known of the routes: the direct one, and the relay where it is needed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Known {
    direct: Option<Route>,
    relay: Option<Route>,
}

/// When QUIC is to be asked where the peer is.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// What was known when QUIC was asked last.
    known: Known,
    looks: u32,
    look_at: Option<Instant>,
}

impl Follow {
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Plans the next look, where one is due. `differs` tells whether QUIC has another route.
    fn plan(&mut self, known: Known, differs: bool, now: Instant) {
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

impl Paths {
    /// Takes note of the peer's addresses as QUIC has them now.
    pub(super) fn follow_peer(&mut self, connection: &noq::Connection, view: &View) {
        if self.is_controlling {
            return; // A server does not move (RFC 9000 §9).
        }
        let mut has_moved = false;
        for (id, route) in self.open.iter_mut().filter(|(_, route)| is_direct(**route)) {
            let remote = connection.path(*id).and_then(|path| path.remote_address().ok());
            let now_at = remote.and_then(|remote| self.mux.route(remote));
            if let Some(now_at) = now_at.filter(|now_at| now_at != route) {
                *route = now_at;
                has_moved |= self.active == Some(*id);
            }
        }
        if has_moved {
            self.activated(connection, self.active, view);
        }
        let active = self.active.and_then(|id| self.open.get(&id)).copied();
        let known =
            Known { direct: view.direct, relay: view.relay().filter(|_| self.is_silent(view)) };
        let wanted = known.relay.or(known.direct);
        let differs = active.is_some_and(is_direct) && wanted.is_some() && active != wanted;
        self.follow.plan(known, differs, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_traversal::SocketId;

    fn route(port: u16) -> Known {
        let direct = Some(Route::Direct(SocketId::MAIN, ([192, 0, 2, 1], port).into()));
        Known { direct, relay: None }
    }

    #[test]
    fn quic_is_asked_for_a_while_whenever_the_route_has_changed() {
        let (start, mut follow) = (Instant::now(), Follow::default());
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
