//! The sub-protocol `holepunch.v1` under a virtual clock.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, and looks for one message among many"
)]

mod calls;
mod identity;
mod mesh;
mod operations;
mod queue;
mod relay;
mod sessions;
mod shares;
mod table;
mod tenants;
mod turn;
mod unseen;
