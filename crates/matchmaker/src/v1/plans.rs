//! Plans that follow the first one, and what becomes of them.

use std::time::Instant;

use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::session::{AddressProof, LinkState, SessionId};
use holepunch_wire::signal::v1::{LinkReport, ServerV1};

use crate::doors::{ConnectionId, Event, News};
use crate::machine::Matchmaker;
use crate::session::PLANS_MAX;

/// Why there is no direct path where a worker does not make the search that is planned.
const DECLINED: &str = "a search for ports would be needed, and one of the two makes none, or has made \
                        as many as it may";

impl Matchmaker {
    /// Makes a better plan from what is known by now. One that only looks a little different is not
    /// worth beginning anew, unless the current one has failed.
    pub(super) fn replan(&mut self, id: SessionId, failed: bool, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.is_direct() || session.number >= PLANS_MAX {
            return;
        }
        let entries = session.ends.each_ref().map(|end| self.connections.get(&end.connection));
        let [Some(first), Some(second)] = entries else { return };
        let mut sides = [first.side(now), second.side(now)];
        let before = &session.plans[0];
        let mut tried = session.tried.clone();
        if failed {
            tried.failed(&session.plans, session.has_searched());
        }
        let plain_failed = session.plain_failed || (failed && before.search.is_none());
        if plain_failed {
            // They went to IPv6 addresses and opened ports as well, in vain.
            for side in &mut sides {
                (side.profile.ipv6, side.port_mapped) = (None, false);
            }
        }
        let number = session.number + 1;
        let plans = self.planner.plan([&sides[0], &sides[1]], number, &tried, now);
        let is_same = plans[0].strategy == before.strategy && plans[0].search.is_none();
        if failed && is_same {
            // What needs no search was tried with every address there is: nothing else is left.
            return self.relay(id, "checks to every address of the peer were in vain");
        }
        let is_unmade = before.search.is_some() && !session.has_searched();
        if failed && plans[0].strategy == Strategy::Relay && is_unmade {
            return self.relay(id, "a search for ports is needed, and could not be made");
        }
        let is_search = |plan: &Plan| (plan.search.is_some(), plan.opener_ttl, plan.delay_ms > 0);
        let differs = plans[0].strategy != before.strategy
            || (plans[0].search.is_some()
                && plans.each_ref().map(is_search) != session.plans.each_ref().map(is_search));
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.plain_failed, session.tried) = (plain_failed, tried);
        }
        if failed || differs {
            self.send_plans(id, number, plans);
        }
    }

    /// Tells both that there will be no direct path, and why.
    pub(super) fn relay(&mut self, id: SessionId, reason: &str) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.number >= PLANS_MAX {
            return;
        }
        let number = session.number + 1;
        let plan = || Plan { number, ..Plan::new(Strategy::Relay, reason) };
        self.send_plans(id, number, [plan(), plan()]);
    }

    pub(super) fn send_plans(&mut self, id: SessionId, number: u32, plans: [Plan; 2]) {
        let Some(session) = self.sessions.get(&id) else { return };
        let to = session.ends.each_ref().map(|end| end.connection);
        for (connection, plan) in to.into_iter().zip(&plans) {
            let message = ServerV1::Plan { session: id, plan: plan.clone() };
            self.send_update(connection, (id, News::Plan), &message);
        }
        let Plan { strategy, reason, .. } = plans[0].clone();
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.number, session.plans) = (number, plans);
            session.is_declined &= strategy == Strategy::Relay;
        }
        self.events.push_back(Event::Replanned(id, strategy, reason));
    }

    pub(super) fn link_state(&mut self, id: ConnectionId, report: &LinkReport, now: Instant) {
        let Some(own) = self.end_of(id, report.session) else { return };
        let Some(session) = self.sessions.get_mut(&report.session) else { return };
        let worker = session.ends[own].worker.clone();
        let reason = report.reason.clone();
        self.events.push_back(Event::LinkState(report.session, worker, report.state, reason));
        let is_current = report.number == session.number;
        match report.state {
            LinkState::Direct => {
                session.ends[own].repairing = false;
                let was_direct = session.is_direct();
                session.ends[own].direct = true;
                if !was_direct && is_current {
                    self.record(report.session, true, now);
                }
            }
            LinkState::Failed if session.ends[own].direct => {
                self.end_session(report.session, Some(id), "the path is lost", now);
            }
            LinkState::Failed if is_current && !session.is_direct() => {
                self.record(report.session, false, now);
                self.replan(report.session, true, now);
            }
            LinkState::Declined if is_current && !session.is_direct() => {
                session.is_declined = true;
                self.relay(report.session, DECLINED);
            }
            // The worker may make the search by now.
            LinkState::Checking if is_current && session.is_declined => {
                self.replan(report.session, false, now);
            }
            LinkState::Relayed => session.ends[own].relayed = true,
            LinkState::Repairing => session.ends[own].repairing = true,
            LinkState::Failed | LinkState::Declined | LinkState::Checking => {}
        }
        self.wait_anew(report.session);
    }

    /// Remembers what has become of the current plan, for others of the same two networks: only where
    /// both workers are surely there, and a search that failed only where both have made it.
    fn record(&mut self, id: SessionId, worked: bool, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        let plans = &session.plans;
        if plans[0].strategy == Strategy::Relay || !(worked || session.has_searched()) {
            return;
        }
        let entries = session.ends.each_ref().map(|end| self.connections.get(&end.connection));
        if let [Some(first), Some(second)] = entries {
            let sides = [first.side(now), second.side(now)];
            if sides.iter().any(|side| side.proof == AddressProof::None) {
                return;
            }
            self.planner.record([&sides[0], &sides[1]], plans, worked, now);
        }
    }
}
