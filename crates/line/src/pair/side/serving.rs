//! The machine of the paths: what it is told, and what it wants done.

use std::time::{Duration, Instant};

use holepunch_link::quic_paths::{self, id};
use holepunch_paths::{
    Action, Answer, Event as PathsEvent, Input, Listed, PathId, Reason, Routes, WakeReason,
};
use noq_proto::{FourTuple, VarInt};

use super::Side;
use crate::pair::way::By;

impl Side {
    pub(super) fn routes(&self) -> Routes<By> {
        let (is_up, renewed) = self.relay;
        Routes {
            direct: self.checks.is_known().then_some(By::Direct),
            is_suspect: self.checks.is_suspect(is_up),
            relays: if is_up { vec![By::Relay] } else { Vec::new() },
            rebound: 0,
            renewed,
        }
    }

    pub(super) fn serve_paths(&mut self, now: Duration) -> bool {
        let at = self.epoch + now;
        let Some(paths) = &mut self.paths else { return false };
        let due = paths.poll_timeout().filter(|(due, _)| *due <= at);
        if let Some((_, why)) = due {
            paths.handle_timeout(at);
            self.drain(now, why == WakeReason::Nudge);
        }
        let routes = self.routes();
        let is_news = routes != self.told;
        if is_news {
            self.told = routes.clone();
            self.paths_input(Input::Routes(routes), now);
        }
        due.is_some() || is_news
    }

    pub(super) fn paths_input(&mut self, input: Input<By>, now: Duration) {
        if let Some(paths) = &mut self.paths {
            paths.handle_input(input, self.epoch + now);
            self.drain(now, false);
        }
    }

    pub(super) fn drain(&mut self, now: Duration, mut is_nudge: bool) {
        let at = self.epoch + now;
        let Some(mut paths) = self.paths.take() else { return };
        while let Some(action) = paths.poll_transmit() {
            is_nudge |= matches!(action, Action::Exchange(_));
            if is_nudge && self.without.nudges && matches!(action, Action::Ping(_)) {
                continue;
            }
            if let Some(input) = self.carry_out(action, at) {
                paths.handle_input(input, at);
            }
        }
        while let Some(event) = paths.poll_event() {
            if event == PathsEvent::Doubt {
                self.checks.doubt(at);
            }
            self.told_events.push(event);
        }
        paths.check_invariants();
        self.paths = Some(paths);
    }

    pub(super) fn located(&self, path: PathId) -> Option<By> {
        let (_, connection) = self.connection.as_ref()?;
        let path = connection.network_path(id(path)).ok()?;
        self.route(path.remote())
    }

    fn carry_out(&mut self, action: Action<By>, at: Instant) -> Option<Input<By>> {
        let answer = match action {
            Action::Locate(path) => Answer::Located(path, self.located(path)),
            Action::Exchange(_) => {
                self.is_exchanged ^= !self.without.detour;
                Answer::Exchanged(!self.without.detour)
            }
            Action::Unbatch(_) => {
                Answer::Unbatched(!std::mem::replace(&mut self.is_unbatched, true))
            }
            Action::Watch(route) => {
                self.watched = route;
                return None;
            }
            Action::List => Answer::Listed(self.listed()),
            Action::Open { route, status } => {
                let to = FourTuple::from_remote(self.address(route));
                let (_, connection) = self.connection.as_mut()?;
                let opened = connection.open_path(to, quic_paths::status(status), at).ok();
                Answer::Opened { route, path: opened.map(quic_paths::number) }
            }
            Action::Close(path) => {
                let (_, connection) = self.connection.as_mut()?;
                if connection.path_status(id(path)).is_err() {
                    return Some(Input::Discarded(path));
                }
                let _unless_closed = connection.close_path(at, id(path), VarInt::from_u32(0));
                return None;
            }
            Action::SetStatus(path, status) => {
                let (_, connection) = self.connection.as_mut()?;
                let _unless_closed =
                    connection.set_path_status(id(path), quic_paths::status(status));
                return None;
            }
            Action::Ping(path) => {
                let (_, connection) = self.connection.as_mut()?;
                let _unless_closed = connection.ping_path(id(path));
                return None;
            }
            Action::Count(path) => {
                let (_, connection) = self.connection.as_mut()?;
                let stats = connection.path_stats(id(path));
                Answer::Counted(path, stats.map(|stats| quic_paths::counts(&stats)))
            }
        };
        Some(Input::Answer(answer))
    }

    fn listed(&mut self) -> Vec<Listed<By>> {
        let paths = self.connection.as_ref().map(|(_, connection)| connection.paths());
        let listed = paths.into_iter().flatten().filter_map(|of| {
            let path = quic_paths::number(of);
            let route = self.located(path);
            let (_, connection) = self.connection.as_mut()?;
            let is_validated = quic_paths::is_validated(&connection.path_stats(of)?);
            Some(Listed {
                path,
                is_validated,
                is_abandoned: connection.is_path_abandoned(of),
                route,
            })
        });
        listed.collect()
    }

    /// The reasons for which another path was used, and how often the path in use was doubted, since this was asked last.
    pub(crate) fn take_reasons(&mut self) -> (Vec<Reason>, usize) {
        let (mut reasons, mut doubts) = (Vec::new(), 0);
        for event in std::mem::take(&mut self.told_events) {
            match event {
                PathsEvent::Active { reason, .. } => reasons.push(reason),
                PathsEvent::Doubt => doubts += 1,
                PathsEvent::Narrow(_) | PathsEvent::Relayed(_) | PathsEvent::Ended(_) => {}
            }
        }
        (reasons, doubts)
    }

    /// By which route this side sends, once the link is there.
    pub(crate) fn active(&self) -> Option<By> {
        self.paths.as_ref()?.active().map(|(_, by)| by)
    }
}
