//! What holds of the whole machine, whatever has happened: looked at after every step of a test or a simulation, when the
//! questions of that step have been answered.

use crate::doors::Route;
use crate::machine::{Asked, Life, PATHS_MAX, Paths};
use crate::rank::Rank;

/// Actions of one step, and events.
const STEP_MAX: usize = 64;

impl<R: Route> Paths<R> {
    /// Looks at everything.
    ///
    /// # Panics
    /// Two parts do not agree, or something is larger than it may be.
    pub fn check_invariants(&self) {
        self.table.check_invariants(self.is_controlling);
        self.asked.check_invariants();
        assert!(self.actions.len() <= STEP_MAX, "{} actions are not done", self.actions.len());
        assert!(self.events.len() <= STEP_MAX, "{} events are not read", self.events.len());
        if !self.is_controlling {
            assert_eq!(self.again.at(), None, "the accepting side plans to open a path");
        }
        if self.is_over() {
            return;
        }
        self.standing.check_invariants(&self.routes);
        self.check_active();
        if let Life::Stranded { .. } = self.life {
            assert!(self.routes.relays.is_empty(), "stranded with a relay");
        }
        let open = self.table.open().count();
        assert!(open <= 2 * PATHS_MAX as usize, "{open} paths are open");
        let is_asking = self.asked.count.is_some() || self.asked.locate > 0;
        if let Some((at, why)) = self.poll_timeout().filter(|_| !is_asking) {
            assert!(at > self.now, "a moment has passed, and nothing was done: {why:?}");
        }
    }

    fn check_active(&self) {
        let is_suspect = self.standing.is_suspect(&self.routes);
        let best = Rank::best(&self.table, &self.routes, self.is_controlling, is_suspect);
        let Some(active) = &self.active else {
            assert_eq!(best, None, "there is a path, and none is used");
            return;
        };
        let used = Some((active.path, active.route));
        assert_eq!(best, used, "the path in use is not the best one, or goes another way");
        let is_watched = active.progress.is_some();
        assert_eq!(is_watched, active.route.is_direct(), "a direct path is watched, and no other");
        if self.is_controlling && active.route.is_direct() {
            let direct = self.table.open().filter(|(_, route)| route.is_direct()).count();
            assert_eq!(direct, 1, "direct paths that are not used stay");
        }
    }
}

impl<R: Route> Asked<R> {
    fn check_invariants(&self) {
        assert!(self.opens.len() <= 2, "{:?} are asked for at once", self.opens);
        let relays = self.opens.iter().filter(|route| !route.is_direct()).count();
        assert!(relays <= 1, "{:?} are asked for at once", self.opens);
    }
}
