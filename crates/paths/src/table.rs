//! The paths of a link, whatever state they are in.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::doors::{Listed, PathId, Route};

/// What has become of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for the peer.
    Opening {
        /// Since when.
        since: Instant,
    },
    /// It carries packets.
    Open,
    /// It has been given up, and QUIC has not forgotten it yet.
    Closed,
}

#[derive(Debug)]
struct Entry<R> {
    route: R,
    stage: Stage,
}

/// The paths of a link.
#[derive(Debug)]
pub(crate) struct Table<R> {
    paths: BTreeMap<PathId, Entry<R>>,
}

impl<R: Route> Table<R> {
    /// With the path by which the connection was made.
    pub(crate) fn new(first: R) -> Self {
        let first = Entry { route: first, stage: Stage::Open };
        Self { paths: BTreeMap::from([(PathId::FIRST, first)]) }
    }

    /// The paths that carry packets, the oldest first.
    pub(crate) fn open(&self) -> impl DoubleEndedIterator<Item = (PathId, R)> {
        let is_open = |entry: &&Entry<R>| entry.stage == Stage::Open;
        let open = self.paths.iter().map(|(path, entry)| (*path, entry));
        open.filter(move |(_, entry)| is_open(entry)).map(|(path, entry)| (path, entry.route))
    }

    /// The route of a path that carries packets.
    pub(crate) fn route(&self, path: PathId) -> Option<R> {
        self.paths.get(&path).filter(|entry| entry.stage == Stage::Open).map(|entry| entry.route)
    }

    /// The only path that carries packets, where there is just one.
    pub(crate) fn only(&self) -> Option<(PathId, R)> {
        let mut open = self.open();
        open.next().filter(|_| open.next().is_none())
    }

    /// The path by this route that waits for the peer, and since when.
    pub(crate) fn opening(&self, route: R) -> Option<(PathId, Instant)> {
        self.paths.iter().find_map(|(path, entry)| match entry.stage {
            Stage::Opening { since } if entry.route == route => Some((*path, since)),
            Stage::Opening { .. } | Stage::Open | Stage::Closed => None,
        })
    }

    /// Whether a path by this route carries packets, or waits for the peer.
    pub(crate) fn has(&self, route: R) -> bool {
        self.paths.values().any(|entry| entry.route == route && entry.stage != Stage::Closed)
    }

    /// QUIC has been asked to open a path.
    pub(crate) fn opened(&mut self, path: PathId, route: R, now: Instant) {
        self.paths.insert(path, Entry { route, stage: Stage::Opening { since: now } });
    }

    /// A path has been validated. Its route, unless it has been given up meanwhile: the one by which it was opened,
    /// or `found`.
    pub(crate) fn established(&mut self, path: PathId, found: Option<R>) -> Option<R> {
        let (route, stage) = match self.paths.get(&path) {
            Some(entry) => (Some(entry.route), entry.stage),
            None => (found, Stage::Open),
        };
        let route = match stage {
            Stage::Opening { .. } => route,
            Stage::Open => found.or(route),
            Stage::Closed => return None,
        }?;
        self.paths.insert(path, Entry { route, stage: Stage::Open });
        Some(route)
    }

    /// The packets of a path go another way from now on.
    pub(crate) fn moved(&mut self, path: PathId, to: R) {
        if let Some(entry) = self.paths.get_mut(&path) {
            entry.route = to;
        }
    }

    /// A path is given up. Whether it was in use, or was to be.
    pub(crate) fn close(&mut self, path: PathId) -> bool {
        let Some(entry) = self.paths.get_mut(&path) else { return false };
        std::mem::replace(&mut entry.stage, Stage::Closed) != Stage::Closed
    }

    /// QUIC has forgotten a path. Whether it was in use, or was to be.
    pub(crate) fn forget(&mut self, path: PathId) -> bool {
        self.paths.remove(&path).is_some_and(|entry| entry.stage != Stage::Closed)
    }

    /// These are all paths that QUIC has. The number of paths that were in use, or were to be, and have gone.
    pub(crate) fn listed(&mut self, listed: &[Listed<R>]) -> usize {
        let mut lost = 0;
        self.paths.retain(|path, entry| {
            let is_there = listed.iter().any(|listed| listed.path == *path);
            lost += usize::from(!is_there && entry.stage != Stage::Closed);
            is_there
        });
        for Listed { path, is_validated, is_abandoned, route } in listed.iter().copied() {
            if is_abandoned {
                lost += usize::from(self.close(path));
                // What was told of it before comes only now, where so much is told, and opens it no more.
                if let Some(route) = route {
                    self.paths.entry(path).or_insert(Entry { route, stage: Stage::Closed });
                }
            } else if is_validated && route.is_some() && self.route(path).is_none() {
                self.established(path, route);
            }
        }
        lost
    }

    pub(crate) fn check_invariants(&self, is_controlling: bool) {
        let opening = self.paths.values().filter(|entry| entry.stage != Stage::Closed);
        let opening = opening.filter(|entry| entry.stage != Stage::Open);
        assert!(is_controlling || opening.clone().count() == 0, "the accepting side opens a path");
        for entry in opening {
            let same = self.paths.values().filter(|other| other.route == entry.route);
            let same = same.filter(|other| other.stage != Stage::Closed).count();
            assert_eq!(same, 1, "a path is opened by {:?}, and there is one", entry.route);
        }
    }
}
