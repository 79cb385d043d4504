//! What people do over a link. Each program takes a [`Link`](holepunch_link::Link) and whatever it reads
//! from and writes to; none knows how the link came about.
//!
//! Both sides greet each other first ([`agree`]): a program learns at once when the peer runs another
//! one.

mod agree;
pub mod bench;
mod messages;
pub mod transfer;

pub use agree::{AgreeError, Agreed, Greeting, agree};
pub use messages::{MESSAGE_BYTES_MAX, MessageError, read_message, write_message};
