//! What one session has tried in vain: each plan that follows is another one.

use holepunch_wire::plan::{Plan, Strategy};

use super::opener::{self, Distances};

/// A search that could not be made, since a worker was not ready in time perhaps, is planned so often.
const UNMADE_MAX: usize = 2;

/// What one session has tried in vain. There is no more of it than there are plans of a session.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// Whether a test for the reuse of ports has come to nothing.
    pub(super) is_untestable: bool,
    /// The strategies whose searches could not be made.
    unmade: Vec<Strategy>,
    /// What first packets that went so far have not led to a link with.
    openers: Vec<(Strategy, Distances)>,
}

impl Tried {
    /// These plans have failed; `has_searched`: their search has been made.
    pub(crate) fn failed(&mut self, plans: &[Plan; 2], has_searched: bool) {
        let [Plan { strategy, search, .. }, _] = plans;
        let distances = opener::distances_of(plans);
        if *strategy == Strategy::TestReuse {
            self.is_untestable = true;
        } else if search.is_some() && !has_searched {
            self.unmade.push(*strategy);
        } else if distances != [None; 2] {
            self.openers.push((*strategy, distances));
        }
    }

    /// Whether its search could not be made again and again.
    pub(super) fn is_unmade(&self, strategy: Strategy) -> bool {
        self.unmade.iter().filter(|it| **it == strategy).count() >= UNMADE_MAX
    }

    pub(super) fn has_opened(&self, strategy: Strategy, distances: Distances) -> bool {
        self.openers.contains(&(strategy, distances))
    }
}
