//! The NAT profile: what a handful of STUN exchanges shows of the NATs on the way.
//!
//! The order of the tests matters, since each leaves traces in the NAT:
//!
//! 1. Mapping: the own socket asks a server at its other port and at its other address. Behind a
//!    NAT with dependent mapping, each answer is a sample of the port allocation as well.
//! 2. Filtering (RFC 5780 §4.4), from a fresh socket: the own one has opened the NAT for the server's
//!    other addresses by now.
//! 3. Where the answer from the other address was not let in: the same fresh socket asks there. A
//!    NAT on which the refused packet has left an entry moves this mapping to another port.
//! 4. Hairpin: the fresh socket sends to the own socket's external endpoint.
//! 5. Where step 3 has shown such a NAT: how far away the outermost one is ([`opener`]).
//!
//! A NAT with dependent mapping gives away three ports to step 1 and one to step 2, and none to the
//! others, which are left out there: blocks are small, and shared with all that a host does.

pub(crate) mod classify;
mod conclude;
mod exchange;
mod lifetime;
mod opener;
mod reuse;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::{Filtering, Mapping, NatProfile, SearchWish, UdpState};
use holepunch_wire::stun::TransactionId;
use rand::RngExt;

use crate::discovery::Answered;
use crate::doors::{SocketId, Transmit, Turn};
use classify::Sample;
use exchange::{Exchange, Purpose};
use lifetime::Lifetime;
use opener::Openers;
use reuse::{REUSE_DESTINATIONS_MAX, Reuse};

/// A profile is not begun anew more often: a hard NAT gives ports away each time.
const ANEW_EVERY: Duration = Duration::from_secs(60);
/// An answer to a test of the filtering comes as soon as one to a test of the mapping. News of the
/// mapping wait for so long for it, since the two together decide what is possible.
const NEWS_WAIT: Duration = Duration::from_millis(25);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the first answer to the own socket.
    Waiting,
    /// Steps 1 and 2 are on their way.
    Probing,
    /// Steps 3 to 5.
    Refining,
    /// All that can be learnt is known.
    Done,
}

#[derive(Debug)]
pub(crate) struct Profiler {
    enabled: bool,
    stage: Stage,
    /// The one that is asked for the ports of new mappings.
    pub(crate) server: Option<SocketAddr>,
    other: Option<SocketAddr>,
    /// All STUN addresses that are known.
    servers: Vec<SocketAddr>,
    rtt: Duration,
    local: Option<SocketAddr>,
    main_port: u16,
    /// What the own socket's mappings are, by the order in which they were made.
    main: Vec<(u32, Sample)>,
    fresh: Option<(SocketId, u16)>,
    fresh_samples: Vec<(u32, Sample)>,
    order: u32,
    /// When the NAT was seen to have forgotten its mappings.
    began_anew: Option<Instant>,
    /// News wait until then for the tests that are answered as soon as the mapping is.
    hold_until: Option<Instant>,
    exchanges: Vec<Exchange>,
    openers: Option<Openers>,
    reuse: Option<Reuse>,
    lifetime: Option<Lifetime>,
    sockets_wanted: u16,
    to_close: Vec<SocketId>,
    /// Whether no STUN server has answered by IPv4 for long.
    pub(crate) is_silent_by_ipv4: bool,
    /// Whether one has answered by IPv6; `None` as long as the first answer may come.
    gets_out_by_ipv6: Option<bool>,
    profile: NatProfile,
    told: Option<NatProfile>,
    pub(crate) transmits: VecDeque<Transmit>,
}

/// The place of the samples that discovery itself has made: before all others.
const DISCOVERY_ORDER_MAX: u32 = 100;

