//! Which paths a link has, and by which one this side sends, without IO.
//!
//! A link is one QUIC connection between two workers, with paths by several routes: directly from worker to worker, and by
//! relays. [`Paths`] is one machine for one link, on either side of it. A driver tells it which routes there are, what
//! QUIC says of the paths, and the time; it says what to open, to close and to ping, and by which path to send. Its life:
//!
//! 1. **First path** ([`Paths::new`]): the one by which the connection was made.
//! 2. **Open** ([`Action::Open`]): the side that connected opens a path by each route that has none. An attempt that comes to
//!    nothing is made again, further and further apart.
//! 3. **Choose** ([`Event::Active`]): the direct path while it answers checks and carries data, else a relay.
//! 4. **Doubt** ([`Event::Doubt`]): data is under way on the direct path, and nothing comes back or nothing of it is acknowledged: a
//!    check is to tell. A path that answers checks and carries no data first sends its packets one by one ([`Action::Unbatch`]), and is then narrow
//!    ([`Event::Narrow`]): another one is used.
//! 5. **Detour** ([`Action::Exchange`]): the only path is cut before QUIC can open another one: its packets go by the relay, or by
//!    the direct route where it was the relay that was cut.
//! 6. **Follow** ([`Action::Locate`]): the peer has another address, and QUIC knows.
//! 7. **End** ([`Event::Ended`]): the session is over, or there has been no route for long.
//!
//! Five doors: [`handle_input`](Paths::handle_input), [`handle_timeout`](Paths::handle_timeout),
//! [`poll_transmit`](Paths::poll_transmit), [`poll_timeout`](Paths::poll_timeout), [`poll_event`](Paths::poll_event). Drain
//! the polls after each handle; an action that is a question is answered at once ([`Input::Answer`]).

mod again;
mod detour;
mod doors;
mod follow;
mod invariants;
mod machine;
mod nudges;
mod progress;
mod rank;
mod settle;
mod standing;
mod table;
#[cfg(test)]
mod tests;

pub use doors::{
    Action, Answer, Counts, End, Event, Input, Listed, PathId, Reason, Route, Routes, Status,
    WakeReason,
};
pub use machine::{PATHS_MAX, Paths};

/// A moment for tests to count from.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "no clock: the test's time is its own")]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}
