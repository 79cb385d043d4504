//! A laboratory: the real programs in network namespaces, behind the kernel's own NAT.
//!
//! The life of an experiment:
//!
//! 1. [`Lab::build`] makes a `wan` namespace and, for each side, a NAT box and a host behind it,
//!    joined by veth pairs, with nftables rules for the [`NatKind`] of the side.
//! 2. [`Lab::check_nats`] asks a small prober, which shares no code with the traversal, whether each
//!    NAT is what its kind claims.
//! 3. [`Session::start`] runs the rendezvous in `wan`, [`Session::link`] a worker in each host, and
//!    both read their JSON logs.
//! 4. [`proof::direct`] compares what the workers say with what the kernel has counted.
//! 5. Everything ends when it is dropped: first the programs, by their own process ids, then the
//!    namespaces. A lab that is killed leaves that to its janitor, a process of its own; whatever
//!    that one could not do is done when the next lab starts.
//!
//! [`ipv6`] is a network of its own, of hosts that have IPv6.
//!
//! [`fast_line`] is a network of its own, with a line for gigabits between two hosts without NAT, and [`flow`] what is
//! measured on it.
//!
//! The programs are not looked for on disk: a test or figures binary calls [`multicall::dispatch`]
//! first, and is then itself `holepunch`, the prober or the janitor when it is called so.
//!
//! Needs Linux, root (or `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`), `ip` and `nft`; [`availability`] says
//! what is missing.

pub mod availability;
pub mod behaviour;
mod conditions;
pub mod counters;
mod cut;
mod divert;
mod error;
pub mod fast_line;
pub mod first_byte;
pub mod flow;
pub mod ipv6;
mod janitor;
pub mod logs;
pub mod multicall;
mod namespace;
pub mod nat;
pub mod nat64;
mod observe;
pub mod pairs;
mod port_mapping;
mod port_service;
mod prober;
mod process;
mod program;
pub mod proof;
mod router;
mod rules;
mod server;
mod session;
mod tool;
mod topology;
mod trial;
mod turn;

pub use conditions::Conditions;
pub use error::LabError;
pub use nat::NatKind;
pub use observe::Observed;
pub use port_mapping::{OpenedPort, Version};
pub use port_service::PortService;
pub use program::{Ended, Program};
pub use server::{Place, Server, Start};
pub use session::{Established, Linked, Protocol, Session, Workers};
pub use topology::{Lab, SIDES_MAX, Side};
pub use trial::trial;
pub use turn::TurnService;
