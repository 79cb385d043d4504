//! What holds of a session, whatever has happened.

use std::collections::BTreeSet;

use super::{LINGERING_MAX, PLANS_MAX, Phase, RESTARTS_MAX, Session};
use crate::doors::SocketId;

impl Session {
    /// Looks at everything. `own` are the sockets that it may use, `coming` the number of those that have
    /// been asked for and are not open yet.
    pub(crate) fn check_invariants(&self, own: &BTreeSet<SocketId>, coming: usize) {
        let id = self.id;
        let unsaid = (self.out.transmits.len(), &self.out.events, self.alarm);
        let is_drained = self.out.transmits.is_empty() && self.out.events.is_empty() && !self.alarm;
        assert!(is_drained, "{id} has not passed on {unsaid:?}");
        assert!(self.plans <= PLANS_MAX && self.restarts <= RESTARTS_MAX, "{id}: too many plans");
        assert!(self.heard_at.len() <= LINGERING_MAX, "{id} hears on too many sockets");
        self.check_peer_bounds();
        self.checks.check_invariants();
        let routes = self.paths.check_invariants().chain(self.remotes.check_invariants());
        for route in routes {
            assert!(own.contains(&route.socket), "{id} has {route:?} by another's socket");
        }
        match self.phase {
            Phase::Checking => {}
            Phase::Linked(_) => {
                assert!(self.paths.selected().is_some(), "{id} is linked by no path");
                assert!(self.linked_at.is_some(), "{id} was never linked");
            }
            Phase::GaveUp { .. } => assert!(self.search.is_none(), "{id} gave up, and searches"),
            Phase::Over => panic!("{id} is over, and still there"),
        }
        let Some(search) = &self.search else { return };
        assert!(search.is_by(self.plan.number), "{id} searches by an old plan");
        search.check_invariants(own, coming);
    }
}
