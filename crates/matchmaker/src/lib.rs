//! The rendezvous' side of pairing, without IO: who is connected, who waits, who is paired.
//!
//! A [`Desk`] for each WebSocket, the halls of the rooms ([`Halls`]), and a [`Registry`]: plain data crosses between them.
//! [`Matchmaker`] puts them together, as one machine for all connections. The server feeds it what happens on the
//! sockets and carries out what it says:
//!
//! 1. [`Input::Connected`]: a WebSocket is open. An older connection of the same id is closed (1000); where
//!    that one has proved a key, only when the new one has proved the same. An id that is made from a key
//!    is registered with the proof alone; whoever does not give it is closed (1008).
//! 2. [`Input::Message`]: reports, questions. A report that is accepted puts its worker at the end
//!    of the ready queue; as soon as two that can be linked wait, both leave the queue and each is
//!    offered the other.
//! 3. [`Input::Pong`], and pings by the clock: a connection whose ping is overdue is not offered to
//!    anybody; one that never answers is closed (1011).
//! 4. [`Input::Closed`]: the worker leaves registry and queue, if the connection is still its current one.
//!
//! Five doors: [`handle_input`](Matchmaker::handle_input), [`handle_timeout`](Matchmaker::handle_timeout),
//! [`poll_transmit`](Matchmaker::poll_transmit), [`poll_timeout`](Matchmaker::poll_timeout),
//! [`poll_event`](Matchmaker::poll_event). Drain the polls after each handle.

mod bindings;
mod board;
mod card;
mod cluster;
mod desk;
mod doors;
mod expiring;
mod hall;
mod halls;
mod left;
mod machine;
mod names;
mod permit;
mod places;
pub mod plan;
mod registry;
mod seat;

pub use board::Board;
pub use card::{Card, CardV1};
pub use cluster::{ClaimError, Envelope, Epoch, LEASE, Letter, Packet, Reply, Request, Store};
pub use desk::{
    Answer, Arrival, Desk, Errand, Note, Out, Question, Surroundings, Unreachable, WakeReason,
    echo_response,
};
pub use doors::{
    Action, Closing, Config, ConnectionId, DropReason, Event, Input, LeaveReason, News,
    NotAdmitted, Observed, Protocol, Told, Transmit, Worker,
};
pub use hall::{EndView, MemberView, RoomView, SessionView};
pub use halls::Halls;
pub use machine::Matchmaker;
pub use names::{Member, Room};
pub use permit::{Patterns, Permit};
pub use registry::{Claimed, Listed, ListedWorker, Registry, Seen, Whereabouts};
/// What every store keeps to, whatever it is made of.
pub mod limits {
    pub use crate::bindings::{
        BINDINGS_MAX, BINDINGS_OF_SITE_MAX, BINDINGS_OF_SOURCE_MAX, BOUND_FOR,
    };
    pub use crate::cluster::LEASE;
    pub use crate::hall::RESUME_WITHIN;
    pub use crate::left::{ROOMS_MAX, TOKENS_MAX};
    pub use crate::registry::REPLACING_MAX;
}

pub use seat::{Command, Effect, Held, InstanceId, Over, Resumes, Seat};
