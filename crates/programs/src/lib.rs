//! What people do over a link. Each program takes a [`Link`](holepunch_link::Link) and whatever it reads
//! from and writes to; none knows how the link came about.
//!
//! Both sides greet each other first ([`agree`]): a program learns at once when the peer runs another
//! one.

mod agree;
pub mod bench;
pub mod chat;
mod ending;
pub mod forward;
mod harmless;
mod messages;
pub mod pipe;
mod sending;
mod size_limit;
pub mod transfer;

/// The reason with which a link is closed after its program has come to its end. Any other reason says
/// that the program was cut short.
pub const DONE: &str = "done";
/// The reason with which a link is closed by a person who interrupts the program.
pub const INTERRUPTED: &str = "interrupted";

/// The reason with which a link is closed by a worker whose program has another link.
pub const BUSY: &str = "busy with another link";

/// Whether the peer has ended the link on purpose, at the end of its program or by an interruption: neither
/// the network nor a failure has.
#[must_use]
pub fn is_orderly(end: &LinkError) -> bool {
    matches!(end, LinkError::ClosedByPeer(reason) if reason == DONE || reason == INTERRUPTED)
}

use holepunch_link::LinkError;

pub use agree::{AgreeError, Agreed, Greeting, agree, greet, hear};
pub use ending::{Silent, Tell};
pub use harmless::{harmless, harmless_json};
pub use messages::{MESSAGE_BYTES_MAX, MessageError, read_frame, read_message, write_message};
pub use size_limit::outlive_the_size_limit;
