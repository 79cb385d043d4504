//! Socket and clock around [`holepunch_traversal`]: one UDP port for STUN, waiting and peers.
//!
//! [`Port::open`] binds the socket. Its owner then gives it what the rendezvous says
//! ([`Port::handle`]) and awaits [`Port::next_event`] in a loop; nothing moves while nobody awaits.
//! Datagrams, timers and name look-ups are all served inside that one call, so a port has no task
//! and no queue of its own.

mod port;
mod resolve;

pub use holepunch_traversal::{
    Config as TraversalConfig, Dropped, Event, FailReason, Input, LostReason, NatMapping,
    OfferRefusal, StunServer,
};
pub use port::{OpenError, Port};
pub use resolve::{ServerName, ServerNameError};
