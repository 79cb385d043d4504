//! The peer's side of punching, without IO: from one UDP socket to a link with another worker.
//!
//! [`Traversal`] is one machine for one worker: its own socket, and those that a search opens. A
//! driver gives it datagrams, offers and the time, and carries out what it says. Its life:
//!
//! 1. **Discovery** ([`Event::Resolve`], [`Input::Resolved`]): Binding requests to all STUN servers
//!    at once from the socket that later carries data; the first answer is the public endpoint.
//!    It is refreshed from the same socket, so that the mapping lives while the worker waits, and a
//!    change is seen. Servers that have an IPv6 address are asked from the IPv6 socket as well.
//! 2. **Profile** ([`Event::Profile`]): what the NATs do, where a server offers the tests.
//! 3. **Report** ([`Event::Report`], [`Event::Signal`]): whenever the worker is registered, free, and
//!    has something new to say: a first endpoint, another one, or the wish for another peer. Where no
//!    STUN server answers by IPv4, [`Event::NoEndpoint`] says what is left.
//! 4. **Session** ([`Input::SessionOffer`]): checks in ICE's form to all addresses of the peer and to
//!    the sources that its checks come from; a search where the plan has one and both have accepted
//!    it; the path, its keep-alive, its repair. A packet that does not prove itself moves nothing.
//! 5. **Punch** ([`Input::Offer`]), with a peer that speaks the baseline: the text PINGs of
//!    [`holepunch_wire::probe`]. They are not authenticated: whoever knows both ids can pretend to be
//!    the peer.
//!
//! Five doors: [`handle_input`](Traversal::handle_input), [`handle_timeout`](Traversal::handle_timeout),
//! [`poll_transmit`](Traversal::poll_transmit), [`poll_timeout`](Traversal::poll_timeout),
//! [`poll_event`](Traversal::poll_event). Drain the polls after each handle.

mod answers;
mod baseline;
mod budget;
mod discovery;
mod doors;
mod ipv6;
mod machine;
mod no_endpoint;
mod pairing;
mod profile;
mod reporting;
mod schedule;
mod session;
mod sessions;
mod sockets;
mod whereabouts;

pub use discovery::nat::NatMapping;
pub use doors::{
    Config, Dropped, Event, FailReason, Input, LostReason, NoEndpoint, OfferRefusal, PathInfo,
    RelayState, SearchRefusal, SessionEvent, SessionFailure, SessionStatus, SocketId, StunServer,
    Surroundings, Transmit, WakeReason,
};
pub use machine::Traversal;
