//! What the rendezvous' plans do to a session, and what the rendezvous and the driver are told.

use std::time::{Duration, Instant};

use holepunch_wire::plan::{Aim, Announce, Plan, Search, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::LinkState;
use holepunch_wire::signal::v1::{LinkReport, WorkerV1};

use super::{PLANS_MAX, Phase, RESTARTS_MAX, Session, be_patient};
use crate::doors::{Event, PathInfo, SearchRefusal, SessionEvent, SessionFailure, SessionStatus};

/// After a verdict or a failure, so long is waited for a better plan. Then the worker leaves, unless
/// the two talk through a relay: it has nothing of this peer.
pub(super) const LEAVE_AFTER_VERDICT: Duration = Duration::from_secs(5);
const LEAVE_AFTER_FAILURE: Duration = Duration::from_secs(10);

impl Session {
    /// Takes another plan.
    pub(crate) fn handle_plan(&mut self, plan: Plan, now: Instant) {
        let is_next = plan.number > self.plan.number && self.plans < PLANS_MAX;
        if self.is_linked() || self.is_over() || !is_next {
            return;
        }
        self.plans += 1;
        // What is announced is used once: another plan of such a search needs other sockets on both sides.
        let goes_on = |search: &Search| {
            search.aim != Aim::Announced
                && matches!(search.announce, Announce::Nothing | Announce::FreshPort)
        };
        let is_same_search = plan.search.as_ref().is_some_and(goes_on)
            && (plan.strategy, &plan.search) == (self.plan.strategy, &self.plan.search);
        self.plan = plan;
        be_patient(&mut self.plan);
        self.planned = now;
        if is_same_search {
            self.go_on_searching();
        } else {
            self.search = None;
        }
        self.tell(SessionEvent::Replanned(Box::new(self.plan.clone())));
        if self.plan.search.is_some() {
            // Every further destination may take a port that the search needs.
            let endpoint = self.endpoint;
            self.remotes.drop_untried(|to| Some(to) == endpoint);
        }
        if self.plan.strategy == Strategy::Relay {
            self.remotes.stop();
            self.verdict(now);
        } else if matches!(self.phase, Phase::GaveUp { .. }) {
            let endpoint = self.endpoint;
            if self.restarts < RESTARTS_MAX {
                self.restarts += 1;
                self.remotes.restart(|to| Some(to) == endpoint, now);
            }
            self.phase = Phase::Checking;
        }
        if self.plan.search.is_none() && self.plan.strategy != Strategy::Relay {
            self.add_candidates(now);
        }
    }

    pub(super) fn verdict(&mut self, now: Instant) {
        self.tell(SessionEvent::Verdict(self.plan.reason.clone()));
        self.report(LinkState::Relayed, self.plan.reason.clone(), now);
        self.phase = Phase::GaveUp { leave_at: now + LEAVE_AFTER_VERDICT };
    }

    /// Nothing more can be tried by this plan.
    pub(super) fn fail(&mut self, failure: SessionFailure, now: Instant) {
        // Also that of a path which is lost: its sockets are of no more use.
        self.search = None;
        self.tell(SessionEvent::Failed(failure));
        self.report(LinkState::Failed, failure.to_string(), now);
        self.phase = Phase::GaveUp { leave_at: now + LEAVE_AFTER_FAILURE };
    }

    /// The search of the plan is not made.
    pub(crate) fn search_refused(&mut self, refusal: SearchRefusal, now: Instant) {
        self.tell(SessionEvent::SearchRefused(refusal));
        self.report(LinkState::Declined, refusal.to_string(), now);
        self.refused = Some(refusal);
    }

    /// That nothing came of it, and why where somebody has said so.
    pub(crate) fn in_vain(&self) -> String {
        let what = EndReason::InVain;
        if self.plan.strategy == Strategy::Relay {
            format!("{what}: {}", self.plan.reason)
        } else {
            what.to_string()
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, code: EndReason, reason: &str) {
        if !self.is_over() {
            self.tell(SessionEvent::Ended(code, reason.to_owned()));
            self.phase = Phase::Over;
            self.search = None;
        }
    }

    /// How the session stands.
    pub(crate) fn status(&self, now: Instant) -> SessionStatus {
        let path = self.path_info(now).filter(|_| self.is_linked());
        let answered_at = self.paths.selected().map(|path| path.answered_at);
        SessionStatus {
            id: self.id,
            peer: self.peer.clone(),
            strategy: self.plan.strategy,
            path,
            answered_at: answered_at.filter(|_| path.is_some()),
            is_suspect: self.is_suspect(),
            probes: self.probes,
        }
    }

    pub(super) fn path_info(&self, now: Instant) -> Option<PathInfo> {
        let path = self.paths.selected()?;
        Some(PathInfo {
            socket: path.route.socket,
            remote: path.route.to,
            kind: path.kind,
            rtt: path.rtt,
            after: self.linked_at.unwrap_or(now).saturating_duration_since(self.started),
            probes: self.probes,
        })
    }

    pub(crate) fn tell(&mut self, event: SessionEvent) {
        self.out.events.push_back(Event::Session(self.id, self.peer.clone(), event));
    }

    pub(super) fn report(&mut self, state: LinkState, reason: String, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        let rtt = self.paths.selected().map(|path| path.rtt.as_millis());
        let report = LinkReport {
            session: self.id,
            state,
            strategy: self.plan.strategy,
            number: self.plan.number,
            reason,
            rtt_ms: rtt.map(|rtt| u32::try_from(rtt).unwrap_or(u32::MAX)),
            elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            probes: self.probes,
        };
        self.out.events.push_back(Event::Signal(WorkerV1::LinkState(report)));
    }
}
