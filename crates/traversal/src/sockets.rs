//! Sockets that come and go: whose they are, and whether they are open.

use std::collections::BTreeMap;

use holepunch_wire::session::SessionId;

use crate::doors::{Event, SocketId};

/// Sockets that come and go, open at once.
const SOCKETS_MAX: usize = 256;

/// Who asked for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Profiler,
    Session(SessionId),
}

#[derive(Debug)]
pub(crate) struct Sockets {
    known: BTreeMap<SocketId, (Owner, bool)>,
    next: SocketId,
}

impl Sockets {
    pub(crate) fn new() -> Self {
        Self { known: BTreeMap::new(), next: SocketId::FRESH_FIRST }
    }

    /// Whether a search gets no further one: those of a search that has just ended count as well.
    pub(crate) fn are_enough(&self) -> bool {
        self.known.len() >= SOCKETS_MAX
    }

    /// What the driver is told for another one.
    pub(crate) fn open(&mut self, owner: Owner) -> Event {
        let socket = self.next;
        self.next = SocketId(socket.0.wrapping_add(1).max(SocketId::FRESH_FIRST.0));
        self.known.insert(socket, (owner, false));
        Event::OpenSocket(socket)
    }

    /// The driver has opened it. Whose it is.
    pub(crate) fn opened(&mut self, socket: SocketId) -> Option<Owner> {
        let (owner, is_open) = self.known.get_mut(&socket)?;
        *is_open = true;
        Some(*owner)
    }

    /// There is no such socket any more. Whose it was.
    pub(crate) fn remove(&mut self, socket: SocketId) -> Option<Owner> {
        self.known.remove(&socket).map(|(owner, _)| owner)
    }

    pub(crate) fn owner(&self, socket: SocketId) -> Option<Owner> {
        self.known.get(&socket).map(|(owner, _)| *owner)
    }

    /// All: which, whose, and whether it is open.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, Owner, bool)> + Clone {
        self.known.iter().map(|(socket, (owner, is_open))| (*socket, *owner, *is_open))
    }

    /// `is_used` tells whether who has asked for a socket that is open is still there, and uses it.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self, is_used: impl Fn(SocketId, Owner) -> bool) {
        let of_sessions = self.iter().filter(|(_, owner, _)| *owner != Owner::Profiler);
        assert!(of_sessions.count() <= SOCKETS_MAX, "{} sockets", self.known.len());
        for (socket, owner, is_open) in self.iter() {
            assert!(socket >= SocketId::FRESH_FIRST, "{socket:?} is not one that comes and goes");
            assert!(
                !is_open || is_used(socket, owner),
                "{socket:?} is open, and {owner:?} is over"
            );
        }
    }
}