impl Profiler {
    pub(crate) fn new(enabled: bool, search: SearchWish) -> Self {
        Self {
            enabled,
            stage: Stage::Waiting,
            server: None,
            other: None,
            servers: Vec::new(),
            rtt: Duration::ZERO,
            local: None,
            main_port: 0,
            main: Vec::new(),
            fresh: None,
            fresh_samples: Vec::new(),
            order: DISCOVERY_ORDER_MAX,
            began_anew: None,
            hold_until: None,
            exchanges: Vec::new(),
            openers: None,
            reuse: None,
            lifetime: None,
            sockets_wanted: 0,
            to_close: Vec::new(),
            is_silent_by_ipv4: false,
            gets_out_by_ipv6: Some(false),
            profile: NatProfile { search, ..NatProfile::default() },
            told: None,
            transmits: VecDeque::new(),
        }
    }

    pub(crate) fn profile(&self) -> &NatProfile {
        &self.profile
    }

    /// Whether all has been learnt that takes no longer than a second.
    pub(crate) fn is_settled(&self) -> bool {
        let is_over = matches!(self.stage, Stage::Waiting | Stage::Done);
        is_over && !self.is_out(&[Purpose::Map])
    }

    /// The own socket is bound to this port.
    pub(crate) fn bound(&mut self, main_port: u16) {
        self.main_port = main_port;
    }

    /// Whether IPv6 works, and whether a STUN server has answered by it; `None` as long as the first answer may
    /// come.
    pub(crate) fn has_ipv6(&mut self, ipv6: bool, gets_out: Option<bool>) {
        self.profile.ipv6 = Some(ipv6);
        self.gets_out_by_ipv6 = gets_out;
        self.conclude_udp();
    }

    /// STUN addresses that the rendezvous names.
    pub(crate) fn add_servers(&mut self, servers: &[SocketAddr]) {
        for server in servers.iter().filter(|server| server.is_ipv4()) {
            if !self.servers.contains(server) && self.servers.len() < REUSE_DESTINATIONS_MAX {
                self.servers.push(*server);
            }
        }
    }

    /// The network has changed: nothing of what was known need be true.
    pub(crate) fn restart(&mut self) {
        let search = self.profile.search;
        let fresh = Self::new(self.enabled, search);
        let mut before = std::mem::replace(self, fresh);
        before.openers_over();
        self.to_close = before.to_close;
        self.to_close.extend(before.fresh.map(|(socket, _)| socket));
        self.to_close.extend(before.lifetime.map(|lifetime| lifetime.socket));
        self.to_close.extend(before.reuse.iter().flat_map(|it| it.sockets().iter().map(|it| it.0)));
        self.to_close.retain(|socket| *socket != SocketId::MAIN);
        self.main_port = before.main_port;
        self.began_anew = before.began_anew;
        self.profile.ipv6 = before.profile.ipv6;
        self.gets_out_by_ipv6 = before.gets_out_by_ipv6;
        self.told = before.told;
        self.conclude_udp();
    }

    /// No STUN server has answered by IPv4 for long, or none can be asked.
    pub(crate) fn silent_by_ipv4(&mut self) {
        self.is_silent_by_ipv4 = true;
        self.conclude_udp();
    }

    /// An answer of either family shows that UDP gets out.
    fn conclude_udp(&mut self) {
        self.profile.udp = if !self.main.is_empty() || self.gets_out_by_ipv6 == Some(true) {
            UdpState::Open
        } else if self.is_silent_by_ipv4 && self.gets_out_by_ipv6.is_some() {
            UdpState::Blocked
        } else {
            UdpState::Unknown
        };
    }

