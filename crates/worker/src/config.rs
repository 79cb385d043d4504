//! What a worker is to be.

use std::net::Ipv4Addr;
use std::time::Duration;

use holepunch_link::{Guesses, Identity, Protocols, RoomSecret, ServerName};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::SearchWish;
use holepunch_wire::session::{RoomMode, RoomName};
#[cfg(feature = "ip-echo")]
use reqwest::Url;

use crate::proxy::Proxy;
use crate::rendezvous_url::RendezvousUrl;
use crate::token::Token;

/// The port of STUN (RFC 8489 §14.1).
const STUN_PORT: u16 = 3478;
/// Time between two pings on the WebSocket, and for the answer: idle connections are often cut off after
/// a minute.
const PING: Duration = Duration::from_secs(25);

/// What the settings are called where people set them: texts that say what to do name them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingNames {
    /// The worker's id.
    pub worker_id: &'static str,
    /// The worker's key, or its id.
    pub identity: &'static str,
    /// The UDP port.
    pub udp_port: &'static str,
    /// The STUN servers.
    pub stun_servers: &'static str,
    /// How often discovery is repeated.
    pub stun_retries: &'static str,
    /// How relays are allowed again.
    pub relay: &'static str,
    /// How the addresses of the interfaces are told again.
    pub host_candidates: &'static str,
    /// The token.
    pub token: &'static str,
    /// How a rendezvous is told the names in its workers' URLs.
    pub public_host: &'static str,
    /// How a rendezvous is told whose X-Forwarded-Host it may believe.
    pub trusted_proxy: &'static str,
}

impl Default for SettingNames {
    /// As [`Config`] names them.
    fn default() -> Self {
        Self {
            worker_id: "`worker_id`",
            identity: "the same `identity` or `worker_id`",
            udp_port: "`udp_port`",
            stun_servers: "`stun_servers`",
            stun_retries: "`stun_retries_max`",
            relay: "`relay`",
            host_candidates: "`host_candidates`",
            token: "`token`",
            public_host: "its public hosts",
            trusted_proxy: "its trusted proxies",
        }
    }
}

/// What a worker is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the settings are called where people set them.
    pub names: SettingNames,
    /// The rendezvous.
    pub rendezvous: RendezvousUrl,
    /// The token that lets this worker in, where the rendezvous wants one.
    pub token: Option<Token>,
    /// The proxy through which it is reached.
    pub proxy: Option<Proxy>,
    /// Whether to speak the baseline only, and not to ask for `holepunch.v1`.
    pub baseline_only: bool,
    /// The room in which peers are sought; the default room without one.
    pub room: RoomName,
    /// Whether this worker wants to be the first in the room, and elsewhere if somebody is there: it hears
    /// [`ServerV1::RoomEntered`] or [`ErrorCode::RoomTaken`].
    ///
    /// [`ServerV1::RoomEntered`]: holepunch_wire::signal::v1::ServerV1::RoomEntered
    /// [`ErrorCode::RoomTaken`]: holepunch_wire::signal::v1::ErrorCode::RoomTaken
    pub room_fresh: bool,
    /// The mode of the room, where this worker is its first.
    pub room_mode: Option<RoomMode>,
    /// A worker to call: one in the same room, or one that is `callable`. Nobody else is linked with.
    pub peer: Option<WorkerId>,
    /// Whether whoever knows this worker's id may call it, from whatever room. The rendezvous' listing may show the id to
    /// everybody.
    pub callable: bool,
    /// Those alone that this worker is linked with, by whatever way they come; whoever comes where nobody is named. An id
    /// that was made from a key is safe from everybody.
    pub callers: Vec<WorkerId>,
    /// Whether peers are told the addresses of the own interfaces.
    pub host_candidates: bool,
    /// Whether the router is asked for a port, by UPnP, NAT-PMP or PCP.
    #[cfg(feature = "port-mapping")]
    pub port_mapping: bool,
    /// Which searches the worker takes part in.
    pub search: SearchWish,
    /// The worker's key; a fresh one without it.
    pub identity: Option<Identity>,
    /// Whether links are made of the sessions with peers that have a key too.
    pub links: bool,
    /// What the peers of all links have to know as well.
    pub room_secret: Option<RoomSecret>,
    /// How often all peers together may guess it, as long as the worker lives; without a bound by default.
    pub room_guesses: Guesses,
    /// Whether links may go through the relays that the rendezvous offers.
    pub relay: bool,
    /// The names of what is spoken over the links.
    pub protocols: Protocols,
    /// The worker's id; without one that of its key, and in the baseline a fresh UUID.
    pub worker_id: Option<WorkerId>,
    /// The local address of the health server and the UDP port; unspecified means all of them.
    pub listen_ip: Ipv4Addr,
    /// TCP port of the health server; 0 means any free one, `None` no server.
    #[cfg(feature = "health")]
    pub health_port: Option<u16>,
    /// The STUN servers, all of which are asked.
    pub stun_servers: Vec<ServerName>,
    /// How often discovery is repeated after it failed; for ever without a bound.
    pub stun_retries_max: Option<u32>,
    /// The pause before each repetition; exponential backoff without it.
    pub stun_retry_delay: Option<Duration>,
    /// The UDP port for STUN and peers; 0 means any free one.
    pub udp_port: u16,
    /// Time between two pings on the WebSocket.
    pub ping_interval: Duration,
    /// Time that a ping may stay without an answer before the connection is given up.
    pub ping_timeout: Duration,
    /// The HTTP service that answers with the caller's IP; `None` turns the look-up off.
    #[cfg(feature = "ip-echo")]
    pub ip_echo_url: Option<Url>,
}

impl Config {
    /// What a program that embeds a worker starts from: no health server, no look-up over HTTP, any free
    /// UDP port; the STUN server that a rendezvous has at its own address, beside those that it names.
    #[must_use]
    pub fn new(rendezvous: RendezvousUrl) -> Self {
        let stun = ServerName::new(rendezvous.host(), STUN_PORT);
        Self {
            names: SettingNames::default(),
            rendezvous,
            token: None,
            proxy: None,
            baseline_only: false,
            room: RoomName::default(),
            room_fresh: false,
            room_mode: None,
            peer: None,
            callable: false,
            callers: Vec::new(),
            host_candidates: true,
            #[cfg(feature = "port-mapping")]
            port_mapping: true,
            search: SearchWish::Usual,
            identity: None,
            links: true,
            room_secret: None,
            room_guesses: Guesses::default(),
            relay: true,
            protocols: Protocols::default(),
            worker_id: None,
            listen_ip: Ipv4Addr::UNSPECIFIED,
            #[cfg(feature = "health")]
            health_port: None,
            stun_servers: stun.into_iter().collect(),
            stun_retries_max: None,
            stun_retry_delay: None,
            udp_port: 0,
            ping_interval: PING,
            ping_timeout: PING,
            #[cfg(feature = "ip-echo")]
            ip_echo_url: None,
        }
    }
}
