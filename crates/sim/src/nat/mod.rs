//! NATs and firewalls in the words of RFC 4787: addresses, ports and the time go in, addresses and
//! ports come out. Nothing here knows of hosts, links or queues, so that the same [`Nat`] serves a
//! simulated network and a real interface alike.
//!
//! ## How a packet is treated
//! A packet from inside finds its mapping by the inside endpoint and as much of the destination as
//! the mapping depends on, or makes one, with a port by the [`Allocation`]. It then begins or
//! renews the *session* of mapping and destination. A packet from outside finds the mappings at its
//! external port, and the sessions of a mapping tell whether the [`Filtering`] lets it in.

mod config;
mod counters;
mod firewall;
mod ports;
mod sessions;
mod translator;

pub use config::{
    Allocation, Filtering, FirewallConfig, InboundFirst, LIFETIME, Mapping, NatConfig, PORT_MIN,
    TABLE_MAX, UNSOLICITED_LIFETIME,
};
pub use counters::{Counters, DropReason};
pub use firewall::Firewall;
pub use translator::Nat;
