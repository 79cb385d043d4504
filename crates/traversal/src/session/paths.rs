//! The paths of a session: pairs of a socket and a remote address that have answered a check.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::candidate::CandidateKind;

use crate::doors::SocketId;

/// Paths kept; a pair of workers has a handful.
const PATHS_MAX: usize = 16;
/// A path of the same kind must be faster by this share and this time before it is preferred: less is
/// noise, and each change costs the data a moment.
const FASTER_PERCENT: u32 = 80;
const FASTER_BY: Duration = Duration::from_millis(5);
/// Share of a new sample in the smoothed round-trip time (RFC 6298 §2).
const RTT_GAIN: u32 = 8;

/// From which socket to which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) socket: SocketId,
    pub(crate) to: SocketAddr,
}

/// A route that has answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) route: Route,
    pub(crate) kind: CandidateKind,
    pub(crate) rtt: Duration,
    pub(crate) answered_at: Instant,
    /// Where the peer sees this side, by its last answer.
    mapped: Option<SocketAddr>,
}

impl Path {
    /// Whether this one is worth leaving `current` for: a more direct kind that is not slower, or the
    /// same kind and clearly faster.
    fn is_better_than(&self, current: &Self) -> bool {
        let not_slower = self.rtt <= current.rtt + FASTER_BY;
        let faster = self.rtt + FASTER_BY < current.rtt * FASTER_PERCENT / 100;
        (self.kind < current.kind && not_slower) || faster
    }
}

/// The paths, and the one in use.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    paths: Vec<Path>,
    selected: Option<Route>,
}

impl Paths {
    /// Takes an answer. The path that it came on.
    pub(crate) fn answered(
        &mut self,
        route: Route,
        kind: CandidateKind,
        rtt: Duration,
        now: Instant,
    ) -> Path {
        if let Some(path) = self.paths.iter_mut().find(|path| path.route == route) {
            path.rtt = (path.rtt * (RTT_GAIN - 1) + rtt) / RTT_GAIN;
            path.answered_at = now;
            return *path;
        }
        if self.paths.len() == PATHS_MAX {
            let selected = self.selected;
            let oldest = (0..self.paths.len())
                .filter(|index| Some(self.paths[*index].route) != selected)
                .min_by_key(|index| self.paths[*index].answered_at);
            self.paths.swap_remove(oldest.unwrap_or(0));
        }
        let path = Path { route, kind, rtt, answered_at: now, mapped: None };
        self.paths.push(path);
        path
    }

    /// The peer sees this side at `mapped` on a path. Whether that was another address before.
    pub(crate) fn seen_at(&mut self, route: Route, mapped: SocketAddr) -> bool {
        let path = self.paths.iter_mut().find(|path| path.route == route);
        let before = path.and_then(|path| path.mapped.replace(mapped));
        before.is_some_and(|before| before != mapped)
    }

    pub(crate) fn find(&self, route: Route) -> Option<&Path> {
        self.paths.iter().find(|path| path.route == route)
    }

    pub(crate) fn selected(&self) -> Option<&Path> {
        self.selected.and_then(|route| self.find(route))
    }

    pub(crate) fn select(&mut self, route: Route) {
        self.selected = Some(route);
    }

    /// Whether `route`, which has just answered, is to be used instead of the selected one.
    pub(crate) fn prefers(&self, route: Route) -> bool {
        match (self.find(route), self.selected()) {
            (Some(path), Some(selected)) => path.is_better_than(selected),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// A socket is closed: its paths are gone.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.paths.retain(|path| path.route.socket != socket);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        Instant::now()
    }

    fn route(port: u16) -> Route {
        Route { socket: SocketId::MAIN, to: SocketAddr::from(([192, 0, 2, 1], port)) }
    }

    #[test]
    fn a_small_gain_does_not_change_the_path() {
        let (start, mut paths) = (now(), Paths::default());
        let ms = Duration::from_millis;
        paths.answered(route(1), CandidateKind::ServerReflexive, ms(100), start);
        assert!(paths.prefers(route(1)), "the first is better than none");
        paths.select(route(1));
        paths.answered(route(2), CandidateKind::ServerReflexive, ms(90), start);
        assert!(!paths.prefers(route(2)));
        paths.answered(route(3), CandidateKind::ServerReflexive, ms(60), start);
        assert!(paths.prefers(route(3)), "much faster");
        paths.answered(route(4), CandidateKind::Host, ms(100), start);
        assert!(paths.prefers(route(4)), "more direct and not slower");
        paths.answered(route(5), CandidateKind::Host, ms(300), start);
        assert!(!paths.prefers(route(5)), "more direct, but slower");
    }

    #[test]
    fn another_address_of_this_side_is_noticed_once_on_each_path() {
        let (start, mut paths) = (now(), Paths::default());
        let seen = |port: u16| SocketAddr::from(([198, 51, 100, 1], port));
        assert!(!paths.seen_at(route(1), seen(1)), "there is no such path");
        paths.answered(route(1), CandidateKind::Host, Duration::ZERO, start);
        assert!(!paths.seen_at(route(1), seen(1)), "the first is no other one");
        assert!(!paths.seen_at(route(1), seen(1)));
        assert!(paths.seen_at(route(1), seen(2)));
        assert!(!paths.seen_at(route(1), seen(2)));
        paths.answered(route(2), CandidateKind::Host, Duration::ZERO, start);
        assert!(!paths.seen_at(route(2), seen(3)), "toward another address it may be another");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_path_in_use() {
        let (start, mut paths) = (now(), Paths::default());
        for port in 1..100 {
            let at = start + Duration::from_millis(u64::from(port));
            paths.answered(route(port), CandidateKind::Host, Duration::ZERO, at);
            paths.select(route(1));
        }
        assert_eq!(paths.iter().count(), PATHS_MAX);
        assert!(paths.selected().is_some());
    }
}
