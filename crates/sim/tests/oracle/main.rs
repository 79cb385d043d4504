//! The oracle against the guide's table, and against packets in the simulated network.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../net/world.rs"]
mod world;

mod puncher;
mod table;
