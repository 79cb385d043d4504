//! Where the worker is: what servers, the router and the interfaces show of its addresses and its NATs, and what the
//! rendezvous knows of that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::AddressKind;
use holepunch_wire::candidate::{self, CANDIDATES_MAX, Candidate, CandidateKind};
use holepunch_wire::signal::v1::{Welcome, WorkerV1};
use holepunch_wire::stun::BindingResponse;
use holepunch_wire::stun::proof::ProofNonce;

use crate::discovery::{Discovery, RetryBounds};
use crate::doors::{
    Config, Event, NoEndpoint, Out, SocketId, StunServer, Surroundings, Turn, WakeReason, WakeUp,
    earlier,
};
use crate::ipv6::Ipv6;
use crate::no_endpoint::Want;
use crate::profile::Profiler;
use crate::reporting::Wish;
use crate::session::Setting;

/// Why there is nobody to ask for an endpoint where servers have been found.
const NONE_BY_IPV4: &str = "no STUN server can be asked by IPv4";

#[derive(Debug)]
pub(crate) struct Whereabouts {
    /// Whether the rendezvous speaks `holepunch.v1`.
    pub(crate) v1: bool,
    surroundings: Surroundings,
    pub(crate) discovery: Discovery,
    pub(crate) profiler: Profiler,
    ipv6: Ipv6,
    /// Whether peers are told the addresses of the own interfaces.
    tells_hosts: bool,
    /// The candidates that the rendezvous knows, and the number of their set.
    pub(crate) candidates_told: Option<Vec<Candidate>>,
    generation: u32,
    want: Want,
}

impl Whereabouts {
    pub(crate) fn new(config: &Config) -> Self {
        let bounds =
            RetryBounds { retries_max: config.stun_retries_max, delay: config.stun_retry_delay };
        Self {
            v1: false,
            surroundings: Surroundings::default(),
            discovery: Discovery::new(bounds),
            profiler: Profiler::new(config.profile, config.search),
            ipv6: Ipv6::default(),
            tells_hosts: config.host_candidates,
            candidates_told: None,
            generation: 0,
            want: Want::default(),
        }
    }

