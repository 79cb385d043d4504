//! What the peer's checks and answers do to a session.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::check::{IceRole, ROLE_CONFLICT, encode_role_conflict, encode_success};
use holepunch_wire::session::LinkState;
use holepunch_wire::stun::TransactionId;

use super::keep::Keep;
use super::paths::{Answer, Route};
use super::{Phase, Session};
use crate::answers::{CHECKS, OBSERVATIONS};
use crate::doors::{SessionEvent, SocketId, Turn};

/// Between two triggered checks on one route: the peer's burst must not become ours.
const TRIGGER_EVERY: Duration = Duration::from_millis(8);
/// Role conflicts that the peer may claim, in a session: an honest one is settled by the first.
const CONFLICTS_MAX: u32 = 8;
/// Triggered checks on routes that have never answered, in a session.
const TRIGGERED_MAX: u32 = 64;

/// A nomination that is not answered is repeated so often, ...
const NOMINATED_TIMES_MAX: u32 = 5;
/// ... after this time at first, which doubles.
const NOMINATED_EVERY: Duration = Duration::from_millis(250);
/// A nomination counts for so long: more than the time between two keep-alives, which repeat it.
const NOMINATED_FOR: Duration = Duration::from_secs(12);
/// Routes whose nomination is remembered.
const NOMINATIONS_MAX: usize = 16;

/// A nomination on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nominating {
    pub(super) route: Route,
    sent: u32,
    pub(super) next_at: Instant,
}

/// Where an answer has come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) route: Route,
    /// Whether another peer's checks come from there.
    pub(crate) is_anothers: bool,
}

/// A verified request of the peer's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerCheck {
    pub(crate) transaction: TransactionId,
    pub(crate) role: IceRole,
    pub(crate) tie_breaker: u64,
    pub(crate) nominates: bool,
}

impl Session {
    /// Takes a verified check of the peer's.
    pub(crate) fn handle_request(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        check: PeerCheck,
        (now, rng): Turn<'_>,
    ) -> bool {
        let route = Route { socket, to: from };
        if !self.answers.take(CHECKS, now) {
            return false;
        }
        if check.role == self.role && !self.settle_roles(route, check) {
            return true;
        }
        self.hear(route, now);
        if self.heard == 1 && !self.is_linked() {
            self.tell(SessionEvent::Heard(socket, from));
        }
        let payload = encode_success(check.transaction, route.to, &self.local_key);
        self.out.transmits.push_back(route.packet(payload));
        if check.nominates && self.role == IceRole::Controlled {
            self.nominated_by_peer(route, (now, rng));
        }
        if self.remotes.kind(route).is_none() {
            if self.observations.take(OBSERVATIONS, now) {
                self.remotes.observed(route, now);
                self.trigger(route, (now, rng));
            }
        } else if self.paths.find(route).is_none() {
            self.trigger(route, (now, rng));
        }
        if let Phase::Linked(keep) = &mut self.phase {
            let is_selected = self.paths.selected_is(route);
            let follows = self.role == IceRole::Controlled;
            keep.peer_checks(is_selected, follows, (now, rng));
        }
        true
    }

    /// Both sides claim one role: the greater tie-breaker controls (RFC 8445 §7.3.1.1). `false` when
    /// the peer has to give way, and is told so.
    fn settle_roles(&mut self, route: Route, check: PeerCheck) -> bool {
        let keeps_role = match self.role {
            IceRole::Controlling => self.tie_breaker >= check.tie_breaker,
            IceRole::Controlled => self.tie_breaker < check.tie_breaker,
        };
        if keeps_role {
            let payload = encode_role_conflict(check.transaction, &self.local_key);
            self.out.transmits.push_back(route.packet(payload));
            return false;
        }
        self.switch_role();
        true
    }

    fn switch_role(&mut self) {
        self.role = match self.role {
            IceRole::Controlling => IceRole::Controlled,
            IceRole::Controlled => IceRole::Controlling,
        };
    }

    /// A triggered check (RFC 8445 §7.3.1.4): the peer's NAT is open for us now.
    fn trigger(&mut self, route: Route, (now, rng): Turn<'_>) {
        let recent = |at: Instant| now.saturating_duration_since(at) < TRIGGER_EVERY;
        let again = self.triggered.is_some_and(|(last, at)| last == route && recent(at));
        if again || self.triggers >= TRIGGERED_MAX || !self.remotes.may_trigger(route) {
            return;
        }
        self.triggers += 1;
        self.triggered = Some((route, now));
        self.send_check(route, false, None, (now, rng));
    }

    /// The controlling peer has nominated a route. Some agents nominate every route that works, again
    /// and again: a route counts when it is nominated for the first time, or when the one in use has
    /// not been for longer than a keep-alive.
    fn nominated_by_peer(&mut self, route: Route, (now, rng): Turn<'_>) {
        let selected = self.paths.selected().map(|path| path.route);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < NOMINATED_FOR;
        let is_first = !self.nominations.contains_key(&route);
        let is_kept = selected.and_then(|it| self.nominations.get(&it)).is_some_and(recent);
        self.nominations.retain(|_, at| recent(at));
        if self.nominations.len() < NOMINATIONS_MAX {
            self.nominations.insert(route, now);
        }
        if selected == Some(route) || (is_kept && !is_first) {
            return;
        }
        if self.paths.find(route).is_some() {
            self.select(route, (now, rng));
        } else {
            self.nominated = Some(route);
        }
    }

