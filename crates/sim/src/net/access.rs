//! How something is attached to a segment.

use std::time::Duration;

use crate::link::{Link, LinkConfig, Loss};

/// One way between a home and the core, unless said otherwise.
pub const ACCESS_DELAY: Duration = Duration::from_millis(40);
/// Routers on the way between a home and the core, unless said otherwise.
pub const ACCESS_HOPS: u8 = 2;

/// How an access link behaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AccessConfig {
    /// Toward the segment.
    pub up: LinkConfig,
    /// From the segment.
    pub down: LinkConfig,
    /// Routers on the way, each direction.
    pub hops: u8,
}

impl AccessConfig {
    /// No link at all: what is attached to a LAN, and servers on the core.
    #[must_use]
    pub fn direct() -> Self {
        Self::default()
    }

    /// The same link in both directions, with the usual routers.
    #[must_use]
    pub fn symmetric(link: LinkConfig) -> Self {
        Self { up: link, down: link, hops: ACCESS_HOPS }
    }

    /// The usual access of a home: [`ACCESS_DELAY`] each way.
    #[must_use]
    pub fn home() -> Self {
        Self::symmetric(LinkConfig::with_delay(ACCESS_DELAY))
    }
}

/// An access link at work.
#[derive(Debug)]
pub struct Access {
    /// Toward the segment.
    pub up: Link,
    /// From the segment.
    pub down: Link,
    /// Routers on the way, each direction.
    pub hops: u8,
}

impl Access {
    pub(super) fn new(config: AccessConfig) -> Self {
        Self { up: Link::new(config.up), down: Link::new(config.down), hops: config.hops }
    }

    /// Sets the loss of both directions.
    pub fn set_loss(&mut self, loss: Loss) {
        self.up.set_loss(loss);
        self.down.set_loss(loss);
    }

    /// Puts both directions up or down.
    pub fn set_up(&mut self, is_up: bool) {
        self.up.set_up(is_up);
        self.down.set_up(is_up);
    }
}
