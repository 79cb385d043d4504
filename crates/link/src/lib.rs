//! Socket and clock around [`holepunch_traversal`]: one UDP port for STUN, waiting and peers.
//!
//! [`Port::open`] binds the socket. Its owner then gives it what the rendezvous says
//! ([`Port::handle`]) and awaits [`Port::next_event`] in a loop; nothing moves while nobody awaits.
//! Datagrams of the worker's own socket, timers and name look-ups are all served inside that one
//! call. Further sockets, which come and go with a search, have a task each that reads them into one
//! bounded queue.

mod port;
mod port_mapping;
mod resolve;
mod sockets;
mod surroundings;

pub use holepunch_traversal::{
    Config as TraversalConfig, Dropped, Event, FailReason, Input, LostReason, NatMapping,
    OfferRefusal, PathInfo, SearchRefusal, SessionEvent, SessionFailure, SessionStatus, SocketId,
    StunServer,
};
pub use port::{OpenError, Port};
pub use resolve::{ServerName, ServerNameError};
