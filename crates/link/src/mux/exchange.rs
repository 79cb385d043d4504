//! Routes that have exchanged their addresses.
//!
//! QUIC opens a path only with connection ids that the peer has given out for it, and those come just
//! behind the handshake. When the only path is cut at that moment, the link has a way that it cannot
//! open. Then the path stays what it is to QUIC, and its packets go the other way: the two routes
//! exchange the addresses that stand for them. To the side that accepts, its peer has moved (RFC 9000 §9).

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::label::{Route, fixed_route};

/// Addresses that stand for another route than their own. Beyond that, links wait for their path.
const EXCHANGED_MAX: usize = 512;
/// Routes that exchange their addresses with each other, one after the other. A link has few; a peer that makes
/// it go one detour after the other gets no more.
const CYCLE_MAX: usize = 8;

/// Which address stands for the route of which other, both ways: a permutation, of which only what it changes
/// is kept. It stays so: a link may use either route for as long as it lives, and the next one finds both under
/// the addresses that they have. Before a session begins, those are given back that no other one needs.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    address_of: HashMap<SocketAddr, SocketAddr>,
    own_of: HashMap<SocketAddr, SocketAddr>,
    /// The own addresses of relays whose session is over.
    over: BTreeSet<SocketAddr>,
}

impl Exchanged {
    /// The address by which QUIC knows the route whose own one is `own`.
    pub(super) fn address(&self, own: SocketAddr) -> SocketAddr {
        self.address_of.get(&own).copied().unwrap_or(own)
    }

    /// The own address of the route that QUIC knows by `address`.
    pub(super) fn own(&self, address: SocketAddr) -> SocketAddr {
        self.own_of.get(&address).copied().unwrap_or(address)
    }

    /// Exchanges the addresses of two routes, given by their own ones. `false` when there are too many.
    pub(super) fn exchange(&mut self, routes: [SocketAddr; 2]) -> bool {
        let [first, second] = routes.map(|own| self.cycle(own));
        let is_long = !first.contains(&routes[1]) && first.len() + second.len() > CYCLE_MAX;
        if is_long || self.address_of.len() + routes.len() > EXCHANGED_MAX {
            return false;
        }
        let [first, second] = routes.map(|own| self.address(own));
        for (own, address) in [(routes[0], second), (routes[1], first)] {
            if own == address {
                self.address_of.remove(&own);
                self.own_of.remove(&own);
            } else {
                self.address_of.insert(own, address);
                self.own_of.insert(address, own);
            }
        }
        true
    }

    /// The session of this relay is over.
    pub(super) fn end(&mut self, own: SocketAddr) {
        if self.address_of.contains_key(&own) {
            self.over.insert(own);
        }
    }

    /// Lets the addresses stand for their own routes again that neither a session nor, as `is_used` knows,
    /// any path needs: those that the relay of a session which is over has exchanged with others.
    pub(super) fn tidy(&mut self, is_used: impl Fn(SocketAddr) -> bool) {
        let over = std::mem::take(&mut self.over);
        for relay in &over {
            let cycle = self.cycle(*relay);
            let is_needed = |own: &SocketAddr| {
                let is_relay = matches!(fixed_route(*own), Some(Route::Relay(_) | Route::Turn(_)));
                is_used(*own) || is_relay && !over.contains(own)
            };
            if cycle.iter().any(is_needed) {
                self.over.insert(*relay);
                continue;
            }
            for own in &cycle {
                self.address_of.remove(own);
                self.own_of.remove(own);
            }
        }
    }

    /// The routes that have exchanged their addresses with each other, and this is one of: their own addresses,
    /// and so the addresses of all of them.
    fn cycle(&self, own: SocketAddr) -> Vec<SocketAddr> {
        let mut cycle = vec![own];
        let mut next = self.address(own);
        while next != own {
            cycle.push(next);
            next = self.address(next);
        }
        cycle
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::Labels;
    use super::*;
    use holepunch_wire::session::SessionId;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn relay(session: u64) -> SocketAddr {
        Labels::default().of(Route::Relay(SessionId(session)))
    }

    fn addresses(exchanged: &Exchanged) -> [u16; 3] {
        let addresses = [1, 2, 3].map(|port| exchanged.address(at(port)));
        for (own, address) in (1..=3).zip(addresses) {
            assert_eq!(exchanged.own(address), at(own), "each way is the other one backward");
        }
        addresses.map(|address| address.port())
    }

    #[test]
    fn every_address_stands_for_one_route_however_often_they_are_exchanged() {
        let mut exchanged = Exchanged::default();
        assert_eq!(addresses(&exchanged), [1, 2, 3]);
        assert!(exchanged.exchange([at(1), at(2)]));
        assert_eq!(addresses(&exchanged), [2, 1, 3]);
        assert!(exchanged.exchange([at(1), at(3)]));
        assert_eq!(addresses(&exchanged), [3, 1, 2]);
        assert!(exchanged.exchange([at(3), at(2)]));
        assert_eq!(addresses(&exchanged), [3, 2, 1]);
        assert!(exchanged.exchange([at(3), at(1)]));
        assert!(exchanged.address_of.is_empty() && exchanged.own_of.is_empty());
    }

    #[test]
    fn there_are_only_so_many_as_long_as_their_sessions_live() {
        let mut exchanged = Exchanged::default();
        let pair = |number: u16| [at(number), relay(number.into())];
        let done = (1..).take_while(|it| exchanged.exchange(pair(*it))).count();
        assert_eq!((done, exchanged.own_of.len()), (EXCHANGED_MAX / 2, EXCHANGED_MAX));
        exchanged.end(relay(7));
        exchanged.tidy(|address| address == at(7));
        assert!(!exchanged.exchange(pair(1000)), "a path uses it");
        exchanged.tidy(|_| false);
        assert!(exchanged.exchange(pair(1000)));
        assert_eq!((exchanged.address(at(7)), exchanged.address(at(8))), (at(7), relay(8)));
        assert!(!exchanged.exchange(pair(1001)));
    }

    #[test]
    fn one_peer_does_not_fill_the_table() {
        let mut exchanged = Exchanged::default();
        for session in 1..=2 * EXCHANGED_MAX as u64 {
            let done = (1..=30).filter(|port| exchanged.exchange([at(*port), relay(session)]));
            assert_eq!(done.count(), CYCLE_MAX - 1, "{session}");
            for (own, address) in &exchanged.address_of {
                assert_eq!(exchanged.own(*address), *own);
            }
            exchanged.end(relay(session));
            exchanged.tidy(|_| false);
        }
        assert!(exchanged.address_of.is_empty() && exchanged.own_of.is_empty());
    }

    #[test]
    fn what_a_later_session_with_the_same_peer_needs_is_not_given_back() {
        let mut exchanged = Exchanged::default();
        assert!(exchanged.exchange([at(1), relay(1)]) && exchanged.exchange([at(1), relay(2)]));
        exchanged.end(relay(1));
        exchanged.tidy(|_| false);
        assert_eq!(exchanged.address(at(1)), relay(2), "the second session lives");
        exchanged.end(relay(2));
        exchanged.tidy(|_| false);
        assert!(exchanged.address_of.is_empty() && exchanged.over.is_empty());
    }
}