    /// Takes a verified answer, which names the address that the peer has seen the check come from, and
    /// where the answer came from.
    pub(crate) fn handle_success(
        &mut self,
        (transaction, mapped): (TransactionId, SocketAddr),
        came_by: Source,
        (now, rng): Turn<'_>,
    ) {
        let source = came_by.route;
        let sent = self.checks.find(transaction);
        let Some(check) = sent.filter(|check| check.route.socket == source.socket) else { return };
        self.checks.answered(transaction);
        if self.is_over() {
            return;
        }
        let route = check.route;
        if check.nominating {
            self.nominating.take_if(|nominating| nominating.route == route);
        }
        let kind = self.remotes.kind(route).or_else(|| self.remotes.kind_of(route.to));
        let kind = kind.unwrap_or(CandidateKind::Predicted);
        let rtt = now.saturating_duration_since(check.at);
        self.paths.answered(Answer { route, kind, rtt, source: source.to }, now);
        self.tell_source(route, came_by);
        let is_rebound = self.paths.seen_at(route, mapped);
        if is_rebound && self.paths.selected().is_some_and(|path| path.route == route) {
            self.tell(SessionEvent::Rebound(mapped));
        }
        match &mut self.phase {
            Phase::Linked(keep) => {
                let suspect_since = keep.suspect_since;
                let selected = self.paths.selected().map(|path| path.route);
                let saves = suspect_since.is_some_and(|since| check.at >= since);
                let nominated = self.nominated == Some(route);
                let preferred = self.role == IceRole::Controlling && self.paths.prefers(route);
                if selected == Some(route) {
                    keep.answered(check.at, (now, rng));
                    if suspect_since.is_some() && !keep.is_suspect() {
                        self.repaired(now);
                    }
                } else if saves || nominated || preferred {
                    self.select(route, (now, rng));
                }
            }
            Phase::Checking | Phase::GaveUp { .. } => self.linked(route, (now, rng)),
            Phase::Over => {}
        }
    }

    /// The first answer: there is a path.
    fn linked(&mut self, route: Route, (now, rng): Turn<'_>) {
        self.paths.select(route);
        self.linked_at.get_or_insert(now);
        self.phase = Phase::Linked(Keep::new((now, rng)));
        if let Some(search) = &mut self.search {
            search.stop(now);
        }
        if let Some(info) = self.path_info(now) {
            self.tell(SessionEvent::Linked(info));
        }
        self.report(LinkState::Direct, String::new(), now);
        self.nominate(route, (now, rng));
    }

    /// Uses another path from now on.
    fn select(&mut self, route: Route, (now, rng): Turn<'_>) {
        self.paths.select(route);
        if self.nominated == Some(route) {
            self.nominated = None;
        }
        let Phase::Linked(keep) = &mut self.phase else { return };
        let was_suspect = keep.is_suspect();
        *keep = Keep::new((now, rng));
        if was_suspect {
            self.repaired(now);
        } else if let Some(info) = self.path_info(now) {
            self.tell(SessionEvent::PathChanged(info));
        }
        self.nominate(route, (now, rng));
    }

    fn repaired(&mut self, now: Instant) {
        if let Some(info) = self.path_info(now) {
            self.tell(SessionEvent::Repaired(info));
        }
        self.remotes.stop();
        self.report(LinkState::Direct, String::new(), now);
    }

    /// The controlling side tells the path that it uses (RFC 8445 §8.1.1), until that is answered.
    fn nominate(&mut self, route: Route, (now, rng): Turn<'_>) {
        if self.role == IceRole::Controlling {
            self.nominating = Some(Nominating { route, sent: 0, next_at: now });
            self.repeat_nomination((now, rng));
        }
    }

    /// Sends the nomination again where it is time.
    pub(super) fn repeat_nomination(&mut self, (now, rng): Turn<'_>) {
        let Some(nominating) = &mut self.nominating else { return };
        if nominating.next_at > now {
            return;
        }
        if nominating.sent >= NOMINATED_TIMES_MAX {
            self.nominating = None;
            return;
        }
        nominating.next_at = now + NOMINATED_EVERY * (1 << nominating.sent);
        nominating.sent += 1;
        let route = nominating.route;
        self.send_check(route, true, None, (now, rng));
    }

    /// Takes a verified error, by the socket that the check has gone by: any other may say nothing of it, and that one may
    /// be closed. The peer keeps its role, so this side changes.
    pub(crate) fn handle_error(
        &mut self,
        (transaction, code): (TransactionId, u16),
        socket: SocketId,
        (now, rng): Turn<'_>,
    ) {
        let sent = self.checks.find(transaction);
        let Some(check) = sent.filter(|check| check.route.socket == socket) else { return };
        self.checks.answered(transaction);
        if code == ROLE_CONFLICT && self.conflicts < CONFLICTS_MAX {
            self.conflicts += 1;
            // Of several checks under way, the first refusal changes the role (RFC 8445 §7.2.5.1).
            if check.role == self.role {
                self.switch_role();
            }
            self.send_check(check.route, false, None, (now, rng));
        }
    }
    #[cfg(debug_assertions)]
    pub(super) fn check_peer_bounds(&self) {
        let id = self.id;
        assert!(self.nominations.len() <= NOMINATIONS_MAX, "{id}: too many nominations");
        assert!(self.triggers <= TRIGGERED_MAX, "{id}: too many triggered checks");
        assert!(self.conflicts <= CONFLICTS_MAX, "{id}: too many conflicts");
        let nominated = self.nominating.map_or(0, |nominating| nominating.sent);
        assert!(nominated <= NOMINATED_TIMES_MAX, "{id}: too many nominations of one route");
    }
}
