//! Discovery: the public endpoint of the IPv4 socket, learnt by STUN, kept alive, watched.

mod answers;
mod named;
pub(crate) mod nat;
mod transaction;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::AddressKind;
use holepunch_wire::stun::proof::{AddressProof, ProofNonce};
use rand::RngExt;

use crate::doors::{Event, Out, StunServer, Transmit, Turn, WakeReason, WakeUp, earlier};
use crate::schedule::Retransmission;
use transaction::{Due, Transaction};

/// Most servers asked in one round; further ones are left out.
const SERVERS_MAX: usize = 8;
/// Servers that are asked because the rendezvous names them; further ones are left out.
const NAMED_MAX: usize = 2;
/// A server that has not answered this many requests is named in an event: the user waits for it.
const SILENT_AFTER_REQUESTS: u32 = 4;

/// The bounds that the user may set on repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryBounds {
    pub(crate) retries_max: Option<u32>,
    pub(crate) delay: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The driver looks the names up.
    Resolving,
    /// Servers are asked, or answers are in and the refresh is running.
    Running,
    /// An attempt failed; the next one starts then.
    Waiting { until: Instant },
    /// The user's bound on attempts is reached.
    GivenUp,
}

/// What a server's answer says beside the endpoint: for the NAT profile, and for the rendezvous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    /// The server's place in the list.
    pub(crate) index: usize,
    pub(crate) server: SocketAddr,
    pub(crate) mapped: SocketAddr,
    /// The own address toward the server, where known.
    pub(crate) local: Option<SocketAddr>,
    /// The server's other address (RFC 5780 §7.4).
    pub(crate) other: Option<SocketAddr>,
    pub(crate) rtt: Duration,
    pub(crate) proof: Option<AddressProof>,
}

#[derive(Debug)]
pub(crate) struct Discovery {
    bounds: RetryBounds,
    state: State,
    /// Failed attempts in a row, and why the last one did.
    failed: u32,
    pub(crate) failure: Option<String>,
    servers: Vec<StunServer>,
    /// Those that the rendezvous names, at hosts that are not asked anyway.
    named: Vec<SocketAddr>,
    /// Whether this host has an IPv4 address: without one, nobody can be asked whom the rendezvous names.
    has_ipv4: bool,
    answers: Vec<Option<SocketAddr>>,
    transactions: Vec<Transaction>,
    /// What is reported; kept while a new round confirms or replaces it.
    endpoint: Option<SocketAddr>,
    /// Index of the server that answered first in this round: it is asked to refresh, and its
    /// answers alone are compared with the endpoint. (Behind a hard NAT each server sees another.)
    confirmer: Option<usize>,
    refresh_at: Option<Instant>,
    /// Whether the round under way has been summed up.
    summed_up: bool,
    /// Asks servers for a proof of the address.
    nonce: Option<ProofNonce>,
    /// How long an idle mapping is known to live.
    lifetime: Option<Duration>,
    /// The answers, for those who want to know more than the endpoint.
    pub(crate) answered: VecDeque<Answered>,
    pub(crate) out: Out,
}

impl Discovery {
    pub(crate) fn new(bounds: RetryBounds) -> Self {
        Self {
            bounds,
            state: State::Resolving,
            failed: 0,
            failure: None,
            servers: Vec::new(),
            named: Vec::new(),
            has_ipv4: true,
            answers: Vec::new(),
            transactions: Vec::new(),
            endpoint: None,
            confirmer: None,
            refresh_at: None,
            summed_up: false,
            nonce: None,
            lifetime: None,
            answered: VecDeque::new(),
            out: Out { events: VecDeque::from([Event::Resolve]), ..Out::default() },
        }
    }

    /// The public endpoint, once known.
    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    /// Starts again where the user's bound has ended it.
    pub(crate) fn revive(&mut self) {
        if self.state == State::GivenUp {
            self.failed = 0;
            self.start();
        }
    }

    /// Asks for proofs of the address from now on, and at once where the endpoint is known already.
    pub(crate) fn ask_proofs(&mut self, nonce: ProofNonce, (now, rng): Turn<'_>) {
        self.nonce = Some(nonce);
        self.refresh_now((now, rng));
    }

    /// Confirms the endpoint at once, unless that is under way: it may have changed.
    pub(crate) fn refresh_now(&mut self, (now, rng): Turn<'_>) {
        self.refresh_at = self.refresh_at.map(|at| at.min(now));
        self.handle_timeout((now, rng));
    }

    /// An idle mapping is known to live for so long.
    pub(crate) fn lives_for(&mut self, lifetime: Option<Duration>) {
        self.lifetime = lifetime;
    }

    /// Whether an interface has an IPv4 address.
    pub(crate) fn has_ipv4(&mut self, has_ipv4: bool) {
        self.has_ipv4 = has_ipv4;
    }

