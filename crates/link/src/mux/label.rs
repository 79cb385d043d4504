//! What stands for a route in QUIC, which knows routes by the peer's address alone.
//!
//! The peer's address itself stands for the route from the worker's own sockets to there. A route from
//! another socket, and a relay, has a label instead: an IPv6 address that is nobody's, because it is
//! from a unique local prefix (RFC 4193) and never leaves the process.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use holepunch_traversal::SocketId;
use holepunch_wire::session::SessionId;

/// The prefix of all labels; the fourth group tells what it labels.
const PREFIX: [u16; 3] = [0xfd68, 0x6f6c, 0x6570];
const RELAY: u16 = 1;
const TURN: u16 = 2;
const SOCKET: u16 = 3;
/// Labels of routes from further sockets; a session uses one or two at a time. The oldest are forgotten.
const SOCKET_LABELS_MAX: usize = 4096;

/// Where a packet goes, or comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    /// By a socket, to or from this address.
    Direct(SocketId, SocketAddr),
    /// By the relay of a session.
    Relay(SessionId),
    /// By the TURN server of a session.
    Turn(SessionId),
}

/// What stands for it in logs.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_, to) => to.fmt(f),
            Self::Relay(_) => f.write_str("relay"),
            Self::Turn(_) => f.write_str("TURN"),
        }
    }
}

fn label(kind: u16, number: u64) -> SocketAddr {
    let [a, b, c] = PREFIX;
    let part = |shift: u32| u16::try_from((number >> shift) & 0xffff).unwrap_or_default();
    let ip = Ipv6Addr::new(a, b, c, kind, part(48), part(32), part(16), part(0));
    SocketAddr::V6(SocketAddrV6::new(ip, 1, 0, 0))
}

/// What a label stands for; `None` for an ordinary address.
fn read(ip: Ipv6Addr) -> Option<(u16, u64)> {
    let [a, b, c, kind, numbers @ ..] = ip.segments();
    let number = numbers.iter().fold(0, |number, part| (number << 16) | u64::from(*part));
    ([a, b, c] == PREFIX).then_some((kind, number))
}

/// The labels of routes from further sockets, both ways.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    by_route: BTreeMap<(SocketId, SocketAddr), u64>,
    by_number: BTreeMap<u64, (SocketId, SocketAddr)>,
    next: u64,
}

impl Labels {
    /// The address that stands for `route`. QUIC's socket is an IPv6 one to it, so IPv4 addresses are
    /// mapped (RFC 4291 §2.5.5.2); they are so inside of the process alone.
    pub(crate) fn of(&mut self, route: Route) -> SocketAddr {
        match route {
            Route::Relay(session) => label(RELAY, session.0),
            Route::Turn(session) => label(TURN, session.0),
            Route::Direct(SocketId::MAIN | SocketId::MAIN_V6, to) => mapped(to),
            Route::Direct(socket, to) => label(SOCKET, self.number(socket, to)),
        }
    }

    fn number(&mut self, socket: SocketId, to: SocketAddr) -> u64 {
        if let Some(number) = self.by_route.get(&(socket, to)) {
            return *number;
        }
        if self.by_number.len() == SOCKET_LABELS_MAX
            && let Some((_, oldest)) = self.by_number.pop_first()
        {
            self.by_route.remove(&oldest);
        }
        self.next += 1;
        self.by_route.insert((socket, to), self.next);
        self.by_number.insert(self.next, (socket, to));
        self.next
    }

    /// The address that stands for the route from there, where one does already.
    pub(crate) fn find(&self, socket: SocketId, from: SocketAddr) -> Option<SocketAddr> {
        self.by_route.get(&(socket, from)).map(|number| label(SOCKET, *number))
    }

    /// The route that an address stands for; `None` for a label that has been forgotten.
    pub(crate) fn route(&self, address: SocketAddr) -> Option<Route> {
        if let Some(route) = fixed_route(address) {
            return Some(route);
        }
        let SocketAddr::V6(v6) = address else { return None };
        let (_, number) = read(*v6.ip())?;
        self.by_number.get(&number).map(|(socket, to)| Route::Direct(*socket, *to))
    }

    /// A socket is closed.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.by_route.retain(|(of, _), _| *of != socket);
        self.by_number.retain(|_, (of, _)| *of != socket);
    }
}

/// The route of an address that needs no table.
pub(crate) fn fixed_route(address: SocketAddr) -> Option<Route> {
    let SocketAddr::V6(v6) = address else { return Some(Route::Direct(SocketId::MAIN, address)) };
    match read(*v6.ip()) {
        Some((RELAY, number)) => Some(Route::Relay(SessionId(number))),
        Some((TURN, number)) => Some(Route::Turn(SessionId(number))),
        Some(_) => None,
        None => Some(match v6.ip().to_ipv4_mapped() {
            Some(v4) => Route::Direct(SocketId::MAIN, SocketAddr::from((v4, v6.port()))),
            None => Route::Direct(SocketId::MAIN_V6, address),
        }),
    }
}

/// An address as QUIC's IPv6 socket has it.
pub(super) fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        SocketAddr::V6(v6) => {
            SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_an_address_and_comes_back_from_it() {
        let mut labels = Labels::default();
        let v4: SocketAddr = "203.0.113.5:4000".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::5]:4000".parse().unwrap();
        let routes = [
            Route::Direct(SocketId::MAIN, v4),
            Route::Direct(SocketId::MAIN_V6, v6),
            Route::Direct(SocketId(7), v4),
            Route::Direct(SocketId(8), v4),
            Route::Relay(SessionId(u64::MAX)),
            Route::Turn(SessionId(u64::MAX)),
        ];
        let addresses = routes.map(|route| labels.of(route));
        for (route, address) in routes.iter().zip(addresses) {
            assert!(address.is_ipv6(), "{address}");
            assert_eq!(labels.route(address), Some(*route));
            assert_eq!(labels.of(*route), address, "a label stays the same");
        }
    }

    #[test]
    fn labels_of_a_closed_socket_and_the_oldest_of_many_are_forgotten() {
        let mut labels = Labels::default();
        let to = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let first = labels.of(Route::Direct(SocketId(2), to(1)));
        let other = labels.of(Route::Direct(SocketId(3), to(1)));
        labels.forget(SocketId(2));
        assert_eq!(labels.route(first), None);
        for port in 2..=u16::try_from(SOCKET_LABELS_MAX + 1).unwrap() {
            labels.of(Route::Direct(SocketId(4), to(port)));
        }
        assert_eq!(labels.route(other), None);
        assert_eq!(
            (labels.by_route.len(), labels.by_number.len()),
            (SOCKET_LABELS_MAX, SOCKET_LABELS_MAX)
        );
    }
}
