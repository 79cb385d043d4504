//! What crosses a network, and what bounds those who send it: no sockets, no clock, no decisions.
//!
//! | module | what | written by | read by |
//! | --- | --- | --- | --- |
//! | [`id`] | the name of a worker | both | both |
//! | [`address`] | what kind of address an IP is, whether a peer could be reached there, and whose share it takes | – | both |
//! | [`nat`] | the NAT profile | worker | both |
//! | [`candidate`] | addresses at which a worker may be reached | worker | both |
//! | [`reason`], [`close_code`] | why something ends or is refused: codes, and their texts | rendezvous | worker |
//! | [`session`] | the names of sessions and rooms, and what becomes of them | both | both |
//! | [`plan`] | what one side of a pair does to open a direct path | rendezvous | worker |
//! | [`credentials`] | what peers prove to each other in checks | rendezvous | worker |
//! | [`signal`] | JSON messages on the WebSocket | both | both |
//! | [`probe`] | text PINGs and PONGs between two workers | worker | worker |
//! | [`check`] | connectivity checks (RFC 8445) | worker | worker |
//! | [`stun`] | STUN Binding (RFC 8489, 5780, and the classic 3489 form) | both | both |
//! | [`relay`] | the relay's WebSocket, and the tokens that open it | rendezvous, worker | worker, relay |
//! | [`turn`] | where TURN servers are, and the credentials that open them | rendezvous | worker |
//! | [`rate`], [`shares`], [`text`] | how often, who has how much, and others' texts made harmless | – | both |
//!
//! Every decoder takes whatever comes: it answers with a value or with an error that says what was
//! expected, never with a panic, and it allocates no more than the input is long.

pub mod address;
pub mod candidate;
pub mod check;
pub mod close_code;
pub mod credentials;
pub mod id;
pub mod identity;
pub mod nat;
pub mod plan;
pub mod probe;
pub mod rate;
pub mod reason;
pub mod relay;
pub mod session;
pub mod shares;
pub mod signal;
pub mod stun;
pub mod tenant;
pub mod text;
pub mod turn;

pub use id::{WorkerId, WorkerIdError};
