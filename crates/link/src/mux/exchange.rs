//! Routes that have exchanged their addresses.
//!
//! QUIC opens a path only with connection ids that the peer has given out for it, and those come just
//! behind the handshake. When the only path is cut at that moment, the link has a way that it cannot
//! open. Then the path stays what it is to QUIC, and its packets go the other way: the two routes
//! exchange the addresses that stand for them. To the side that accepts, its peer has moved (RFC 9000 §9).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Addresses that stand for another route than their own. Beyond that, links wait for their path.
const EXCHANGED_MAX: usize = 512;

/// Which address stands for the route of which other, both ways. It stays so: a link may use either
/// route for as long as it lives, and the next one finds both under the addresses that they have. Only
/// when there is no room for others are those given back whose session is over, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    address_of: HashMap<SocketAddr, SocketAddr>,
    own_of: HashMap<SocketAddr, SocketAddr>,
    /// The own addresses of routes that nobody uses any more.
    unused: VecDeque<SocketAddr>,
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
        while self.address_of.len() + 2 > EXCHANGED_MAX {
            let Some(unused) = self.unused.pop_front() else { return false };
            self.give_back(unused);
        }
        self.swap(routes);
        true
    }

    /// The route with this own address is used no more.
    pub(super) fn forget(&mut self, own: SocketAddr) {
        self.unused.retain(|other| *other != own && self.address_of.contains_key(other));
        if self.address_of.contains_key(&own) {
            self.unused.push_back(own);
        }
    }

    /// Lets an address stand for its own route again.
    fn give_back(&mut self, own: SocketAddr) {
        self.swap([own, self.own(own)]);
    }

    fn swap(&mut self, routes: [SocketAddr; 2]) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
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
    }

    #[test]
    fn there_are_only_so_many() {
        let mut exchanged = Exchanged::default();
        let pairs = (1..u16::MAX / 2).map(|number| [at(2 * number), at(2 * number + 1)]);
        let done = pairs.take_while(|pair| exchanged.exchange(*pair)).count();
        assert_eq!((done, exchanged.own_of.len()), (EXCHANGED_MAX / 2, EXCHANGED_MAX));
    }

    #[test]
    fn those_of_sessions_that_are_over_make_room() {
        let mut exchanged = Exchanged::default();
        for relay in (3..u16::MAX).map(at).take(4 * EXCHANGED_MAX) {
            // The same peer's address, session after session, and another one's.
            assert!(exchanged.exchange([at(1), relay]));
            assert!(exchanged.exchange([at(2), relay]));
            exchanged.forget(relay);
        }
        assert!(exchanged.address_of.len() <= EXCHANGED_MAX);
        assert!(exchanged.unused.len() <= EXCHANGED_MAX);
        for (own, address) in &exchanged.address_of {
            assert_eq!(exchanged.own(*address), *own);
        }
        assert_eq!(exchanged.own_of.len(), exchanged.address_of.len());
    }
}
