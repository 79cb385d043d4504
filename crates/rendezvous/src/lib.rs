//! The rendezvous service, as a library: [`Server::bind`] opens HTTP, WebSocket and STUN, and
//! [`Server::shutdown`] ends them within a second. [`RelayServer`] is a relay alone.
//!
//! | module | what |
//! | --- | --- |
//! | `server` | a rendezvous, from its start to its end |
//! | `listening` | the socket for HTTP opens, and closes when all have gone |
//! | `open_files` | how many connections fit under the system's limit |
//! | `front` | connections are taken; one hyper connection per client |
//! | `connections`, `pace`, `client_io` | who has a place among them, and for how long without a word |
//! | `client_stream`, `tls` | a connection is TCP, or TLS over it; certificate and key, and when they change |
//! | `http` | paths |
//! | `tokens` | who may enter: what a token says, and whether it is good |
//! | `registration` | who may register, and how |
//! | `well_formed` | what every request and every WebSocket handshake must be like |
//! | `client_address` | who a client is, behind a proxy too |
//! | `forwarded` | what a trusted proxy says about a request |
//! | `proxy_protocol` | who the client of a proxy is that passes on bytes alone |
//! | `identity` | what a worker signs to prove its key, and whether it has |
//! | `websocket`, `close_watch` | a request becomes a WebSocket; how its client may close it |
//! | `signalling` | one WebSocket: frames in, actions out |
//! | `clerk` | who serves the desk of one WebSocket |
//! | `outbox`, `mailbox` | what waits to be written to one WebSocket, and what its desk is to be told |
//! | `hub` | what all desks have in common: the board, and its clock |
//! | `peers` | several rendezvous as one |
//! | `telling` | what happens is told once: to the log, the metrics, the event stream and the relay |
//! | `metrics` | what happens and what is there, as `GET /metrics` |
//! | `events`, `links` | the last events, and what workers report of their links |
//! | `traces` | what becomes of sessions, for a collector of OpenTelemetry (feature `otel`) |
//! | `api` | `/metrics` and `/api/v1` |
//! | `admin` | who may look at those |
//! | `refused` | requests that are refused are counted by the reason |
//! | `log_budget` | a bound on what strangers can make the server log |
//! | `origin` | web pages of other sites open no WebSockets |
//! | `relay` | messages between two workers that have no direct path |
//! | `listing` | `GET /debug/list_workers` |
//! | `stun` | the STUN server on UDP |
//!
//! Every decision about workers is made in [`holepunch_matchmaker`]; nothing here pairs anybody.

mod admin;
mod api;
mod clerk;
mod client_address;
mod client_io;
mod client_stream;
mod close_watch;
mod connections;
mod events;
mod forwarded;
mod front;
mod http;
mod hub;
mod identity;
mod links;
mod listening;
mod listing;
mod log_budget;
mod mailbox;
mod metrics;
mod open_files;
mod origin;
mod outbox;
mod pace;
mod peers;
mod proxy_protocol;
mod refused;
mod registration;
mod relay;
mod server;
mod signalling;
mod stun;
mod telling;
mod tls;
pub mod tokens;
#[cfg(feature = "otel")]
mod traces;
mod websocket;
mod well_formed;

pub use admin::{AdminConfig, AdminToken, AdminTokenError};
pub use holepunch_matchmaker::{Config as MatchmakerConfig, InstanceId, Packet, Reply, Request};
pub use ipnet::IpNet;
pub use listening::BindError;
pub use open_files::{RESERVED as OPEN_FILES_RESERVED, limit as open_files_limit};
pub use peers::{Fabric, Later, MemoryFabric, MemoryStore, Parcel, Peers, Store};
#[cfg(feature = "testing")]
pub use relay::testing;
pub use relay::{RelayConfig, RelayDrop, RelayLimits, RelayServer};
pub use server::{Config, Server};
pub use stun::ANSWERS_MAX as STUN_ANSWERS_MAX;
#[cfg(feature = "acme")]
pub use tls::AcmeSettings;
pub use tls::{Expected as TlsExpected, Tls, TlsCounts, TlsError, TlsFiles};
pub use tokens::Auth;
#[cfg(feature = "otel")]
pub use traces::{OtlpEndpoint, OtlpEndpointError};
