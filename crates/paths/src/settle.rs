//! Opens, closes and chooses paths as the routes are now.

use std::time::Instant;

use crate::doors::{Action, Counts, Event, PathId, Reason, Route, Routes, Status};
use crate::follow::Known;
use crate::machine::{Active, Paths};
use crate::progress::{Finding, Progress};
use crate::rank::Rank;

impl<R: Route> Paths<R> {
    /// Does all that is to be done now. Where nothing has changed, that is nothing.
    pub(crate) fn settle(&mut self, now: Instant) {
        if self.again.is_due(now) {
            self.open_missing(now);
        }
        self.detour(now);
        self.nudge(now);
        self.choose();
        self.close_unneeded();
        self.strand(now);
        let is_relayed = self.table.open().any(|(_, route)| !route.is_direct());
        if self.relayed.replace(is_relayed) != Some(is_relayed) {
            self.tell(Event::Relayed(is_relayed));
        }
    }

    /// Asks what is to be known for whatever has happened, or will.
    pub(crate) fn ask(&mut self, now: Instant) {
        let active = self.active.as_ref();
        let due = active.and_then(|active| active.progress.as_ref()?.look_at());
        let active = active.map(|active| active.path).filter(|_| due.is_some_and(|at| at <= now));
        if let Some(path) = active.filter(|_| self.asked.count.is_none()) {
            self.asked.count = Some(path);
            self.act(Action::Count(path));
        }
        // A server does not move (RFC 9000 §9).
        if self.is_controlling || self.asked.locate > 0 {
            return;
        }
        // The only path may go a detour, whatever its route is.
        let is_only = self.table.only().is_some();
        let moving = self.table.open().filter(|(_, route)| route.is_direct() || is_only);
        let moving: Vec<PathId> = moving.map(|(path, _)| path).collect();
        if moving.is_empty() {
            self.follow.rest();
        }
        self.asked.locate = moving.len();
        self.actions.extend(moving.into_iter().map(Action::Locate));
    }

    pub(crate) fn learn(&mut self, routes: Routes<R>, now: Instant) {
        if self.standing.learn(&routes) {
            // A check has been answered: what failed before says nothing any more.
            self.again.succeeded();
        }
        let before = std::mem::replace(&mut self.routes, routes);
        self.settle(now);
        // The accepting side learns another address of this one from a packet that comes from there (RFC 9000
        // §9.3), and an idle path has none.
        if before.rebound != self.routes.rebound {
            self.ping(|_, route| route.is_direct());
        }
        // What was under way by a relay's connection is lost with it. QUIC learns so from the answer to whatever
        // comes next, which is not to wait for its own timers, on either side.
        if before.renewed != self.routes.renewed {
            self.ping(|routes, route| routes.relays.contains(&route));
        }
    }

    fn ping(&mut self, is_wanted: impl Fn(&Routes<R>, R) -> bool) {
        let open = self.table.open().filter(|(_, route)| is_wanted(&self.routes, *route));
        let pings: Vec<_> = open.map(|(path, _)| Action::Ping(path)).collect();
        self.actions.extend(pings);
    }

    fn open_missing(&mut self, now: Instant) {
        let routes =
            [(self.routes.direct, Status::Available), (self.routes.relay(), Status::Backup)];
        for (route, status) in routes {
            let Some(route) = route else { continue };
            if self.table.has(route) || self.asked.opens.contains(&route) {
                continue;
            }
            if route.is_direct() && !self.standing.may_open(&self.routes, now) {
                continue;
            }
            self.asked.opens.push(route);
            self.act(Action::Open { route, status });
        }
    }

    /// Takes note of the peer's address on a path as QUIC has it now.
    pub(crate) fn located(&mut self, path: PathId, route: Option<R>, now: Instant) {
        self.asked.locate = self.asked.locate.saturating_sub(1);
        let was_at = self.table.route(path);
        if let Some(now_at) = route.filter(|route| was_at.is_some_and(|was_at| was_at != *route)) {
            self.table.moved(path, now_at);
            if self.active.as_ref().is_some_and(|active| active.path == path) {
                self.activate(path, now_at);
            }
        }
        let active = self.active().map(|(_, route)| route);
        let relay = self.routes.relay().filter(|_| self.standing.is_silent());
        let is_cut = active.is_some_and(|route| !self.routes.serves(route));
        let known = Known { direct: self.routes.direct, relay, is_cut };
        let wanted = known.wanted();
        let may_move = active.is_some_and(|it| it.is_direct() || self.table.only().is_some());
        let differs = may_move && wanted.is_some() && active != wanted;
        self.follow.plan(known, differs, now);
    }

