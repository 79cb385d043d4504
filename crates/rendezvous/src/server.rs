//! Sockets open and close.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holepunch_wire::relay::{RelayAccess, RelayKey};
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use ipnet::IpNet;
use rand::rngs::{StdRng, SysRng};
use rand::{SeedableRng, TryRng};
use tokio::task::JoinSet;

use crate::admin::{self, AdminConfig};
use crate::api::ApiDoor;
use crate::front::Front;
use crate::http;
use crate::hub::Hub;
use crate::listening::{BindError, Bound, Ended, Listening, Settings};
use crate::listing::{ListingDoor, Listings};
use crate::peers::Peers;
use crate::registration::RegistrationDoor;
use crate::relay::{Relay, RelayDoor, RelayDrop, RelayLimits};
use crate::stun::{StunServer, StunSettings};
use crate::tls::Tls;
use crate::tokens::{Auth, Gate, TokenKeysError};
#[cfg(feature = "otel")]
use crate::traces::{Exporting, OtlpEndpoint, Tracer};

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP and WebSocket are served; port 0 means any free one.
    pub listen: SocketAddr,
    /// What it speaks TLS with there; `None`: HTTP and WebSocket are plain.
    pub tls: Option<Tls>,
    /// Where STUN is served; none turns it off.
    pub stun_listen: Vec<SocketAddr>,
    /// Whether the server is to start without STUN when these addresses are taken: right for an
    /// address that nobody asked for.
    pub stun_is_optional: bool,
    /// Most STUN answers a second in all; `None` is no bound.
    pub stun_answers_max: Option<u64>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections of these begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// This server's names, as in the URLs of its workers: what a worker signs to prove its key must
    /// name one of them. Without any it must name the host that the worker has asked for, so that
    /// another rendezvous could pass the challenge of this one on to a worker of its own.
    pub public_hosts: Vec<String>,
    /// STUN addresses to tell workers of, instead of those that are listened on: right behind a load
    /// balancer or a port forwarding. Where there are as many as of those, answers name them, too, each in the place
    /// of its own (OTHER-ADDRESS, RESPONSE-ORIGIN).
    pub stun_advertise: Vec<SocketAddr>,
    /// Who may enter.
    pub auth: Auth,
    /// Whether `GET /debug/list_workers` tells everybody who is registered.
    pub listing: bool,
    /// Where metrics and the API are served, and to whom.
    pub admin: AdminConfig,
    /// Most files that may be open, sockets included; `None`: the limit of this process.
    pub open_files_max: Option<usize>,
    /// What the relay carries; `None` turns it off.
    pub relay: Option<RelayLimits>,
    /// The pairing machine's settings. Its STUN servers and proofs are filled in here, and a key of its relay where it has
    /// none: a new one at every start. With the URL of a relay elsewhere, workers are sent there.
    pub matchmaker: holepunch_matchmaker::Config,
}

/// A running rendezvous. Dropping it closes what listens, without a word to the workers, whose
/// connections run on; use [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Server {
    listening: Listening,
    admin: Option<Listening>,
    stun: Option<StunServer>,
    proof_key: ProofKey,
    hub: Arc<Hub>,
    gate: Option<Arc<Gate>>,
    relay: Option<Arc<Relay>>,
    clock: JoinSet<()>,
    #[cfg(feature = "otel")]
    exporting: Option<Exporting>,
}

