//! A worker that speaks `holepunch.v1` against a rendezvous, STUN servers and peers that are all
//! played by the test, on real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod baseline;
mod frames;
mod links;
mod offers;
mod opening;
mod profile;
mod relay;
mod relay_elsewhere;
mod resume;
mod saying;
mod scene;
mod search;
