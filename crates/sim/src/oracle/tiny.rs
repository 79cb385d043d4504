//! The tiny model: boxes with a handful of ports, given one after the other, that forget nothing.

use crate::nat::{Filtering, InboundFirst, Mapping, NatConfig};

/// Most ports of one box: one known to STUN, one that opens, one that receives and one that answers.
/// With one more, no verdict on two kinds of the catalogue is another.
pub(super) const PORTS: u8 = 4;

/// A port of a box, or a socket of a host: 1 to [`PORTS`].
pub(super) type Port = u8;

/// Somebody outside, as a box sees him.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remote {
    /// The STUN server.
    Server,
    /// A port of the peer.
    Peer(Port),
}

/// A set of remote endpoints: bit 0 for the server, bit n for the peer's port n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Remotes(u8);

impl Remotes {
    fn bit(remote: Remote) -> u8 {
        match remote {
            Remote::Server => 1,
            Remote::Peer(port) => 1 << port,
        }
    }

    fn contains(self, remote: Remote) -> bool {
        self.0 & Self::bit(remote) != 0
    }

    fn contains_address(self, remote: Remote) -> bool {
        let server = Self::bit(Remote::Server);
        match remote {
            Remote::Server => self.0 & server != 0,
            Remote::Peer(_) => self.0 & !server != 0,
        }
    }

    fn insert(&mut self, remote: Remote) {
        self.0 |= Self::bit(remote);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    Server,
    AllOfPeer,
    One(Remote),
}

/// A port that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    inside: Port,
    scope: Scope,
    sent_to: Remotes,
}

/// A NAT or a firewall.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TinyBox {
    translates: bool,
    mapping: Mapping,
    filtering: Filtering,
    remaps: bool,
    used: [Option<Used>; PORTS as usize],
    /// Whose unsolicited packets occupy something at each port.
    occupied: [Remotes; PORTS as usize],
}

impl TinyBox {
    pub(super) fn nat(config: &NatConfig) -> Self {
        Self {
            translates: true,
            mapping: config.mapping,
            filtering: config.filtering,
            remaps: config.inbound == InboundFirst::Remap,
            used: [None; PORTS as usize],
            occupied: [Remotes::default(); PORTS as usize],
        }
    }

    pub(super) fn firewall(filtering: Filtering) -> Self {
        Self {
            translates: false,
            mapping: Mapping::EndpointIndependent,
            filtering,
            remaps: false,
            used: [None; PORTS as usize],
            occupied: [Remotes::default(); PORTS as usize],
        }
    }

    pub(super) fn remaps(&self) -> bool {
        self.remaps
    }

    /// The port through which a packet goes out; `None` when all are used.
    pub(super) fn outward(&mut self, inside: Port, to: Remote) -> Option<Port> {
        let scope = match (self.mapping, to) {
            (Mapping::EndpointIndependent, _) => Scope::All,
            (Mapping::AddressDependent, Remote::Server) => Scope::Server,
            (Mapping::AddressDependent, Remote::Peer(_)) => Scope::AllOfPeer,
            (Mapping::AddressAndPortDependent, _) => Scope::One(to),
        };
        let old = self.find(inside, Scope::One(to)).or_else(|| self.find(inside, scope));
        let (port, scope) = match old {
            Some(port) => (port, scope),
            None => (self.unused(inside)?, scope),
        };
        let is_open = self.at(port).is_some_and(|used| used.sent_to.contains(to));
        let is_taken = self.occupied[index(port)].contains(to) && !is_open;
        let (port, scope) = match is_taken {
            false => (port, scope),
            true => (self.unused_but(port)?, Scope::One(to)),
        };
        let fresh = Used { inside, scope, sent_to: Remotes::default() };
        self.used[index(port)].get_or_insert(fresh).sent_to.insert(to);
        Some(port)
    }

