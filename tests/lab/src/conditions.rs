//! The conditions on the access line of a side.

use std::fmt;
use std::time::Duration;

use holepunch_sim::net::{ACCESS_HOPS, CORE_HOPS};

/// Routers on the way between a NAT and the middle of the public network, unless said otherwise, as in the
/// simulator. A packet that is to open the own NAT and go no further has a short time to live.
const HOPS: u8 = ACCESS_HOPS + CORE_HOPS / 2;

/// What an access line does to packets, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// What each packet takes, in whole milliseconds.
    pub delay: Duration,
    /// What a packet may take longer, likewise; packets stay in order.
    pub jitter: Duration,
    /// What signalling takes longer than UDP, likewise: a proxy on the way, say.
    pub signalling: Duration,
    /// The share of UDP packets that is lost, from 0 to 1. Signalling is not lost.
    pub loss: f64,
    /// Routers on the way, beside the one in the middle of the public network.
    pub hops: u8,
}

impl Conditions {
    /// No delay and no loss.
    pub const IDEAL: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        signalling: Duration::ZERO,
        loss: 0.0,
        hops: 0,
    };

    /// This delay, and no loss.
    #[must_use]
    pub const fn with_delay(delay: Duration) -> Self {
        Self { delay, hops: HOPS, ..Self::IDEAL }
    }

    /// The same with so many routers on the way.
    #[must_use]
    pub const fn with_hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The same with this loss.
    #[must_use]
    pub const fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// The same with signalling that takes so much longer.
    #[must_use]
    pub const fn with_signalling(mut self, signalling: Duration) -> Self {
        self.signalling = signalling;
        self
    }

    /// Whether packets are let through as they come.
    #[must_use]
    pub fn is_ideal(&self) -> bool {
        *self == Self::IDEAL
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.delay.as_millis())?;
        if !self.jitter.is_zero() {
            write!(f, " + up to {} ms", self.jitter.as_millis())?;
        }
        if !self.signalling.is_zero() {
            write!(f, ", signalling {} ms later", self.signalling.as_millis())?;
        }
        if !matches!(self.hops, 0 | HOPS) {
            write!(f, ", {} routers", self.hops)?;
        }
        if self.loss > 0.0 {
            write!(f, ", {} % loss", self.loss * 100.0)?;
        }
        Ok(())
    }
}
