//! Paths that are answered from another address than is sent to.
//!
//! Between two NATs that map by destination and let everybody in, a packet to the peer's endpoint `X` is
//! answered from `Y`, the peer's mapping toward where it came from. Sending to `Y` would only make further
//! mappings, on either side, for ever. So each side goes on sending to where it is answered, and what comes
//! from `Y` belongs to the path to `X`. The peer keeps `X` open by STUN, this side its own mapping by its
//! checks, and the peer's answers keep `Y` open.

use super::Session;
use super::paths::Route;
use super::peer::Source;
use crate::doors::SessionEvent;

impl Session {
    /// Says from where answers on `route` come, where that is another address and nobody else is there.
    pub(super) fn tell_source(&mut self, route: Route, source: Source) {
        let Source { route: source, is_anothers } = source;
        if source == route {
            self.yield_source(source);
        }
        let is_own = source != route && !is_anothers && !self.paths.is_symmetric(source);
        self.set_source(route, is_own.then_some(source));
    }

    /// Somebody is at `source` after all: what comes from there belongs to no path to elsewhere.
    pub(crate) fn yield_source(&mut self, source: Route) {
        let routes: Vec<Route> = self.paths.told(source).collect();
        for route in routes {
            self.set_source(route, None);
        }
    }

    fn set_source(&mut self, route: Route, source: Option<Route>) {
        let source = source.map(|source| source.to);
        if self.paths.tell(route, source) {
            self.tell(SessionEvent::AnswersFrom(route.socket, route.to, source));
        }
    }

    /// Whether checks come from there, or are answered there.
    pub(crate) fn knows(&self, source: Route) -> bool {
        self.remotes.kind(source).is_some()
            || self.paths.find(source).is_some()
            || self.paths.selected_is(source)
    }
}
