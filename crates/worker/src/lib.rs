//! The worker, as a library: [`Worker::start`] registers with a rendezvous, learns its public UDP
//! endpoint, and links with the peers that it is offered; [`Worker::shutdown`] ends it within a
//! second.
//!
//! | module | what |
//! | --- | --- |
//! | `worker` | the worker as a program sees it |
//! | `run` | its one task: what the rendezvous says goes to the UDP port, what the port says goes to the rendezvous |
//! | `reach`, `dial`, `proxy`, `login`, `tls` | how a connection to the rendezvous comes about |
//! | `relay` | the second WebSocket of a session, for its packets |
//! | `turn` | an address on a TURN server, for packets where nothing else serves |
//! | `identity_file` | the worker's key in a file |
//! | `signalling` | the WebSocket: connects, pings, reconnects with backoff |
//! | `health` | the HTTP server that a platform's health check asks |
//! | `ip_echo` | the HTTP look-up of the public IP, off the critical path |
//! | `story` | what has happened to each session, in words |
//! | `log_budget` | a bound on what a rendezvous can make a worker log |
//! | `no_endpoint` | no STUN server answers: what that means, in words |
//! | `notice` | what happened, for logs and for programs that embed a worker |
//!
//! Discovery, punching and keep-alive are [`holepunch_link`]'s; a WebSocket that drops does not
//! touch them.

mod config;
mod dialer;
mod health;
mod identity_file;
mod ip_echo;
mod log_budget;
mod login;
mod nat_words;
mod no_endpoint;
mod notice;
mod proxy;
mod reach;
mod relay;
mod run;
mod signalling;
mod story;
mod tls;
mod turn;
mod worker;

pub use config::{Config, RendezvousUrl, UrlError};
pub use dialer::Dialer;
pub use health::ask_why;
pub use holepunch_link::dial::without_name;
pub use holepunch_link::{
    DatagramError, Event, Guesses, Identity, Link, LinkError, LinkPath, PathEvent, PathEvents,
    PathKind, ReadError, RecvStream, RoomSecret, SESSION_GUESSES_MAX, SendStream, ServerName,
    WriteError,
};
pub use holepunch_wire::WorkerId;
pub use holepunch_wire::signal::v1::{ErrorCode, ServerV1};
pub use holepunch_wire::signal::{Complaint, FromServer, Offer};
pub use identity_file::{IdentityFileError, load_or_create};
pub use no_endpoint::{Left, Unseen};
pub use notice::{Notice, milliseconds};
pub use proxy::{Proxy, ProxyError};
pub use signalling::Signal;
pub use signalling::handshake::{Asking, Opened};
pub use signalling::stream::Stream;
pub use story::{Line, Stories, Story};
#[cfg(any(test, feature = "testing"))]
pub use turn::testing as turn_testing;
pub use worker::{Links, StartError, Worker};