    /// Discovery has learnt a mapping of the own socket, and asks these servers in all.
    pub(crate) fn mapped(
        &mut self,
        answered: &Answered,
        asked: &[SocketAddr],
        (now, rng): Turn<'_>,
    ) {
        if !self.enabled {
            return;
        }
        let Answered { index, server, mapped, local, other, rtt, .. } = *answered;
        let before = self.main.iter().find(|(_, sample)| sample.server == server);
        if before.is_some_and(|(_, sample)| sample.mapped != mapped)
            && self.began_anew.is_none_or(|at| now.saturating_duration_since(at) >= ANEW_EVERY)
        {
            // The NAT has forgotten: what it did before is no evidence of what it does now.
            self.restart();
            self.began_anew = Some(now);
        }
        self.local = self.local.or(local);
        self.rtt = self.rtt.max(rtt);
        self.add_servers(&[server]);
        let order = u32::try_from(index).unwrap_or(u32::MAX).min(DISCOVERY_ORDER_MAX);
        let sample = Sample { local_port: self.main_port, server, mapped, at: now };
        self.main.retain(|(_, known)| known.server != server);
        self.main.push((order, sample));
        self.is_silent_by_ipv4 = false;
        self.conclude_udp();
        let usable = other.filter(|other| other.is_ipv4() && *other != server && other.port() != 0);
        if self.server.is_none() || (self.other.is_none() && usable.is_some()) {
            self.server = Some(server);
            self.other = usable;
        }
        if self.stage == Stage::Waiting && self.other.is_some() {
            self.stage = Stage::Probing;
            self.probe(asked, (now, rng));
        }
        self.conclude((now, rng));
    }

    /// Steps 1 and 2.
    fn probe(&mut self, asked: &[SocketAddr], (now, rng): Turn<'_>) {
        let (Some(server), Some(other)) = (self.server, self.other) else { return };
        let corners = [
            SocketAddr::new(server.ip(), other.port()),
            SocketAddr::new(other.ip(), server.port()),
            other,
        ];
        self.add_servers(&corners);
        let asked = |ip_differs: bool| {
            asked.iter().any(|it| (it.ip() != server.ip()) == ip_differs && *it != server)
        };
        let (asked_port, asked_ip) = (asked(false), asked(true));
        if server.port() != other.port() && !asked_port {
            self.ask(Purpose::Map, SocketId::MAIN, corners[0], (now, rng));
        }
        if server.ip() != other.ip() && !asked_ip {
            self.ask(Purpose::Map, SocketId::MAIN, corners[1], (now, rng));
        }
        self.sockets_wanted += 1;
        self.hold_until = Some(now + self.rtt + NEWS_WAIT);
    }

    fn ask(&mut self, purpose: Purpose, socket: SocketId, to: SocketAddr, (now, rng): Turn<'_>) {
        self.order += 1;
        let transaction = TransactionId::from(rng.random::<u128>());
        let route = (socket, to);
        self.exchanges.push(Exchange::new(purpose, transaction, route, self.order, self.rtt, now));
        self.retransmit(now);
    }

    /// Sockets that the machine is to open now.
    pub(crate) fn take_wanted_sockets(&mut self) -> u16 {
        std::mem::take(&mut self.sockets_wanted)
    }

    pub(crate) fn take_sockets_to_close(&mut self) -> Vec<SocketId> {
        std::mem::take(&mut self.to_close)
    }

    pub(crate) fn socket_opened(
        &mut self,
        socket: SocketId,
        local: SocketAddr,
        (now, rng): Turn<'_>,
    ) {
        if self.openers.as_ref().is_some_and(|openers| openers.coming > 0) {
            return self.opener_opened(socket, (now, rng));
        }
        if self.reuse.as_ref().is_some_and(Reuse::is_opening) {
            return self.reuse_socket(Some((socket, local.port())), now);
        }
        let (Some(server), None, Stage::Probing) = (self.server, self.fresh, self.stage) else {
            return self.to_close.push(socket);
        };
        self.fresh = Some((socket, local.port()));
        self.ask(Purpose::FreshMap, socket, server, (now, rng));
        self.ask(Purpose::OtherAddress, socket, server, (now, rng));
        self.ask(Purpose::OtherPort, socket, server, (now, rng));
    }

