//! Sessions of `holepunch.v1` under a virtual clock: who is believed, how much is sent to whom, when a
//! search is made, and that nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one event among many")]

mod amount;
mod asymmetry;
mod budget;
mod nats;
mod no_endpoint;
mod op;
mod operations;
mod rig;
mod search;
mod sessions;
mod shares;
mod trust;
mod world;

use std::time::Duration;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