impl Server {
    /// Opens all sockets and starts to serve, on the current tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound, or the system gives no random numbers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_among(None, config)
    }

    /// The same, as one of several rendezvous.
    ///
    /// # Errors
    /// An address cannot be bound, or the system gives no random numbers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind_among(peers: impl Into<Option<Peers>>, config: Config) -> Result<Self, BindError> {
        let relays_max = config.relay.map_or(0, |limits| limits.connections_max);
        let bound = Bound::bind(Settings {
            listen: config.listen,
            trusted_proxies: config.trusted_proxies,
            proxy_protocol: config.proxy_protocol,
            public_hosts: config.public_hosts,
            open_files_max: config.open_files_max,
            tls: config.tls,
            websockets_max: config.matchmaker.workers_max.saturating_add(relays_max),
        })?;
        let admin = config.admin.bind(&bound.front)?;
        let gate = gate_of(config.auth, &bound.front)?;
        let proof_key = proof_key_of(config.matchmaker.relay.as_ref())?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let proofs = (proof_key.clone(), ProofClock::new(Instant::now(), unix));
        let mut matchmaker = config.matchmaker;
        let mut access = matchmaker.relay.take().map_or_else(own_access, Ok)?;
        let relay = config.relay.map(|limits| Arc::new(Relay::new(limits, access.key.clone())));
        let stun = StunServer::bind_unless_taken(
            StunSettings {
                addresses: &config.stun_listen,
                advertised: &config.stun_advertise,
                proofs: proofs.clone(),
                answers_max: config.stun_answers_max,
                relay: relay.clone(),
            },
            config.stun_is_optional,
        )?;
        matchmaker.stun = match &stun {
            Some(stun) if config.stun_advertise.is_empty() => stun.addresses(),
            _ => config.stun_advertise,
        };
        if relay.is_some() && stun.is_some() && access.url.is_none() {
            access.udp = one_of_each_family(&matchmaker.stun);
        }
        matchmaker.relay = (relay.is_some() || access.url.is_some()).then_some(access);
        matchmaker.proofs = Some(proofs);
        let rng = StdRng::try_from_rng(&mut SysRng)
            .map_err(|error| BindError::Random(error.to_string()))?;
        let hub = Hub::new(matchmaker, rng, relay.clone(), peers.into());
        #[cfg(feature = "otel")]
        let (hub, exporting) = traced(hub, config.admin.otlp_endpoint.as_ref())?;
        let hub = Arc::new(hub);
        log_start(&bound, stun.as_ref());
        hub.metrics.shown.add_service(&bound.front, relay.as_deref(), stun.as_ref());
        let (workers, gate_of) = (&bound.front, gate.as_ref());
        let inside = Inside { config: &config.admin, hub: &hub, workers, gate: gate_of };
        let at = admin.as_ref().map_or(&bound.front, |admin| &admin.front);
        let seen = inside.routes(Arc::clone(at), relay.clone(), config.listing);
        let (seen, admin) = admin::serve(admin, seen);
        let routes = routes(&inside, relay.clone(), seen);
        let listening = bound.serve(routes);
        let clock = clock_of(&hub, gate.as_ref());
        Ok(Self {
            listening,
            admin,
            stun,
            proof_key,
            hub,
            gate,
            relay,
            clock,
            #[cfg(feature = "otel")]
            exporting,
        })
    }

    /// Where HTTP and WebSocket are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Where STUN is served.
    #[must_use]
    pub fn stun_addresses(&self) -> Vec<SocketAddr> {
        self.stun.as_ref().map(StunServer::addresses).unwrap_or_default()
    }

    /// What the STUN server makes proofs of address with; a new one at every start.
    #[must_use]
    pub fn proof_key(&self) -> &ProofKey {
        &self.proof_key
    }

    /// Reads again what may have changed while it runs, the keys of tokens: those who are let in no longer are told (1008). What
    /// has changed is seen without it, too, some seconds later.
    ///
    /// # Errors
    /// The file cannot be taken. Then all stays as it was.
    pub fn reload(&self) -> Result<(), TokenKeysError> {
        let Some(gate) = &self.gate else { return Ok(()) };
        gate.reload()?;
        gate.look_at(&self.hub);
        Ok(())
    }

    /// Where metrics and the API are served, if they have an address of their own.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Listening::address)
    }

    /// How many datagrams of links have come to the relay by UDP, and were handed on.
    #[must_use]
    pub fn relay_datagrams(&self) -> u64 {
        self.relay.as_ref().map_or(0, |relay| relay.datagrams())
    }

    /// How many datagrams of the relay have gone nowhere, and why.
    #[must_use]
    pub fn relay_drops(&self) -> Vec<(RelayDrop, u64)> {
        self.relay.as_ref().map(|relay| relay.drops()).unwrap_or_default()
    }

    /// Takes no more connections, tells every worker (1001), and returns when all have gone: less than a second after
    /// the last one that goes by itself, however many there are. Then all addresses are free again.
    ///
    /// As one of several, it sends its workers to the others first, one after the other, within some seconds (1012).
    pub async fn shutdown(mut self) {
        self.hub.drain().await;
        let ended = self.listening.close(|| {
            if let Some(relay) = &self.relay {
                relay.shutdown();
            }
            self.hub.shutdown();
        });
        let (Ended { left, ended_for_others }, ()) = tokio::join!(ended, admin::close(self.admin));
        self.clock.shutdown().await;
        self.hub.resign().await;
        if let Some(stun) = self.stun {
            stun.shutdown().await;
        }
        #[cfg(feature = "otel")]
        if let Some(exporting) = self.exporting {
            exporting.finish().await;
        }
        tracing::info!(left, ended_for_others, "rendezvous has ended");
    }
}

/// The hub with a tracer among those who are told, where there is a collector.
#[cfg(feature = "otel")]
fn traced(
    mut hub: Hub,
    collector: Option<&OtlpEndpoint>,
) -> Result<(Hub, Option<Exporting>), BindError> {
    let Some(collector) = collector else { return Ok((hub, None)) };
    let started = Exporting::start(collector, hub.events.instance());
    let (queue, exporting) = started.map_err(BindError::Traces)?;
    hub.metrics.add_spans(&queue.outcomes);
    hub.add_observer(Tracer::new(queue));
    Ok((hub, Some(exporting)))
}

