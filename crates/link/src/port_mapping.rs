//! A port that the router opens on request: UPnP, NAT-PMP or PCP, kept by the library.

use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;

use portmapper::Client;
use tokio::sync::watch;

/// A request for a port that stands for as long as this lives.
#[derive(Debug)]
pub(crate) struct PortMapping {
    /// Dropping it gives the port back.
    _client: Client,
    external: watch::Receiver<Option<SocketAddrV4>>,
}

impl PortMapping {
    /// Asks the router for a port that leads to this local one.
    pub(crate) fn ask(local_port: NonZeroU16) -> Self {
        let client = Client::new(portmapper::Config::default());
        let external = client.watch_external_address();
        client.update_local_port(local_port);
        Self { _client: client, external }
    }

    /// Waits for the next change; the external address from then on.
    pub(crate) async fn changed(&mut self) -> Option<SocketAddr> {
        if self.external.changed().await.is_err() {
            // The library has given up.
            std::future::pending::<()>().await;
        }
        self.external.borrow_and_update().map(SocketAddr::V4)
    }
}
