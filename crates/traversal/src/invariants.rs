//! What holds of the whole machine, whatever has happened: looked at after every step of a test or a
//! simulation.

use std::collections::BTreeSet;

use holepunch_wire::candidate::CANDIDATES_MAX;
use holepunch_wire::session::SESSIONS_MAX;

use crate::doors::SocketId;
use crate::machine::Traversal;
use crate::v1::{Owner, SOCKETS_MAX};

impl Traversal {
    /// Looks at everything. Only with debug assertions.
    ///
    /// # Panics
    /// Two parts do not agree, something is larger than it may be, or what a part has to say has not been
    /// passed on.
    pub fn check_invariants(&self) {
        self.discovery.check_invariants();
        self.ipv6.check_invariants();
        assert!(self.sessions.len() <= SESSIONS_MAX, "{} sessions", self.sessions.len());
        let told = self.candidates_told.as_ref().map_or(0, Vec::len);
        assert!(told <= CANDIDATES_MAX, "{told} candidates are told");
        self.check_sockets();
        let mut searching = 0;
        for (id, session) in &self.sessions {
            assert_eq!(session.id, *id, "a session stands under another's number");
            let is_own = |socket: &SocketId, owner: &Owner| {
                *socket < SocketId::FRESH_FIRST || *owner == Owner::Session(*id)
            };
            let own: BTreeSet<SocketId> = [SocketId::MAIN, SocketId::MAIN_V6]
                .into_iter()
                .chain(
                    self.sockets.iter().filter(|(it, (by, _))| is_own(it, by)).map(|(it, _)| *it),
                )
                .collect();
            let is_coming =
                |(owner, open): &&(Owner, bool)| is_own(&SocketId::FRESH_FIRST, owner) && !open;
            let coming = self.sockets.values().filter(is_coming).count();
            session.check_invariants(&own, coming);
            searching += usize::from(session.search.is_some() && !session.is_linked());
        }
        assert!(searching <= 1, "{searching} searches at once");
    }

    fn check_sockets(&self) {
        let of_sessions = self.sockets.values().filter(|(owner, _)| *owner != Owner::Profiler);
        assert!(of_sessions.count() <= SOCKETS_MAX, "{} sockets", self.sockets.len());
        let profilers = self.profiler.check_invariants();
        for (socket, (owner, open)) in &self.sockets {
            assert!(*socket >= SocketId::FRESH_FIRST, "{socket:?} is not one that comes and goes");
            match owner {
                Owner::Profiler => {
                    let is_known = !open || profilers.contains(socket);
                    assert!(is_known, "{socket:?} is open for a profile that does not use it");
                }
                Owner::Session(id) => {
                    let is_known = !open || self.sessions.contains_key(id);
                    assert!(is_known, "{socket:?} is open for {id}, which is over");
                }
            }
        }
    }
}