    /// The inside port that gets a packet from outside; `None` when nobody does.
    pub(super) fn inward(&mut self, from: Remote, port: Port) -> Option<Port> {
        let admitted = self.at(port).filter(|used| match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => used.sent_to.contains_address(from),
            Filtering::AddressAndPortDependent => used.sent_to.contains(from),
        });
        if admitted.is_none() && self.remaps {
            self.occupied[index(port)].insert(from);
        }
        admitted.map(|used| used.inside)
    }

    fn at(&self, port: Port) -> Option<Used> {
        self.used[index(port)]
    }

    fn find(&self, inside: Port, scope: Scope) -> Option<Port> {
        (1..=PORTS).find(|port| {
            self.at(*port).is_some_and(|used| (used.inside, used.scope) == (inside, scope))
        })
    }

    fn unused(&self, inside: Port) -> Option<Port> {
        if !self.translates {
            return Some(inside);
        }
        (1..=PORTS).find(|port| self.at(*port).is_none())
    }

    fn unused_but(&self, not: Port) -> Option<Port> {
        (1..=PORTS).find(|port| self.at(*port).is_none() && *port != not)
    }
}

fn index(port: Port) -> usize {
    usize::from(port) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Remote = Remote::Peer(1);
    const OTHER_PORT: Remote = Remote::Peer(2);

    fn tiny(mapping: Mapping, filtering: Filtering) -> TinyBox {
        TinyBox::nat(&NatConfig::new(mapping, filtering))
    }

    #[test]
    fn mappings_depend_on_what_they_say() {
        for (mapping, expected) in [
            (Mapping::EndpointIndependent, [1, 1, 1]),
            (Mapping::AddressDependent, [1, 2, 2]),
            (Mapping::AddressAndPortDependent, [1, 2, 3]),
        ] {
            let mut tiny = tiny(mapping, Filtering::EndpointIndependent);
            let seen = [Remote::Server, PEER, OTHER_PORT].map(|to| tiny.outward(1, to));
            assert_eq!(seen, expected.map(Some), "{mapping:?}");
        }
    }

    #[test]
    fn filters_let_in_whom_they_say() {
        for (filtering, expected) in [
            (Filtering::EndpointIndependent, [true, true, true]),
            (Filtering::AddressDependent, [true, true, false]),
            (Filtering::AddressAndPortDependent, [true, false, false]),
        ] {
            let mut tiny = tiny(Mapping::EndpointIndependent, filtering);
            assert_eq!(tiny.outward(2, PEER), Some(1));
            let seen = [PEER, OTHER_PORT, Remote::Server].map(|from| tiny.inward(from, 1));
            assert_eq!(seen, expected.map(|gets_in| gets_in.then_some(2)), "{filtering:?}");
        }
    }

    #[test]
    fn an_unsolicited_packet_moves_the_flow_to_its_sender_and_no_other() {
        let config =
            NatConfig::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
        let mut tiny = TinyBox::nat(&NatConfig { inbound: InboundFirst::Remap, ..config });
        assert_eq!(tiny.outward(1, Remote::Server), Some(1));
        assert_eq!(tiny.inward(PEER, 1), None);
        assert_eq!(tiny.outward(1, PEER), Some(2));
        assert_eq!(tiny.outward(1, OTHER_PORT), Some(1));
        assert_eq!((tiny.inward(PEER, 2), tiny.inward(PEER, 1)), (Some(1), None));
        // A fresh socket's port is occupied before it has one.
        assert_eq!(tiny.inward(PEER, 3), None);
        assert_eq!(tiny.outward(2, PEER), Some(4));
    }

    #[test]
    fn a_firewall_leaves_ports_as_they_are() {
        let mut tiny = TinyBox::firewall(Filtering::AddressAndPortDependent);
        assert_eq!(tiny.outward(2, PEER), Some(2));
        assert_eq!((tiny.inward(PEER, 2), tiny.inward(PEER, 1)), (Some(2), None));
    }

    #[test]
    fn a_box_whose_ports_are_all_in_use_sends_nothing_more() {
        let mut tiny = tiny(Mapping::AddressAndPortDependent, Filtering::EndpointIndependent);
        for port in 1..=PORTS {
            assert_eq!(tiny.outward(1, Remote::Peer(port)), Some(port));
        }
        assert_eq!(tiny.outward(1, Remote::Server), None);
    }
}
