//! Socket and clock around [`holepunch_traversal`]: one UDP port for STUN, waiting and peers.
//!
//! [`Port::open`] binds the socket. Its owner then gives it what the rendezvous says
//! ([`Port::handle`]) and awaits [`Port::next_event`] in a loop; nothing moves while nobody awaits.
//! Datagrams of the worker's own socket, timers and name look-ups are all served inside that one
//! call. Further sockets, which come and go with a search, have a task each that reads them into one
//! bounded queue.

mod datagrams;
pub mod dial;
mod failure;
mod identity;
mod link;
mod links;
#[cfg(any(test, feature = "testing"))]
pub mod machine;
mod mux;
mod port;
#[cfg_attr(not(feature = "port-mapping"), path = "port_mapping/absent.rs")]
mod port_mapping;
mod protocol;
mod quic;
pub mod quic_paths;
mod resolve;
mod sockets;
mod surroundings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;

pub use datagrams::{DatagramLine, DatagramReads};
pub use failure::{Blame, FailureCode};
pub use holepunch_traversal::{
    Config as TraversalConfig, Dropped, Event, FailReason, Input, LostReason, NatMapping,
    NoEndpoint, OfferRefusal, PathInfo, SearchRefusal, SessionEvent, SessionFailure, SessionStatus,
    SocketId, StunServer,
};
pub use identity::{Identity, IdentityError};
pub use link::{
    BiStream, Close, CloseCode, DatagramError, Link, LinkError, LinkPath, PathEvent, PathEvents,
    PathKind, ReadError, RecvStream, SendStream, Traffic, WriteError,
};
pub use links::{
    Guesses, LinkConfig, LinkEvent, RelayEnd, RelayKind, RoomSecret, SESSION_GUESSES_MAX,
};
pub use mux::PacketDrops;
pub use port::{OpenError, Port, PortEvent};
#[cfg(feature = "port-mapping")]
pub use port_mapping::{RouterAnswer, ask_router};
pub use protocol::{PROTOCOL_BYTES_MAX, PROTOCOLS_MAX, Protocols, ProtocolsError};
pub use resolve::{ServerName, ServerNameError};
pub use tls::ALPN;
