//! One baseline worker: a WebSocket, and JSON written and read as the protocol says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use holepunch_wire::signal::{FRAME_BYTES_MAX, FromServer, WorkerMessage};
use holepunch_worker::{
    Asking, Dialer, Opened, Proxy, RendezvousUrl, Stream, Token, WebSocketUrl, WorkerId,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::code::random_hex;
use crate::exit::Failure;

/// A handshake may take so long.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// TCP alone, less than all of it: a failure names the addresses.
const TCP_WITHIN: Duration = Duration::from_secs(25);
/// Small, since there are thousands.
pub(super) const BUFFER_BYTES: usize = 4 * 1024;
/// What tells runs apart: so many random bytes.
const RUN_BYTES: usize = 8;
/// 198.18.0.0/15 is set aside for benchmarks (RFC 2544): nobody is probed there.
const ENDPOINTS_FROM: u32 = 0xc612_0000;

/// Where all workers of a run connect to.
pub(crate) struct Target {
    pub(super) url: RendezvousUrl,
    dialer: Dialer,
    /// Tells the ids and rooms of one run from those of another, on whichever machine.
    pub(super) run: String,
}

impl Target {
    /// A rendezvous, which is reached as every worker reaches it.
    pub(crate) fn new(
        url: RendezvousUrl,
        proxy: Option<Proxy>,
        token: Option<Token>,
    ) -> Result<Self, Failure> {
        let dialer = Dialer::new(&url, proxy, token);
        Ok(Self { url, dialer, run: random_hex(RUN_BYTES)? })
    }

    /// Another rendezvous, for the same run.
    pub(super) fn beside(
        &self,
        url: RendezvousUrl,
        proxy: Option<Proxy>,
        token: Option<Token>,
    ) -> Self {
        let dialer = Dialer::new(&url, proxy, token);
        Self { url, dialer, run: self.run.clone() }
    }

    /// Opens a WebSocket there.
    pub(super) async fn dial(
        &self,
        url: &WebSocketUrl,
        asking: Asking<'_>,
        config: WebSocketConfig,
    ) -> Result<Opened, String> {
        self.dialer.open(url, asking, config, TCP_WITHIN).await
    }
}

/// The endpoint of a worker of a run: nobody is there.
pub(super) fn endpoint(index: usize) -> SocketAddr {
    let number = u32::try_from(index).unwrap_or_default();
    SocketAddr::from((Ipv4Addr::from(ENDPOINTS_FROM + number % 0x1_fffe + 1), 9999))
}

/// A registered worker.
pub(super) struct Client {
    pub(super) id: Arc<str>,
    /// An endpoint of its own, which nobody has.
    pub(super) endpoint: SocketAddr,
    socket: WebSocketStream<Stream>,
}

impl Client {
    /// Connects; how long it took.
    pub(super) async fn open(target: &Target, index: usize) -> Result<(Self, Duration), String> {
        let id = WorkerId::new(&format!("load-{}-{index}", target.run));
        let id = id.map_err(|error| error.to_string())?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(2 * FRAME_BYTES_MAX));
        let url = target.url.register(&id);
        let started = Instant::now();
        let opening = target.dial(&url, Asking::Baseline, config);
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await;
        let opened = opened.map_err(|_| format!("no handshake within {HANDSHAKE_TIMEOUT:?}"))?;
        let Opened { socket, .. } = opened?;
        let client = Self { id: id.as_str().into(), endpoint: endpoint(index), socket };
        Ok((client, started.elapsed()))
    }

    /// Queues a message; [`flush`](Self::flush) sends it.
    pub(super) async fn feed(&mut self, message: &WorkerMessage) -> Result<(), String> {
        let frame = Message::Text(message.encode().into());
        self.socket.feed(frame).await.map_err(|error| error.to_string())
    }

    pub(super) async fn flush(&mut self) -> Result<(), String> {
        self.socket.flush().await.map_err(|error| error.to_string())
    }

    /// The next message. Pings are answered on the way.
    pub(super) async fn next(&mut self) -> Result<FromServer, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return FromServer::parse(&text).map_err(|error| error.to_string());
                }
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map(|frame| frame.to_string()).unwrap_or_default();
                    return Err(format!("the server closed the connection: {why}"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection ended".to_owned()),
            }
        }
    }
}