    pub(crate) fn socket_failed(&mut self, (now, rng): Turn<'_>) {
        if let Some(openers) = self.openers.as_mut().filter(|openers| openers.coming > 0) {
            openers.coming -= 1;
            return self.conclude((now, rng));
        }
        if self.reuse.as_ref().is_some_and(Reuse::is_opening) {
            return self.reuse_socket(None, now);
        }
        if self.stage == Stage::Probing && self.fresh.is_none() {
            // What needs a fresh socket is never known.
            self.stage = Stage::Done;
        }
    }

    fn retransmit(&mut self, now: Instant) -> bool {
        let before = self.exchanges.len();
        let transmits = &mut self.transmits;
        let hairpin_failed = &mut self.profile.hairpin;
        self.exchanges.retain_mut(|exchange| match exchange.handle_timeout(now) {
            Ok(transmit) => {
                transmits.extend(transmit);
                true
            }
            Err(()) => {
                if exchange.purpose == Purpose::Hairpin {
                    *hairpin_failed = Some(false);
                }
                false
            }
        });
        self.exchanges.len() < before
    }

    pub(crate) fn handle_timeout(&mut self, (now, rng): Turn<'_>) {
        let gave_up = self.retransmit(now);
        if gave_up {
            self.conclude((now, rng));
        }
        self.run_reuse((now, rng));
        if let Some(lifetime) = &mut self.lifetime {
            let (transmit, progress) = lifetime.handle_timeout((now, rng));
            self.transmits.extend(transmit);
            self.lived(&progress);
        }
    }

    /// The profile, where it has become better since it was last taken, and is worth telling: the
    /// mapping behaviour is known, or will not be.
    pub(crate) fn take_news(&mut self, now: Instant) -> Option<NatProfile> {
        self.hold_until.take_if(|until| *until <= now);
        let filtering = [Purpose::FreshMap, Purpose::OtherAddress, Purpose::OtherPort];
        let undecided = self.profile.filtering != Filtering::EndpointIndependent;
        let comes = self.fresh.is_none() || self.is_out(&filtering) && undecided;
        if self.hold_until.is_some() && comes || !self.reuse_may_be_told() {
            return None;
        }
        // A plan that needs an opener is made of what it needs to know.
        if self.tests_openers() && self.profile.opener_ttl.is_none() {
            return None;
        }
        let is_seen_by_ipv6_alone = self.is_silent_by_ipv4 && self.profile.udp == UdpState::Open;
        let worth = self.profile.udp == UdpState::Blocked
            || is_seen_by_ipv6_alone
            || self.profile.mapping != Mapping::Unknown && !self.is_out(&[Purpose::Map]);
        if !self.enabled || !worth || self.told.as_ref() == Some(&self.profile) {
            return None;
        }
        self.told = Some(self.profile.clone());
        self.told.clone()
    }

    /// The profile is to be told again: the rendezvous knows nothing of it.
    pub(crate) fn forget_told(&mut self) {
        self.told = None;
    }

    /// The sockets that it uses, or has used.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) -> Vec<SocketId> {
        assert!(self.servers.len() <= REUSE_DESTINATIONS_MAX, "{} servers", self.servers.len());
        let is_drained = self.transmits.is_empty() && self.to_close.is_empty();
        assert!(is_drained && self.sockets_wanted == 0, "the profiler has something to say");
        let reuse = self.reuse.iter().flat_map(Reuse::sockets);
        let own = reuse.chain(&self.fresh).map(|(socket, _)| *socket);
        let own = own.chain(self.opener_sockets());
        own.chain(self.lifetime.as_ref().map(|it| it.socket)).collect()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.exchanges.iter().map(|exchange| exchange.next_at).min();
        let reuse = self.reuse.as_ref().and_then(Reuse::poll_timeout);
        let lifetime = self.lifetime.as_ref().map(Lifetime::poll_timeout);
        exchange.into_iter().chain(reuse).chain(self.hold_until).chain(lifetime).min()
    }
}
