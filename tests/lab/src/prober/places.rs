//! Addresses and ports that the prober uses.

use std::net::SocketAddrV4;

use crate::topology::{SERVICES, crowd};

/// Local ports: the one that is asked from, one that nobody opens, and one that is poked before it
/// is opened.
pub(crate) const ASKING_PORT: u16 = 4000;
pub(crate) const CLOSED_PORT: u16 = 4001;
pub(crate) const POKED_PORT: u16 = 4002;
/// The first of the local ports whose mappings show how ports are chosen.
pub(super) const SOCKETS_FROM: u16 = 4100;
/// Ports of the reflector: one that is asked, others of the first address that are asked as well, and one that is not. A NAT that
/// gives ports of a small block to several destinations gives two of them the same one now and then, and all of them hardly ever.
const ASKED_PORT: u16 = 7000;
const ASKED_TOO_PORTS: [u16; 4] = [7001, 7003, 7004, 7005];
const UNASKED_PORT: u16 = 7002;

/// Where the mapping is asked for: one address and port, another address, and other ports of the first one.
pub(crate) fn asked() -> [SocketAddrV4; 6] {
    let [one, two, _] = SERVICES;
    let [a, b, c, d] = ASKED_TOO_PORTS.map(|port| SocketAddrV4::new(one, port));
    [SocketAddrV4::new(one, ASKED_PORT), SocketAddrV4::new(two, ASKED_PORT), a, b, c, d]
}

/// Another port of the first that is asked; it is not asked itself.
pub(crate) fn other_port() -> SocketAddrV4 {
    SocketAddrV4::new(SERVICES[0], UNASKED_PORT)
}

/// An address that is never asked.
pub(crate) fn other_address() -> SocketAddrV4 {
    SocketAddrV4::new(SERVICES[2], ASKED_PORT)
}

/// Many addresses, whose answers show how ports are chosen.
pub(super) fn destinations() -> Vec<SocketAddrV4> {
    crowd().map(|ip| SocketAddrV4::new(ip, ASKED_PORT)).collect()
}

/// Everywhere the reflector answers.
pub(super) fn reflected() -> Vec<SocketAddrV4> {
    let mut all = asked().to_vec();
    all.extend([other_port(), other_address()]);
    all.extend(destinations());
    all
}
