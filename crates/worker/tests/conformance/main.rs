//! A worker against a rendezvous, STUN servers, an IP echo service and peers that are all played by
//! the test, on real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod connection;
mod datagrams;
mod end;
mod health;
mod messages;
mod offers;
mod public_ip;
mod punches;
mod reaching;
mod registration;
mod stun;
