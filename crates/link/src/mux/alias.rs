//! From where else a route is answered.
//!
//! Between two NATs that map by destination, the peer's answers come from another address than this side
//! sends to. QUIC would drop them: to a client, a path has one remote address (RFC 9000 §9). So what comes
//! from there has the label of the route.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use holepunch_traversal::SocketId;
use holepunch_wire::session::SessionId;

/// Such addresses of a session; its checks know no more paths. The oldest are forgotten.
const SESSION_ALIASES_MAX: usize = 16;

/// A socket, and an address that packets come to it from.
type Source = (SocketId, SocketAddr);

#[derive(Debug)]
struct Alias {
    session: SessionId,
    label: SocketAddr,
    /// The order in which they were learnt.
    number: u64,
}

/// Addresses from which routes are answered.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    by_source: BTreeMap<Source, Alias>,
    next: u64,
}

impl Aliases {
    /// The route of this label is answered from `source` and no other address; `None`: from where it leads.
    pub(super) fn set(
        &mut self,
        session: SessionId,
        label: SocketAddr,
        socket: SocketId,
        source: Option<SocketAddr>,
    ) {
        self.by_source.retain(|_, alias| (alias.session, alias.label) != (session, label));
        let Some(source) = source else { return };
        let own = self.by_source.iter().filter(|(_, alias)| alias.session == session);
        let oldest = own.clone().min_by_key(|(_, alias)| alias.number).map(|(source, _)| *source);
        if own.count() >= SESSION_ALIASES_MAX
            && let Some(oldest) = oldest
        {
            self.by_source.remove(&oldest);
        }
        self.next += 1;
        self.by_source.insert((socket, source), Alias { session, label, number: self.next });
    }

    /// The label of the route that is answered from there.
    pub(super) fn find(&self, socket: SocketId, source: SocketAddr) -> Option<SocketAddr> {
        self.by_source.get(&(socket, source)).map(|alias| alias.label)
    }

    /// A session is over.
    pub(super) fn forget_session(&mut self, session: SessionId) {
        self.by_source.retain(|_, alias| alias.session != session);
    }

    /// A socket is closed.
    pub(super) fn forget_socket(&mut self, socket: SocketId) {
        self.by_source.retain(|(of, _), _| *of != socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(1);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_route_is_answered_from_one_address_at_a_time() {
        let mut aliases = Aliases::default();
        aliases.set(SESSION, at(1), SocketId::MAIN, Some(at(2)));
        assert_eq!(aliases.find(SocketId::MAIN, at(2)), Some(at(1)));
        assert_eq!(aliases.find(SocketId(7), at(2)), None, "another socket");
        aliases.set(SESSION, at(1), SocketId::MAIN, Some(at(3)));
        assert_eq!(aliases.find(SocketId::MAIN, at(2)), None);
        assert_eq!(aliases.find(SocketId::MAIN, at(3)), Some(at(1)));
        aliases.set(SESSION, at(1), SocketId::MAIN, None);
        assert_eq!(aliases.find(SocketId::MAIN, at(3)), None);
    }

    #[test]
    fn addresses_go_with_their_session_and_with_their_socket() {
        let mut aliases = Aliases::default();
        aliases.set(SESSION, at(1), SocketId::MAIN, Some(at(2)));
        aliases.set(SessionId(2), at(1), SocketId(7), Some(at(2)));
        aliases.forget_session(SESSION);
        assert_eq!(aliases.find(SocketId::MAIN, at(2)), None);
        assert_eq!(aliases.find(SocketId(7), at(2)), Some(at(1)));
        aliases.forget_socket(SocketId(7));
        assert!(aliases.by_source.is_empty());
    }

    #[test]
    fn a_session_has_so_many_and_takes_none_of_others() {
        let mut aliases = Aliases::default();
        aliases.set(SessionId(2), at(1), SocketId(7), Some(at(2)));
        for port in 1..100 {
            aliases.set(SESSION, at(port), SocketId::MAIN, Some(at(1000 + port)));
        }
        assert_eq!(aliases.by_source.len(), SESSION_ALIASES_MAX + 1);
        assert_eq!(aliases.find(SocketId::MAIN, at(1099)), Some(at(99)));
        assert_eq!(aliases.find(SocketId(7), at(2)), Some(at(1)));
    }
}
