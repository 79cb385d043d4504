//! Without the feature `health`, there is no health server.

use std::net::SocketAddr;

/// A running health server: there is none.
#[derive(Debug)]
pub(crate) enum Health {}

impl Health {
    pub(crate) fn address(&self) -> SocketAddr {
        match *self {}
    }
}
