//! The relay of a session: a second WebSocket, so that bulk never blocks signalling.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use holepunch_link::RelayEnd;
use holepunch_wire::relay::{RELAY_FRAME_BYTES_MAX, RELAY_SCHEME};
use holepunch_wire::session::RelayToken;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, http};
use url::Url;

use crate::signalling::handshake::{self, Asking, Stream};
use crate::signalling::hint;
use crate::tls::Tls;

/// TCP, TLS and the WebSocket handshake together may take so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first wait before the next connection, which doubles up to the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LONGEST: Duration = Duration::from_secs(15);
/// What is read at once. An idle relay keeps it, so it is less than a frame of bulk.
const READ_BYTES: usize = 8 * 1024;
/// What is gathered before it is written: bulk fills frames of this size.
const WRITE_BYTES: usize = 64 * 1024;
/// Most bytes that the library keeps for a relay that takes none.
const WRITE_BUFFER_BYTES_MAX: usize = 4 * RELAY_FRAME_BYTES_MAX;
/// Frames that are gathered before they are flushed.
const BATCH_MAX: usize = 4;
/// An idle relay is asked this often whether it is still there: less than the idle time-outs of TCP
/// connections that NATs and load balancers have, and hardly any traffic.
const PING_EVERY: Duration = Duration::from_secs(110);
/// One that frames were sent to, and from which nothing came, is asked after this time.
const PING_SOON: Duration = Duration::from_secs(5);
/// An answer may take so long.
const PONG_WITHIN: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<Stream>;

/// Where the relay is, and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct RelayAddress {
    pub(crate) url: Url,
    pub(crate) token: RelayToken,
    pub(crate) tls: Tls,
}

/// Keeps a session's relay connected until the session is over.
pub(crate) async fn serve(mut end: RelayEnd, address: RelayAddress) {
    let mut wait = AGAIN_FIRST;
    loop {
        let opened = tokio::select! {
            // Boxed, so that a relay that is open does not keep the room of the handshake.
            opened = Box::pin(open(&address)) => opened,
            () = end.ended() => return,
        };
        let why = match opened {
            Ok(socket) => {
                wait = AGAIN_FIRST;
                end.up();
                tracing::debug!(url = %address.url, "relay connected");
                let why = tokio::select! {
                    why = carry(&end, socket) => why,
                    () = end.ended() => return,
                };
                end.down();
                why
            }
            Err(Refused { why, is_final: true }) => {
                tracing::warn!(url = %address.url, why, "the relay is refused");
                return;
            }
            Err(Refused { why, .. }) => why,
        };
        tracing::debug!(url = %address.url, why, retry_in_ms = wait.as_millis(), "no relay");
        tokio::select! {
            () = sleep(wait) => {}
            () = end.ended() => return,
        }
        wait = (wait * 2).min(AGAIN_LONGEST);
    }
}

/// Why there is no connection.
struct Refused {
    why: String,
    /// Whether it would be refused again.
    is_final: bool,
}

async fn open(address: &RelayAddress) -> Result<Socket, Refused> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(RELAY_FRAME_BYTES_MAX))
        .max_frame_size(Some(RELAY_FRAME_BYTES_MAX));
    let authorization = format!("{RELAY_SCHEME}{}", address.token.reveal());
    let asking = Asking::Authorized(&authorization);
    let opening = handshake::open(&address.url, &address.tls, asking, config);
    match timeout(CONNECT_TIMEOUT, opening).await {
        Ok(Ok(opened)) => Ok(opened.socket),
        Ok(Err(error)) => {
            let forbidden = |it: &http::Response<_>| it.status() == http::StatusCode::FORBIDDEN;
            let is_final = matches!(&error, Error::Http(response) if forbidden(response));
            Err(Refused { why: hint::on_handshake(&error, address.url.scheme()), is_final })
        }
        Err(_) => Err(Refused {
            why: format!("no connection within {CONNECT_TIMEOUT:?}"),
            is_final: false,
        }),
    }
}

/// What the two directions know of each other.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
}

/// Carries frames both ways until the connection ends: why.
async fn carry(end: &RelayEnd, socket: Socket) -> String {
    let (to, from) = socket.split();
    let (heard, hears) = watch::channel(Heard { at: Instant::now() });
    // Each direction on its own: two ends that both wait to write would wait for each other.
    tokio::select! {
        why = send(end, to, hears) => why,
        why = receive(end, from, heard) => why,
    }
}

async fn send(
    end: &RelayEnd,
    mut to: SplitSink<Socket, Message>,
    hears: watch::Receiver<Heard>,
) -> String {
    let mut ping_at = Instant::now() + PING_EVERY;
    let mut asked_at: Option<Instant> = None;
    loop {
        let heard_at = hears.borrow().at;
        asked_at = asked_at.filter(|asked_at| heard_at < *asked_at);
        let due = asked_at.map_or(ping_at, |asked_at| asked_at + PONG_WITHIN);
        tokio::select! {
            frame = end.next_frame() => {
                let sent = end.patiently(send_batch(end, &mut to, frame)).await;
                if let Err(error) = sent {
                    return error.to_string();
                }
                let soon = hears.borrow().at.max(Instant::now() - PING_SOON) + 2 * PING_SOON;
                ping_at = ping_at.min(soon);
            }
            () = sleep_until(due) => {
                let now = Instant::now();
                let heard_at = hears.borrow().at;
                if asked_at.is_some_and(|asked_at| heard_at < asked_at) {
                    return format!("the relay has not answered a ping within {PONG_WITHIN:?}");
                }
                ping_at = now + PING_EVERY;
                if asked_at.is_none() {
                    asked_at = Some(now);
                    if let Err(error) = to.send(Message::Ping(Bytes::new())).await {
                        return error.to_string();
                    }
                }
            }
        }
    }
}

async fn send_batch(
    end: &RelayEnd,
    to: &mut SplitSink<Socket, Message>,
    first: Vec<u8>,
) -> Result<(), Error> {
    let mut next = Some(first);
    for _ in 0..BATCH_MAX {
        let Some(frame) = next else { break };
        to.feed(Message::Binary(frame.into())).await?;
        next = end.try_next_frame();
    }
    if let Some(frame) = next {
        to.feed(Message::Binary(frame.into())).await?;
    }
    to.flush().await
}

async fn receive(
    end: &RelayEnd,
    mut from: SplitStream<Socket>,
    heard: watch::Sender<Heard>,
) -> String {
    loop {
        let message = from.next().await;
        heard.send_replace(Heard { at: Instant::now() });
        match message {
            Some(Ok(Message::Binary(frame))) => {
                if !end.deliver(frame).await {
                    return "the UDP port is closed".to_owned();
                }
            }
            Some(Ok(Message::Close(frame))) => return hint::on_close(frame.as_ref()),
            Some(Ok(
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
            )) => {}
            Some(Err(error)) => return error.to_string(),
            None => return "the connection ended".to_owned(),
        }
    }
}
