//! What a controller is made from.

use std::sync::Arc;
use std::time::Instant;

use noq_proto::congestion::{Controller, ControllerFactory};

use crate::Bbr;

/// Makes a [`Bbr`] for each path.
#[derive(Debug, Clone, Copy)]
pub struct BbrConfig {
    /// Bytes that are sent before anything is acknowledged.
    pub initial_window: u64,
}

impl ControllerFactory for BbrConfig {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Bbr::new(*self, current_mtu))
    }
}