/// A key for the relay that nobody else has.
fn own_access() -> Result<RelayAccess, BindError> {
    Ok(RelayAccess { key: RelayKey::new(random_bytes()?), url: None, udp: Vec::new() })
}

/// What proofs of address are made with. One that several share is good at each of them.
fn proof_key_of(relay: Option<&RelayAccess>) -> Result<ProofKey, BindError> {
    Ok(ProofKey::new(match relay {
        Some(access) => access.key.derived(b"proofs of address"),
        None => random_bytes()?,
    }))
}

fn log_start(bound: &Bound, stun: Option<&StunServer>) {
    let stun = stun.map(StunServer::addresses).unwrap_or_default();
    let (http, hosts, tls) = (bound.address, &bound.front.public_hosts, bound.front.tls.is_some());
    tracing::info!(%http, tls, ?stun, ?hosts, "rendezvous is running");
}

/// What goes on by itself: the board, and the keys of tokens, which may change.
fn clock_of(hub: &Arc<Hub>, gate: Option<&Arc<Gate>>) -> JoinSet<()> {
    let mut clock = JoinSet::new();
    let board = Arc::clone(hub);
    clock.spawn(async move { board.run().await });
    if let Some(gate) = gate {
        clock.spawn(Arc::clone(gate).run(Arc::clone(hub)));
    }
    clock
}

/// Who looks at the tokens of those who want to register, where they need any.
fn gate_of(auth: Auth, front: &Front) -> Result<Option<Arc<Gate>>, BindError> {
    match auth {
        Auth::Open => {
            tracing::info!("whoever reaches this rendezvous can register (--auth open)");
            Ok(None)
        }
        Auth::Token { keys } => {
            let gate = Gate::open(&keys, Arc::clone(&front.public_hosts));
            let gate = gate.map_err(|source| BindError::TokenKeys { path: keys, source })?;
            Ok(Some(Arc::new(gate)))
        }
    }
}

/// What whoever looks after the server looks at.
struct Inside<'a> {
    config: &'a AdminConfig,
    hub: &'a Arc<Hub>,
    /// Where workers come in.
    workers: &'a Arc<Front>,
    gate: Option<&'a Arc<Gate>>,
}

impl Inside<'_> {
    /// What is served to them, at this front.
    fn routes(&self, front: Arc<Front>, relay: Option<Arc<Relay>>, listing: bool) -> Router {
        let hub = || Arc::clone(self.hub);
        let fronts = (Arc::clone(&front), Arc::clone(self.workers));
        let api = ApiDoor::new(fronts, hub(), relay).routes();
        // The listing is open to everybody, as it always was, where nobody has said anything else.
        let is_open = self.config.token.is_none() && self.config.listen.is_none();
        let listing = listing.then(|| {
            let listings = Listings::default();
            // Whoever is let through to the API sees all tenants there, and so in the listing beside it.
            let gate = self.gate.filter(|_| is_open).cloned();
            ListingDoor { front: Arc::clone(&front), hub: hub(), gate, listings }.routes()
        });
        let listing = listing.unwrap_or_default();
        let guarded = |router| self.config.guarded(front, router);
        if is_open { guarded(api).merge(listing) } else { guarded(api.merge(listing)) }
    }
}

fn routes(inside: &Inside<'_>, relay: Option<Arc<Relay>>, others: Router) -> Router {
    let (front, hub) = (|| Arc::clone(inside.workers), || Arc::clone(inside.hub));
    let told = hub();
    let tell = move |session, end, is_open| told.relay_changed(session, end, is_open);
    let relay = RelayDoor { front: front(), relay, tell: Box::new(tell) }.routes();
    let registration =
        RegistrationDoor { front: front(), hub: hub(), gate: inside.gate.cloned() }.routes();
    let others = others.route("/readyz", get(ready).with_state(hub()));
    http::rendezvous(front(), relay.merge(registration), others)
}

/// Whether a load balancer is to send workers here.
async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    if hub.is_ready() {
        "OK".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, hub.store_trouble()).into_response()
    }
}

/// A worker asks the relay at one address of each family.
fn one_of_each_family(all: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = |is_ipv4| all.iter().copied().find(move |it| it.is_ipv4() == is_ipv4);
    [true, false].into_iter().filter_map(first).collect()
}

pub(crate) fn random_bytes() -> Result<[u8; 32], BindError> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| BindError::Random(error.to_string()))?;
    Ok(bytes)
}
