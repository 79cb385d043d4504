//! Which of several paths is the best one.

use crate::doors::{PathId, Route, Routes};
use crate::table::Table;

/// What a path is good for. The last one is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// By a relay that is not connected.
    Cut,
    /// Direct, where the direct route answers no checks or carries no data.
    Suspect,
    /// By a relay that is connected.
    Relay,
    /// Direct.
    Direct,
}

/// The rank of a path among those of its link: the fields come in the order of their weight, and the greatest one is the
/// path to send by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    class: Class,
    /// By the very route that checks have chosen, or by the best relay. The accepting side sends where its peer does, and leaves
    /// the choice of a direct route to that.
    is_wanted: bool,
    /// Of two alike, the newer one: the peer had a reason to open it.
    newest: PathId,
}

impl Rank {
    /// The greatest rank.
    pub(crate) fn best<R: Route>(
        table: &Table<R>,
        routes: &Routes<R>,
        is_controlling: bool,
        is_suspect: bool,
    ) -> Option<(PathId, R)> {
        let wanted = routes.direct.filter(|_| is_controlling);
        let rank = |path: PathId, route: R| {
            let class = match (route.is_direct(), routes.serves(route)) {
                (true, _) if is_suspect => Class::Suspect,
                (true, _) => Class::Direct,
                (false, true) => Class::Relay,
                (false, false) => Class::Cut,
            };
            let wanted = if route.is_direct() { wanted } else { routes.relay() };
            Self { class, is_wanted: wanted == Some(route), newest: path }
        };
        table.open().max_by_key(|(path, route)| rank(*path, *route))
    }
}
