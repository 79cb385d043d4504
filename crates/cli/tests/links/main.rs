//! Links from end to end: a real rendezvous and real workers in this process, on loopback, with a NAT of
//! the test's own between the workers that loses, delays, changes and repeats what the test says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod by_udp;
mod cables;
mod cut_early;
mod figures;
mod flow;
mod hostile;
mod impostor;
mod linked;
mod nat;
mod no_stun;
mod packets;
mod paths;
#[path = "../../../worker/tests/common/patience.rs"]
mod patience;
#[path = "../../../worker/tests/common/rendezvous.rs"]
#[allow(dead_code, reason = "only what an impostor needs")]
mod rendezvous;
mod signalling;
#[path = "../../../worker/tests/common/stun.rs"]
#[allow(dead_code, reason = "only what a NAT needs")]
mod stun;
mod weather;
mod world;

pub(crate) use patience::within;