    /// The path to send by.
    fn choose(&mut self) {
        let is_suspect = self.standing.is_suspect(&self.routes);
        let best = Rank::best(&self.table, &self.routes, self.is_controlling, is_suspect);
        if best.map(|(path, _)| path) == self.active.as_ref().map(|active| active.path) {
            return;
        }
        let Some((best, route)) = best else {
            self.active = None;
            self.follow.rest();
            self.act(Action::Watch(None));
            return self.tell(Event::Active { path: None, reason: Reason::NoneLeft });
        };
        let status = |path| if path == best { Status::Available } else { Status::Backup };
        let open = self.table.open().map(|(path, _)| Action::SetStatus(path, status(path)));
        let open: Vec<_> = open.collect();
        self.actions.extend(open);
        self.activate(best, route);
    }

    /// A path is used from now on, or goes another way: everyone is told.
    pub(crate) fn activate(&mut self, path: PathId, route: R) {
        let is_direct = route.is_direct();
        let before = self.active.as_ref().map(|active| (active.path, active.route.is_direct()));
        let reason = match (is_direct, before) {
            (_, None) => Reason::First,
            (true, Some((before, true))) if before == path => Reason::PeerMoved,
            (true, Some(_)) => Reason::DirectAnswers,
            (false, Some((_, false))) => Reason::OtherRelay,
            (false, Some(_)) if self.standing.is_silent() => Reason::DirectSilent,
            (false, Some(_)) if self.standing.is_suspect(&self.routes) => Reason::DirectNarrow,
            (false, Some(_)) => Reason::DirectGone,
        };
        self.again.succeeded();
        let progress = is_direct.then(Progress::default);
        self.active = Some(Active { path, route, progress });
        if !is_direct {
            self.follow.rest();
        }
        self.act(Action::Watch(is_direct.then_some(route)));
        self.tell(Event::Active { path: Some((path, route)), reason });
    }

    /// A direct path that answers no more is closed where a relay serves, so that what it has swallowed is
    /// sent again at once; so is that of a relay that is gone, where another way serves; and so is one that
    /// another has replaced.
    fn close_unneeded(&mut self) {
        let Some((active_path, active)) = self.active() else { return };
        // The accepting side may hear of the direct route's return later than the peer, and would close what that
        // has just opened. What a path has in flight goes again by the one in use all the same.
        let opens = self.is_controlling;
        let is_suspect = self.standing.is_suspect(&self.routes);
        let is_unneeded = |path: PathId, route: R| {
            let is_lost = opens && route.is_direct() && is_suspect && !active.is_direct();
            let is_replaced = opens && route.is_direct() && active.is_direct();
            let is_cut = !self.routes.serves(route) && self.routes.serves(active);
            path != active_path && (is_lost || is_replaced || is_cut)
        };
        let open = self.table.open().filter(|(path, route)| is_unneeded(*path, *route));
        for path in open.map(|(path, _)| path).collect::<Vec<_>>() {
            self.close(path);
        }
    }

    /// Closes a path that is not in use.
    pub(crate) fn close(&mut self, path: PathId) {
        self.table.close(path);
        self.act(Action::Close(path));
    }

    /// Looks whether data arrives.
    pub(crate) fn counted(&mut self, path: PathId, counts: Option<Counts>, now: Instant) {
        if self.asked.count.take() != Some(path) {
            return;
        }
        let Some(active) = self.active.as_mut().filter(|active| active.path == path) else {
            return;
        };
        let (route, Some(progress)) = (active.route, &mut active.progress) else { return };
        let Some(counts) = counts else { return progress.missing(now) };
        let had_black_hole = progress.has_black_hole(&counts);
        let found = progress.look(&counts, now);
        if progress.look_at().is_none() {
            self.act(Action::Watch(Some(route)));
        }
        if had_black_hole {
            let reason = Reason::BlackHole { payload_bytes: counts.payload_bytes };
            self.tell(Event::Active { path: Some((path, route)), reason });
        }
        match found {
            None => {}
            Some(Finding::Doubt) => {
                self.standing.doubted();
                self.tell(Event::Doubt);
            }
            Some(Finding::Unbatch) => {
                self.act(Action::Unbatch(route));
                self.act(Action::Ping(path));
            }
            Some(Finding::Narrow) => self.narrowed(route, now),
        }
    }

    /// The path in use carries no data: where there is another one, that is used.
    fn narrowed(&mut self, route: R, now: Instant) {
        if self.table.open().any(|(_, route)| !route.is_direct()) {
            self.standing.narrowed(route, now);
            self.tell(Event::Narrow(route));
        }
    }

    /// The packets of the path in use leave one by one.
    pub(crate) fn unbatched(&mut self, is_new: bool) {
        if let Some(active) = self.active().filter(|_| is_new) {
            self.tell(Event::Active { path: Some(active), reason: Reason::Unbatched });
        }
    }
}
