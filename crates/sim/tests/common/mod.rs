//! The origin of virtual time, and small conversions.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The origin of virtual time.
pub(crate) fn origin() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    Instant::now()
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect("invariant: written down well in a test")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("invariant: written down well in a test")
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
