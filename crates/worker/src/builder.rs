//! A worker's settings, one after the other.

use std::net::Ipv4Addr;
use std::path::Path;

use holepunch_link::{Identity, Protocols, RoomSecret, ServerName};
use holepunch_wire::WorkerId;
use holepunch_wire::session::{RoomMode, RoomName};

use crate::config::Config;
use crate::identity_file;
use crate::proxy::Proxy;
use crate::rendezvous_url::RendezvousUrl;
use crate::token::Token;
use crate::worker::{StartError, Worker};

/// What a worker is to be: [`Worker::builder`]. What a setting cannot take is told by [`start`](Self::start).
#[derive(Debug)]
#[must_use = "a worker runs once it is started"]
pub struct Builder(Result<Config, StartError>);

impl Builder {
    pub(crate) fn new(rendezvous: &str) -> Self {
        let url = rendezvous.parse::<RendezvousUrl>();
        Self(url.map(Config::new).map_err(StartError::from))
    }

    fn set(self, set: impl FnOnce(&mut Config)) -> Self {
        self.try_set(|config| {
            set(config);
            Ok(())
        })
    }

    /// The first thing that is wrong is told.
    fn try_set(self, set: impl FnOnce(&mut Config) -> Result<(), StartError>) -> Self {
        Self(self.0.and_then(|mut config| {
            set(&mut config)?;
            Ok(config)
        }))
    }

    /// The room in which peers are met or called; without it the one of all that name none.
    pub fn room(self, name: &str) -> Self {
        self.try_set(|config| {
            config.room = RoomName::new(name)?;
            Ok(())
        })
    }

    /// Who is offered to whom in the room, where this worker is its first: two at a time without it.
    pub fn room_mode(self, mode: RoomMode) -> Self {
        self.set(|config| config.room_mode = Some(mode))
    }

    /// What the peers of all links have to know as well.
    pub fn room_secret(self, words: &str) -> Self {
        let secret = Some(RoomSecret::new(words)).filter(|secret| !secret.is_empty());
        self.set(|config| config.room_secret = secret)
    }

    /// The names of what is spoken over the links, the one that is liked best first: there is a link with those alone that
    /// speak one of them. Without any, there is one with those alone that have named none.
    pub fn protocols(self, names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.try_set(|config| {
            config.protocols = Protocols::new(names)?;
            Ok(())
        })
    }

    /// The worker's key; a fresh one without it.
    pub fn identity(self, identity: Identity) -> Self {
        self.set(|config| config.identity = Some(identity))
    }

    /// The worker's key in this file, PEM with PKCS #8, which is written where there is none.
    pub fn identity_file(self, path: impl AsRef<Path>) -> Self {
        self.try_set(|config| {
            config.identity = Some(identity_file::load_or_create(path.as_ref())?);
            Ok(())
        })
    }

    /// The worker's id; the one of its key without it.
    pub fn worker_id(self, id: &str) -> Self {
        self.try_set(|config| {
            config.worker_id = Some(WorkerId::new(id)?);
            Ok(())
        })
    }

    /// STUN servers, each a host and a port, beside those that the rendezvous names.
    pub fn stun_servers(self, servers: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.try_set(|config| {
            for server in servers {
                config.stun_servers.push(server.as_ref().parse::<ServerName>()?);
            }
            Ok(())
        })
    }

    /// The token that lets this worker in, as whoever runs the rendezvous gives it out.
    pub fn token(self, text: &str) -> Self {
        self.try_set(|config| {
            config.token = Some(Token::new(text)?);
            Ok(())
        })
    }

    /// The proxy through which the rendezvous is reached.
    pub fn proxy(self, proxy: Proxy) -> Self {
        self.set(|config| config.proxy = Some(proxy))
    }

    /// Whether links may go through the relays that the rendezvous offers: yes without it.
    pub fn relay(self, relay: bool) -> Self {
        self.set(|config| config.relay = relay)
    }

    /// Whether peers are told the addresses of the own interfaces: yes without it.
    pub fn host_candidates(self, told: bool) -> Self {
        self.set(|config| config.host_candidates = told)
    }

    /// Whether the router is asked for a port: yes without it.
    #[cfg(feature = "port-mapping")]
    pub fn port_mapping(self, asked: bool) -> Self {
        self.set(|config| config.port_mapping = asked)
    }

    /// The local address of the UDP port; all of them without it.
    pub fn listen_ip(self, ip: Ipv4Addr) -> Self {
        self.set(|config| config.listen_ip = ip)
    }

    /// The UDP port for STUN and peers; any free one without it.
    pub fn udp_port(self, port: u16) -> Self {
        self.set(|config| config.udp_port = port)
    }

    /// The TCP port of an HTTP server for a platform's health check, 0 for any free one; no server without it.
    #[cfg(feature = "health")]
    pub fn health_port(self, port: u16) -> Self {
        self.set(|config| config.health_port = Some(port))
    }

    /// Everything at once, for what has no method here.
    pub fn configure(self, change: impl FnOnce(&mut Config)) -> Self {
        self.set(change)
    }

    /// Starts the worker. It goes on until it is shut down or dropped, whatever the network does.
    ///
    /// # Errors
    /// A setting cannot be taken, or the system lacks what the worker needs. Whether the rendezvous is reached is told by
    /// what waits for it: [`Worker::connect`] and [`Worker::accept`].
    pub async fn start(self) -> Result<Worker, StartError> {
        Worker::start(self.0?).await
    }
}
