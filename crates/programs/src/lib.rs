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
mod messages;
pub mod pipe;
mod sending;
mod size_limit;
pub mod transfer;

/// Whether the peer has ended the link on purpose, at the end of its program or by an interruption: neither
/// the network nor a failure has.
#[must_use]
pub fn is_orderly(end: &LinkError) -> bool {
    let is_orderly = |code| matches!(code, CloseCode::Done | CloseCode::Interrupted);
    matches!(end, LinkError::ClosedByPeer(close) if is_orderly(close.code))
}

use holepunch_link::{CloseCode, LinkError};

pub use agree::{AgreeError, Agreed, Greeting, agree, greet, hear};
pub use ending::{Silent, Tell};
pub use messages::{MESSAGE_BYTES_MAX, MessageError, read_frame, read_message, write_message};
pub use size_limit::outlive_the_size_limit;
