//! WebSockets to a rendezvous for programs that speak for themselves, such as a generator of load.

use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::proxy::Proxy;
use crate::reach::Access;
use crate::rendezvous_url::RendezvousUrl;
use crate::signalling::handshake::{self, Asking, CONNECT_TIMEOUT, Opened, Way};
use crate::signalling::hint;
use crate::token::Token;
use crate::url::WebSocketUrl;

/// Opens WebSockets as a worker does: to whichever address of the name answers first, through the network's proxy, with the
/// login that the URL holds, and trusting the same authorities. Clones share what TLS needs.
#[derive(Debug, Clone)]
pub struct Dialer(Access);

impl Dialer {
    /// For one rendezvous, through `proxy` where there is one, with `token` where that is wanted.
    #[must_use]
    pub fn new(rendezvous: &RendezvousUrl, proxy: Option<Proxy>, token: Option<Token>) -> Self {
        Self(Access::new(rendezvous, proxy, token))
    }

    /// Opens a WebSocket to `url`, which is one of the rendezvous'. `tcp_within` bounds the TCP connection alone.
    ///
    /// # Errors
    /// In words, why there is none; no password is in them.
    pub async fn open(
        &self,
        url: &WebSocketUrl,
        asking: Asking<'_>,
        config: WebSocketConfig,
        tcp_within: Duration,
    ) -> Result<Opened, String> {
        let way = Way { known: None, tcp_within, within: CONNECT_TIMEOUT };
        let opened = handshake::open(url, &self.0, way, asking, config).await;
        opened.map_err(|error| hint::on_handshake(&error, url))
    }
}