    /// The servers that are asked in this round.
    pub(crate) fn asked(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// Their names, with the addresses where a name has several.
    pub(crate) fn names(&self) -> Vec<String> {
        self.servers.iter().map(StunServer::in_full).collect()
    }

    /// The network has changed: all servers are asked anew. The endpoint stays until one answers.
    pub(crate) fn restart(&mut self) {
        if matches!(self.state, State::Running | State::Waiting { .. } | State::GivenUp) {
            self.transactions.clear();
            self.refresh_at = None;
            self.failed = 0;
            self.start();
        }
    }

    fn start(&mut self) {
        self.state = State::Resolving;
        self.out.events.push_back(Event::Resolve);
    }

    pub(crate) fn handle_resolved(
        &mut self,
        resolved: Result<Vec<StunServer>, String>,
        (now, rng): Turn<'_>,
    ) {
        if self.state != State::Resolving {
            return;
        }
        let is_nobody_named = self.named().next().is_none();
        let mut servers = match resolved {
            Ok(servers) if servers.is_empty() && is_nobody_named => {
                return self.nobody_to_ask("no STUN server has an address", (now, rng));
            }
            Ok(servers) => servers,
            Err(reason) if is_nobody_named => return self.nobody_to_ask(&reason, (now, rng)),
            Err(_) => Vec::new(),
        };
        servers.truncate(SERVERS_MAX);
        self.state = State::Running;
        self.answers = vec![None; servers.len()];
        self.servers = servers;
        self.append_named();
        self.transactions.clear();
        self.confirmer = None;
        self.refresh_at = None;
        self.summed_up = false;
        for index in 0..self.servers.len() {
            self.begin(index, (now, rng));
        }
    }

    /// Those of an earlier round are not those that have not answered now.
    fn nobody_to_ask(&mut self, reason: &str, (now, rng): Turn<'_>) {
        self.servers.clear();
        self.answers.clear();
        self.transactions.clear();
        (self.confirmer, self.refresh_at) = (None, None);
        self.attempt_failed(reason, (now, rng));
    }

    fn begin(&mut self, server: usize, (now, rng): Turn<'_>) {
        self.out.events.push_back(Event::StunAsked(self.servers[server].clone()));
        self.ask(server, Retransmission::DISCOVERY, (now, rng));
    }

    fn ask(&mut self, server: usize, plan: Retransmission, (now, rng): Turn<'_>) {
        let transaction = Transaction::new(rng.random::<u128>().into(), server, plan, now);
        self.transactions.push(transaction);
        self.handle_timeout((now, rng));
    }

    pub(crate) fn handle_timeout(&mut self, (now, rng): Turn<'_>) {
        if matches!(self.state, State::Waiting { until } if until <= now) {
            self.start();
        }
        if let (Some(_), Some(server)) = (self.refresh_at.filter(|at| *at <= now), self.confirmer) {
            self.refresh_at = None;
            let id = rng.random::<u128>().into();
            self.transactions.push(Transaction::new(id, server, Retransmission::REFRESH, now));
        }
        let mut exhausted = Vec::new();
        self.transactions.retain_mut(|transaction| {
            let server = &self.servers[transaction.server];
            match transaction.handle_timeout(self.nonce, now) {
                Due::Nothing => true,
                Due::Send(payload) => {
                    // One more address with each request that has stayed without an answer.
                    let late = usize::try_from(transaction.sent - 1).unwrap_or(usize::MAX);
                    let others = server.others.iter().take(late);
                    let beside = others.map(|(other, _)| Transmit::new(*other, payload.clone()));
                    self.out.transmits.extend(beside);
                    self.out.transmits.push_back(Transmit::new(server.address, payload));
                    if transaction.sent == SILENT_AFTER_REQUESTS && !transaction.is_refresh() {
                        let waited = now.saturating_duration_since(transaction.started);
                        self.out.events.push_back(Event::StunSilent(server.clone(), waited));
                    }
                    true
                }
                Due::Exhausted => {
                    exhausted.push(transaction.server);
                    false
                }
            }
        });
        for server in exhausted {
            if self.state == State::Running {
                self.server_failed(server, (now, rng));
            }
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        let count = self.servers.len();
        assert!(count <= SERVERS_MAX && self.named.len() <= NAMED_MAX, "{count} servers");
        assert_eq!(self.answers.len(), count, "each server has one answer, or none");
        let asked = self.transactions.iter().map(|transaction| transaction.server);
        let mut known = asked.chain(self.confirmer);
        assert!(known.all(|server| server < count), "a server is asked that is not known");
        let is_drained = self.out.transmits.is_empty() && self.out.events.is_empty();
        assert!(is_drained && self.answered.is_empty(), "discovery has something to say");
    }

    pub(crate) fn poll_timeout(&self) -> Option<WakeUp> {
        let waiting = match self.state {
            State::Waiting { until } => Some((until, WakeReason::DiscoveryRetry)),
            State::Resolving | State::Running | State::GivenUp => None,
        };
        let refresh = self.refresh_at.map(|at| (at, WakeReason::MappingRefresh));
        let retransmission = self.transactions.iter().map(|transaction| transaction.next_at).min();
        let retransmission = retransmission.map(|at| (at, WakeReason::StunRetransmission));
        earlier(waiting, earlier(refresh, retransmission))
    }
}

/// Whether a mapped address could be one host's. Servers are not trusted to say only such.
fn is_usable(mapped: SocketAddr) -> bool {
    mapped.port() != 0 && AddressKind::of(mapped.ip()).is_reachable_unicast()
}
