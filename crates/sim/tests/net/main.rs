//! Packets through boxes, links and segments.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod catalogue;
mod paths;
mod shared;
mod stun;
mod ttl;
mod upheaval;
mod world;
