//! Without the feature `port-mapping`, no router is asked for a port.

use std::net::SocketAddr;

/// A request for a port: there is none.
#[derive(Debug)]
pub(crate) enum PortMapping {}

impl PortMapping {
    pub(crate) fn ask_again(&mut self) {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as the one of the feature has it")]
    pub(crate) async fn changed(&mut self) -> Option<SocketAddr> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as the one of the feature has it")]
    pub(crate) async fn give_back(self) {
        match self {}
    }
}
