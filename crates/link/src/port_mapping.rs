//! A port that the router opens on request: UPnP, NAT-PMP or PCP, kept by the library.

use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use portmapper::{Client, ProbeError, ProbeOutput};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// A router that has opened no port is asked again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Time for the router to be told that the port is no longer needed. The library does not say when it
/// has been.
const GIVE_BACK_WITHIN: Duration = Duration::from_millis(300);

/// A request for a port that stands for as long as this lives.
#[derive(Debug)]
pub(crate) struct PortMapping {
    client: Client,
    external: watch::Receiver<Option<SocketAddrV4>>,
    local_port: NonZeroU16,
    /// Whether the library has been told of the local port, and has tried to map it.
    is_known: bool,
    /// Which protocols the router speaks, once it has said so. Without this the library would ask by
    /// UPnP alone.
    spoken: Option<oneshot::Receiver<Result<ProbeOutput, ProbeError>>>,
    ask_at: Instant,
}

impl PortMapping {
    /// Asks the router for a port that leads to this local one.
    pub(crate) fn ask(local_port: NonZeroU16) -> Self {
        let client = Client::new(portmapper::Config::default());
        let external = client.watch_external_address();
        let ask_at = Instant::now();
        Self { client, external, local_port, is_known: false, spoken: None, ask_at }
    }

    /// Asks anew, where no port is open: there may be another router.
    pub(crate) fn ask_again(&mut self) {
        self.ask_at = Instant::now();
    }

    /// Waits for the next change; the external address from then on. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> Option<SocketAddr> {
        loop {
            let spoken = async {
                match &mut self.spoken {
                    Some(answer) => answer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Whatever was found: where it is nothing, the library still tries.
                _found = spoken => {
                    self.spoken = None;
                    if std::mem::replace(&mut self.is_known, true) {
                        self.client.procure_mapping();
                    } else {
                        self.client.update_local_port(self.local_port);
                    }
                }
                () = sleep_until(self.ask_at) => {
                    self.ask_at = Instant::now() + ASK_AGAIN_AFTER;
                    if self.external.borrow().is_none() {
                        self.spoken = Some(self.client.probe());
                    }
                }
                changed = self.external.changed() => {
                    if changed.is_err() {
                        // The library has given up.
                        std::future::pending::<()>().await;
                    }
                    return self.external.borrow_and_update().map(SocketAddr::V4);
                }
            }
        }
    }

    /// Gives the port back to the router, where it has opened one.
    pub(crate) async fn give_back(self) {
        if self.external.borrow().is_some() {
            self.client.deactivate();
            sleep(GIVE_BACK_WITHIN).await;
        }
    }
}
