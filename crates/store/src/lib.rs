//! What several rendezvous share, in Redis or what speaks as it does (Valkey): who is connected where, who owns which room, and a
//! way to each other. [`open`] makes it from a URL.
//!
//! | module | what |
//! | --- | --- |
//! | `url` | which server, and how it is spoken to |
//! | `connection` | a connection that is there, or is made anew |
//! | `script` | a request as the arguments of `registry.lua`, and what that answers |
//! | `store` | the store |
//! | `fabric` | the way to other rendezvous: a stream for each |
//!
//! Everything is under one prefix, so that several clusters may share a server. It is on one node of a Redis Cluster.

mod connection;
mod fabric;
mod script;
mod store;
mod url;

use std::sync::Arc;

use holepunch_rendezvous::{InstanceId, MatchmakerConfig, Peers, Store};

use connection::Connector;
use fabric::RedisFabric;
use store::RedisStore;
pub use url::{StoreUrl, StoreUrlError};

/// Joins the rendezvous that share what is at a URL, under a prefix of the caller's choice. `process`: a number that no other one
/// has at any time, so a random one. Nothing is connected yet, so that a server starts also while its store is away.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn open(url: &StoreUrl, prefix: &str, process: u32, config: &MatchmakerConfig) -> Peers {
    let connector = Arc::new(Connector::new(url.clone()));
    let own = InstanceId(process.into());
    let fabric = RedisFabric::new(Arc::clone(&connector), base(prefix), own);
    Peers::new(own, Arc::new(RedisStore::new(connector, base(prefix), config)), Arc::new(fabric))
}

/// The store alone.
#[must_use]
pub fn store(url: &StoreUrl, prefix: &str, config: &MatchmakerConfig) -> Arc<dyn Store> {
    let connector = Arc::new(Connector::new(url.clone()));
    Arc::new(RedisStore::new(connector, base(prefix), config))
}

/// Before all keys; what is in braces decides on which node of a cluster they are.
fn base(prefix: &str) -> String {
    format!("{{{prefix}}}")
}
