//! Plans that follow the first one, and what becomes of them.

use holepunch_wire::plan::{PLANS_MAX, Plan, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, LinkState, SessionId};
use holepunch_wire::signal::v1::{LinkReport, ServerV1};

use super::{Hall, Step};
use crate::doors::{DropReason, Event};
use crate::seat::Seat;

/// Why there is no direct path where a worker does not make the search that is planned.
const DECLINED: &str = "a search for ports would be needed, and one of the two makes none, or has made \
                        as many as it may";

impl Hall {
    /// Makes a better plan from what is known by now. One that only looks a little different is not
    /// worth beginning anew, unless the current one has failed.
    pub(super) fn replan(&mut self, id: SessionId, failed: bool, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let people = session.ends.each_ref().map(|end| self.people.get(&end.seat));
        let [Some(first), Some(second)] = people else { return };
        let mut sides = [first.side(step.now), second.side(step.now)];
        session.classes = sides.each_ref().map(|side| side.profile.class());
        if session.is_direct() || session.number >= PLANS_MAX {
            return;
        }
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
        let plans = step.shared.planner.plan([&sides[0], &sides[1]], number, &tried, step.now);
        let is_same = plans[0].strategy == before.strategy && plans[0].search.is_none();
        if failed && is_same {
            // What needs no search was tried with every address there is: nothing else is left.
            return self.relay(id, "checks to every address of the peer were in vain", step);
        }
        let is_unmade = before.search.is_some() && !session.has_searched();
        if failed && plans[0].strategy == Strategy::Relay && is_unmade {
            return self.relay(id, "a search for ports is needed, and could not be made", step);
        }
        let is_search = |plan: &Plan| (plan.search.is_some(), plan.opener_ttl, plan.delay_ms > 0);
        let differs = plans[0].strategy != before.strategy
            || (plans[0].search.is_some()
                && plans.each_ref().map(is_search) != session.plans.each_ref().map(is_search));
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.plain_failed, session.tried) = (plain_failed, tried);
        }
        if failed || differs {
            self.send_plans(id, number, plans, step);
        }
    }

    /// Tells both that there will be no direct path, and why.
    pub(super) fn relay(&mut self, id: SessionId, reason: &str, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.number >= PLANS_MAX {
            return;
        }
        let number = session.number + 1;
        let plan = || Plan { number, ..Plan::new(Strategy::Relay, reason) };
        self.send_plans(id, number, [plan(), plan()], step);
    }

    pub(super) fn send_plans(
        &mut self,
        id: SessionId,
        number: u32,
        plans: [Plan; 2],
        step: &mut Step<'_>,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        for (end, plan) in session.ends.iter().zip(&plans) {
            step.say(end.seat, ServerV1::Plan { session: id, plan: plan.clone() });
        }
        let Plan { strategy, reason, .. } = plans[0].clone();
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.number, session.plans) = (number, plans);
            session.is_declined &= strategy == Strategy::Relay;
            step.event_of(id, session.classes, Event::Replanned(strategy, reason));
        }
    }

    pub(super) fn link_state(&mut self, seat: Seat, report: &LinkReport, step: &mut Step<'_>) {
        let (Some(own), Some(session)) =
            (self.end_of(seat, report.session), self.sessions.get_mut(&report.session))
        else {
            return step.dropped(DropReason::NoSession);
        };
        let told = Event::LinkState(session.ends[own].worker.clone(), report.clone());
        step.event_of(report.session, session.classes, told);
        let is_current = report.number == session.number;
        match report.state {
            LinkState::Direct => {
                session.ends[own].repairing = false;
                let was_direct = session.is_direct();
                session.ends[own].direct = true;
                if !was_direct && is_current {
                    self.record(report.session, true, step);
                }
            }
            LinkState::Failed if session.ends[own].direct => {
                self.end_session(report.session, Some(seat), EndReason::PathLost, step);
            }
            LinkState::Failed if is_current && !session.is_direct() => {
                self.record(report.session, false, step);
                self.replan(report.session, true, step);
            }
            LinkState::Declined if is_current && !session.is_direct() => {
                session.is_declined = true;
                self.relay(report.session, DECLINED, step);
            }
            // The worker may make the search by now.
            LinkState::Checking if is_current && session.is_declined => {
                self.replan(report.session, false, step);
            }
            LinkState::Relayed => session.ends[own].relayed = true,
            LinkState::Repairing => session.ends[own].repairing = true,
            LinkState::Failed | LinkState::Declined | LinkState::Checking => {}
        }
        self.wait_anew(report.session);
    }

    /// Remembers what has become of the current plan, for others of the same two networks: only where
    /// both workers are surely there, and a search that failed only where both have made it.
    fn record(&mut self, id: SessionId, worked: bool, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let plans = &session.plans;
        if plans[0].strategy == Strategy::Relay || !(worked || session.has_searched()) {
            return;
        }
        let people = session.ends.each_ref().map(|end| self.people.get(&end.seat));
        if let [Some(first), Some(second)] = people {
            let sides = [first.side(step.now), second.side(step.now)];
            if sides.iter().any(|side| side.proof == AddressProof::None) {
                return;
            }
            step.shared.planner.record([&sides[0], &sides[1]], plans, worked, step.now);
        }
    }

    pub(super) fn accepted(
        &mut self,
        seat: Seat,
        id: SessionId,
        number: u32,
        ports: Vec<u16>,
        step: &mut Step<'_>,
    ) {
        let (Some(own), Some(session)) = (self.end_of(seat, id), self.sessions.get_mut(&id)) else {
            return step.dropped(DropReason::NoSession);
        };
        if session.number == number {
            session.accepted[own] = Some(number);
            let message = ServerV1::PeerAccepted { session: id, number, ports };
            self.say_to_peer(seat, id, message, step);
        } else {
            step.dropped(DropReason::OldPlan);
        }
    }
}
