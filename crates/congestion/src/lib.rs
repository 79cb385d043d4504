//! How fast a path of a link is sent on.
//!
//! Cubic takes every lost packet for a queue that overflows. On a radio link, or a line that loses one packet in a hundred for
//! reasons of its own, it comes to a standstill. [`Bbr`] measures instead: what is delivered in a second, and how long the
//! shortest round trip is. The product is what the path holds; 1.75 times that may be in flight, and what is sent is paced at
//! the rate of delivery.
//!
//! Logic alone: the QUIC machine tells what it sends and what is acknowledged, and when.

mod aggregation;
mod bbr;
mod config;
mod controller;
mod cycle;
mod filter;
mod gain;
mod losses;
mod min_rtt;
mod sampler;
mod startup;
#[cfg(test)]
mod tests;

pub use bbr::Bbr;
pub use config::BbrConfig;

/// A moment for tests to count from.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "no clock: the test's time is its own")]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}