    /// The public endpoint, once a server has shown it.
    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.discovery.endpoint()
    }

    /// What a new session has to know.
    pub(crate) fn setting(&self) -> Setting {
        let public_ip = self.endpoint().map(|endpoint| endpoint.ip());
        Setting { has_v6: self.surroundings.main_v6.is_some(), public_ip }
    }

    pub(crate) fn profile_is_settled(&self) -> bool {
        self.profiler.is_settled() && !self.ipv6.is_asking()
    }

    pub(crate) fn welcome(&mut self, welcome: &Welcome, (now, rng): Turn<'_>) {
        self.v1 = true;
        let usable = |server: &&SocketAddr| {
            server.port() != 0 && AddressKind::of(server.ip()).is_reachable_unicast()
        };
        let servers: Vec<SocketAddr> = welcome.stun.iter().filter(usable).copied().collect();
        self.profiler.add_servers(&servers);
        self.profiler.forget_told();
        self.candidates_told = None;
        if let Ok(nonce) = welcome.proof_nonce.parse::<ProofNonce>() {
            self.discovery.ask_proofs(nonce, (now, rng));
        }
        self.discovery.add_servers(&servers, (now, rng));
        if self.surroundings.main_v6.is_some() {
            self.ipv6.ask_named(&servers, (now, rng));
            self.conclude_ipv6();
        }
    }

    /// Servers of IPv4 show the endpoint; those of IPv6 whether UDP gets out by it, and a candidate.
    pub(crate) fn resolved(
        &mut self,
        resolved: Result<Vec<StunServer>, String>,
        (now, rng): Turn<'_>,
    ) {
        let resolved = resolved.and_then(|servers| {
            let is_ipv6 = |server: &StunServer| server.address.is_ipv6();
            let (of_ipv6, of_ipv4): (Vec<_>, Vec<_>) = servers.into_iter().partition(is_ipv6);
            let is_missing = of_ipv4.is_empty() && !of_ipv6.is_empty();
            if self.surroundings.main_v6.is_some() {
                self.ipv6.configure(of_ipv6, (now, rng));
                self.conclude_ipv6();
            }
            if is_missing { Err(NONE_BY_IPV4.to_owned()) } else { Ok(of_ipv4) }
        });
        self.discovery.handle_resolved(resolved, (now, rng));
    }

    /// Whether the network is another one than before.
    pub(crate) fn surroundings(
        &mut self,
        surroundings: Surroundings,
        (now, rng): Turn<'_>,
    ) -> bool {
        let before = std::mem::replace(&mut self.surroundings, surroundings);
        if let Some(main) = self.surroundings.main {
            self.profiler.bound(main.port());
        }
        self.discovery.has_ipv4(self.surroundings.has_ipv4());
        let moved =
            before.interfaces != self.surroundings.interfaces && !before.interfaces.is_empty();
        if moved {
            self.discovery.restart();
            self.profiler.restart();
            self.ipv6.restart((now, rng));
        }
        self.conclude_ipv6();
        moved
    }

    /// Whether a datagram on the worker's own socket answers discovery.
    pub(crate) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        payload: &[u8],
        (now, rng): Turn<'_>,
    ) -> bool {
        let is_own = |seen: SocketAddr| self.surroundings.is_own(seen);
        self.discovery.handle_datagram(from, payload, is_own, (now, rng))
    }

    /// Whether a response answers a question about IPv6 or the NATs.
    pub(crate) fn handle_response(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        response: &BindingResponse,
        (now, rng): Turn<'_>,
    ) -> bool {
        let is_own = |seen: SocketAddr| self.surroundings.is_own(seen);
        if self.ipv6.handle_response((socket, from), response, is_own, (now, rng)) {
            self.conclude_ipv6();
            return true;
        }
        self.profiler.handle_response(socket, from, response, (now, rng))
    }

    /// An address alone is no proof that packets get out.
    fn conclude_ipv6(&mut self) {
        let is_global = |at: SocketAddr| AddressKind::of(at.ip()) == AddressKind::Ordinary;
        let has_global =
            self.surroundings.has_global_v6() || self.ipv6.mapped().is_some_and(is_global);
        let works = has_global && self.ipv6.works != Some(false);
        let gets_out =
            if self.ipv6.is_open() { None } else { Some(self.ipv6.gets_out == Some(true)) };
        self.profiler.has_ipv6(works, gets_out);
    }

    pub(crate) fn poll_timeout(&self) -> Option<WakeUp> {
        let profile =
            self.profiler.poll_timeout().into_iter().chain(self.ipv6.poll_timeout()).min();
        earlier(profile.map(|at| (at, WakeReason::Profile)), self.discovery.poll_timeout())
    }

    /// How a peer is to be asked for at this moment.
    pub(crate) fn wish(&self) -> Option<Wish> {
        let anywhere = || (self.v1 && self.has_no_endpoint()).then_some(Wish::Anywhere);
        self.endpoint().map(Wish::At).or_else(anywhere)
    }

    /// Whether no STUN server has answered by IPv4 for long, or none can be asked. As long as the first answer may
    /// come by IPv6, nobody knows yet what is missing.
    fn has_no_endpoint(&self) -> bool {
        let is_silent = self.profiler.is_silent_by_ipv4 && !self.ipv6.is_open();
        is_silent && self.endpoint().is_none()
    }

    pub(crate) fn drain_discovery(&mut self, out: &mut Out) {
        out.transmits.append(&mut self.discovery.out.transmits);
        for mut event in std::mem::take(&mut self.discovery.out.events) {
            // The first attempt may fail for want of a server alone; the rendezvous may name one, unless
            // its welcome has been here.
            let is_silent = matches!(
                event,
                Event::StunSilent(..)
                    | Event::DiscoveryFailed { attempt: 2.., .. }
                    | Event::DiscoveryFailed { retry_in: None, .. }
            ) || self.v1 && matches!(event, Event::DiscoveryFailed { .. });
            if is_silent && self.endpoint().is_none() {
                self.profiler.silent_by_ipv4();
            }
            if let Event::DiscoveryFailed { ipv6, .. } = &mut event {
                *ipv6 = self.ipv6.is_open() || self.ipv6.gets_out == Some(true);
            }
            out.events.push_back(event);
        }
    }

    /// Draws conclusions from what has been answered, and from what has not in time.
    pub(crate) fn conclude(&mut self, out: &mut Out, (now, rng): Turn<'_>) {
        while let Some(answered) = self.discovery.answered.pop_front() {
            let asked = self.discovery.asked();
            self.profiler.mapped(&answered, &asked, (now, rng));
            if let (Some(proof), true) = (answered.proof, self.v1) {
                out.events.push_back(Event::Signal(WorkerV1::AddressProof {
                    udp_ip: answered.mapped.ip(),
                    udp_port: answered.mapped.port(),
                    proof: proof.to_string(),
                }));
            }
        }
        if self.ipv6.poll_timeout().is_some_and(|at| at <= now) {
            self.ipv6.handle_timeout((now, rng));
            self.conclude_ipv6();
        }
        out.append(&mut self.ipv6.out);
        self.profiler.handle_timeout((now, rng));
        let lifetime = self.profiler.profile().lifetime_s;
        self.discovery.lives_for(lifetime.map(|secs| Duration::from_secs(u64::from(secs))));
    }

    /// Tells the rendezvous what it does not know yet.
    pub(crate) fn tell_news(&mut self, out: &mut Out, now: Instant) {
        out.transmits.append(&mut self.profiler.transmits);
        let news = self.profiler.take_news(now);
        out.events.extend(news.clone().map(|profile| Event::Profile(Box::new(profile))));
        if !self.v1 {
            return;
        }
        let candidates = self.candidates();
        if !candidates.is_empty() && self.candidates_told.as_ref() != Some(&candidates) {
            self.generation += 1;
            let generation = self.generation;
            self.candidates_told = Some(candidates.clone());
            let message = WorkerV1::Candidates { generation, candidates };
            out.events.push_back(Event::Signal(message));
        }
        out.events.extend(news.map(|profile| Event::Signal(WorkerV1::NatProfile { profile })));
    }

    /// Tells the user what is missing where there is no endpoint.
    pub(crate) fn tell_no_endpoint(&mut self, out: &mut Out, now: Instant) {
        if !self.has_no_endpoint() {
            return;
        }
        let ipv6 = self.ipv6.gets_out == Some(true);
        let mut asked = self.discovery.names();
        for name in self.ipv6.unanswered().filter(|_| !ipv6) {
            if !asked.iter().any(|known| known == name) {
                asked.push(name.to_owned());
            }
        }
        let candidates = self.candidates();
        let want = NoEndpoint {
            asked,
            why: self.discovery.failure.clone(),
            ipv6,
            has_ipv4: self.surroundings.has_ipv4(),
            v1: self.v1,
            candidates: candidates.iter().map(Candidate::address).collect(),
        };
        out.events.extend(self.want.news(want, now));
    }

    /// Where the worker may be reached. A host with many interfaces has more addresses than can be told: the last ones
    /// of those are left out, and none of what servers and routers have said.
    fn candidates(&self) -> Vec<Candidate> {
        let hosts = self.surroundings.hosts().filter(|_| self.tells_hosts);
        let hosts = hosts.map(|at| Candidate::new(CandidateKind::Host, at));
        let seen_from_outside = [
            self.surroundings.port_mapped.map(|at| (CandidateKind::PortMapped, at)),
            self.ipv6.mapped().map(|at| (CandidateKind::ServerReflexive, at)),
            self.endpoint().map(|at| (CandidateKind::ServerReflexive, at)),
        ];
        let hosts = hosts.take(CANDIDATES_MAX - seen_from_outside.len());
        let seen_from_outside = seen_from_outside.into_iter().flatten();
        let seen_from_outside = seen_from_outside.map(|(kind, at)| Candidate::new(kind, at));
        candidate::bounded(hosts.chain(seen_from_outside).collect())
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        self.discovery.check_invariants();
        self.ipv6.check_invariants();
        let told = self.candidates_told.as_ref().map_or(0, Vec::len);
        assert!(told <= CANDIDATES_MAX, "{told} candidates are told");
    }
}
