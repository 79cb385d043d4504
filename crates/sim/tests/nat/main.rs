//! Each behaviour of a NAT, found out from outside by sending packets through it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod allocation;
mod filtering;
mod firewall;
mod hairpin;
mod lifetime;
mod limits;
mod mapping;
mod model;
mod prober;
mod remap;
