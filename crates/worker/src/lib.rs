//! The worker, as a library: it registers with a rendezvous, learns its public UDP endpoint, and links with the peers that
//! it calls ([`Worker::connect`]) or is offered ([`Worker::accept`]); [`Worker::shutdown`] ends it within a second.
//!
//! ```
//! use holepunch_worker::Worker;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # use holepunch_rendezvous::{AdminConfig, Config, MatchmakerConfig, RelayLimits, Server};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let any_port: std::net::SocketAddr = "127.0.0.1:0".parse()?;
//! # let server = Server::bind(Config {
//! #     listen: any_port,
//! #     stun_listen: vec![any_port],
//! #     stun_is_optional: false,
//! #     stun_answers_max: None,
//! #     auth: Default::default(),
//! #     listing: false,
//! #     admin: AdminConfig::default(),
//! #     open_files_max: None,
//! #     trusted_proxies: Vec::new(),
//! #     proxy_protocol: false,
//! #     tls: None,
//! #     public_hosts: Vec::new(),
//! #     stun_advertise: Vec::new(),
//! #     relay: Some(RelayLimits::default()),
//! #     matchmaker: MatchmakerConfig { allow_private: true, ..MatchmakerConfig::default() },
//! # })?;
//! # let url = format!("http://{}", server.http_address());
//! // Two of these, on any two machines: `url` is that of the rendezvous, https://rendezvous.example, say.
//! let start = || Worker::builder(&url).room("tea").protocols(["greeting/1"]).start();
//! let (first, second) = (start().await?, start().await?);
//!
//! let (link, other) = tokio::join!(first.accept(), second.accept());
//! let (link, other) = (link?, other?);
//! println!("linked with {}, {}", link.peer(), link.path().kind);
//!
//! let mut stream = link.open_stream().await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//!
//! let mut said = String::new();
//! other.accept_stream().await?.read_to_string(&mut said).await?;
//! assert_eq!(said, "hello");
//! tokio::join!(first.shutdown(), second.shutdown());
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Each setting that is wrong, each failure to reach the rendezvous and each link that does not come about is an error with
//! a [`FailureCode`] and a [`Blame`]: texts are for people, and may change.
//!
//! Features, all on by default: `health` (an HTTP server for a platform's health check), `idna` (host names beyond ASCII),
//! `ip-echo` (the public IP, as an HTTP service sees it), `port-mapping` (UPnP, NAT-PMP and PCP), `proxy` (the proxy that
//! the environment names) and `turn` (TURN servers as further relays). A worker without them links as well, over fewer
//! ways, and has half as many crates.
//!
//! | module | what |
//! | --- | --- |
//! | `worker`, `builder`, `failure` | the worker as a program sees it |
//! | `handover` | between that and its task: links that have come, peers that are called |
//! | `run` | its one task: what the rendezvous says goes to the UDP port, what the port says goes to the rendezvous |
//! | `reach`, `url`, `proxy`, `login`, `token`, `tls` | how a connection to the rendezvous comes about |
//! | `steps` | the same step by step, for a program that tells which one fails |
//! | `relay` | the second WebSocket of a session, for its packets |
//! | `turn` | an address on a TURN server, for packets where nothing else serves |
//! | `identity_file` | the worker's key in a file |
//! | `signalling` | the WebSocket: connects, pings, reconnects with backoff |
//! | `health` | the HTTP server that a platform's health check asks |
//! | `ip_echo` | the HTTP look-up of the public IP, off the critical path |
//! | `story` | what has happened to each session, in words |
//! | `no_endpoint` | no STUN server answers: what that means, in words |
//! | `notice` | what happened, for logs and for programs that embed a worker |
//!
//! Discovery, punching and keep-alive are [`holepunch_link`]'s; a WebSocket that drops does not
//! touch them.

mod builder;
mod config;
mod dialer;
mod failure;
mod handover;
#[cfg_attr(not(feature = "health"), path = "health/absent.rs")]
mod health;
mod identity_file;
#[cfg(feature = "ip-echo")]
mod ip_echo;
mod login;
mod nat_words;
mod no_endpoint;
mod notice;
mod proxy;
mod reach;
mod relay;
mod rendezvous_url;
mod run;
mod signalling;
#[cfg(feature = "steps")]
mod steps;
mod story;
mod tls;
mod token;
#[cfg_attr(not(feature = "turn"), path = "turn/absent.rs")]
mod turn;
mod url;
mod worker;

pub use builder::Builder;
pub use config::{Config, SettingNames};
pub use failure::{AcceptError, ConnectError, RendezvousError};
pub use holepunch_link::{
    BiStream, Blame, Close, CloseCode, DatagramError, FailureCode, Guesses, Identity,
    IdentityError, Link, LinkError, LinkPath, PROTOCOL_BYTES_MAX, PROTOCOLS_MAX, PathEvent,
    PathEvents, PathKind, Protocols, ProtocolsError, ReadError, RecvStream, RoomSecret,
    SESSION_GUESSES_MAX, SendStream, ServerName, ServerNameError, Traffic, WriteError,
};
pub use holepunch_wire::identity::PublicKey;
pub use holepunch_wire::nat::SearchWish;
pub use holepunch_wire::session::{RoomMode, RoomName, RoomNameError, SessionId};
pub use holepunch_wire::{WorkerId, WorkerIdError};
pub use identity_file::{IdentityFileError, load_or_create};
pub use no_endpoint::{Left, Unseen};
pub use notice::Notice;
pub use proxy::Proxy;
#[cfg(feature = "proxy")]
pub use proxy::ProxyError;
pub use rendezvous_url::{RendezvousUrl, UrlError};
/// The URL of the service that tells the public IP, and of a health server.
#[cfg(any(feature = "health", feature = "ip-echo"))]
pub use reqwest::Url;
pub use story::{Line, Stories, Story};
pub use token::{Token, TokenError};
/// What datagrams and chunks of a link are.
pub use tokio_tungstenite::tungstenite::Bytes;
pub use url::WebSocketUrl;
pub use worker::{Links, StartError, Worker};

// What the programs of this project need beside, and what notices tell of the protocols below: no interface, and free to
// change with any version.
#[doc(hidden)]
pub use dialer::Dialer;
#[cfg(feature = "health")]
#[doc(hidden)]
pub use health::ask_why;
#[doc(hidden)]
pub use holepunch_link::dial::without_name;
#[doc(hidden)]
pub use holepunch_link::{Event, SessionEvent};
#[doc(hidden)]
pub use holepunch_wire::signal::v1::{ErrorCode, ServerV1};
#[doc(hidden)]
pub use holepunch_wire::signal::{Complaint, FromServer, Offer};
#[doc(hidden)]
pub use nat_words::in_words as nat_in_words;
#[doc(hidden)]
pub use notice::milliseconds;
#[doc(hidden)]
pub use relay::RelayUrl;
#[doc(hidden)]
pub use signalling::Signal;
#[doc(hidden)]
pub use signalling::handshake::{Asking, Opened};
#[doc(hidden)]
pub use signalling::stream::Stream;
#[cfg(feature = "steps")]
#[doc(hidden)]
pub use steps::{Certificate, Index, Steps};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use turn::testing as turn_testing;
