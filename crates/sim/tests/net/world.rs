//! A network, a clock, a server, and hosts that write down what they get.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_sim::net::{Datagram, Delivery, HostId, LossReason, Network, TTL_DEFAULT};
use holepunch_sim::presets::{NatKind, Site, SiteSpec, place, place_pair};

use crate::common::{at, ip, origin};

pub(crate) const SERVER: &str = "192.0.2.1:3478";
/// The local port of every host here.
pub(crate) const PORT: u16 = 5000;

pub(crate) struct World {
    pub(crate) net: Network,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) server: HostId,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut net = Network::new(1);
        let server = net.add_server(&[ip("192.0.2.1"), ip("192.0.2.2")]);
        let start = origin();
        Self { net, now: start, start, server }
    }

    pub(crate) fn pair(a: &str, b: &str) -> (Self, Site, Site) {
        let mut world = Self::new();
        let kind = |name: &str| SiteSpec::new(name.parse::<NatKind>().unwrap());
        let [a, b] = place_pair(&mut world.net, kind(a), kind(b));
        (world, a, b)
    }

    pub(crate) fn single(kind: &str) -> (Self, Site) {
        let mut world = Self::new();
        let site = place(&mut world.net, SiteSpec::new(kind.parse().unwrap()), 1);
        (world, site)
    }

    pub(crate) fn send(&mut self, from: &Site, to: SocketAddr) {
        self.send_with_ttl(from, to, TTL_DEFAULT);
    }

    pub(crate) fn send_with_ttl(&mut self, from: &Site, to: SocketAddr, ttl: u8) {
        let source: IpAddr = match from.ipv6 {
            Some(ipv6) if to.is_ipv6() => ipv6.into(),
            _ => from.ipv4.into(),
        };
        self.send_from(from.host, SocketAddr::new(source, PORT), to, ttl);
    }

    pub(crate) fn send_from(&mut self, host: HostId, from: SocketAddr, to: SocketAddr, ttl: u8) {
        self.net.send(host, Datagram { from, to, ttl, payload: b"probe".to_vec() }, self.now);
    }

    /// Moves on, packet by packet; all that is delivered meanwhile.
    pub(crate) fn run(&mut self, time: Duration) -> Vec<Delivery> {
        let end = self.now + time;
        let mut delivered = Vec::new();
        while let Some(due) = self.net.poll_timeout().filter(|due| *due <= end) {
            self.net.handle_timeout(due);
            delivered.extend(std::iter::from_fn(|| self.net.poll_delivery()));
        }
        self.now = end;
        delivered
    }

    /// What the server sees as the source of a host's packets.
    pub(crate) fn reflexive(&mut self, of: &Site) -> SocketAddr {
        self.send(of, at(SERVER));
        let seen = self.run(Duration::from_millis(100));
        let server = self.server;
        seen.into_iter().find(|delivery| delivery.host == server).unwrap().from
    }

    pub(crate) fn lost(&self, reason: LossReason) -> u64 {
        self.net.traffic().lost(reason)
    }
}

pub(crate) fn local(site: &Site) -> SocketAddr {
    SocketAddr::new(site.ipv4.into(), PORT)
}
