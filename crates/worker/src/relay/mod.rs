//! The relay of a session: a second WebSocket, so that bulk never blocks signalling; and beside it, datagrams.

mod known;
mod liveness;
mod open;
mod udp;
mod url;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use holepunch_link::RelayEnd;
use holepunch_wire::relay::udp::PAYLOAD_BYTES_MAX;
use holepunch_wire::session::{RelayToken, SessionId};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::reach::Access;
use crate::signalling::hint;
use crate::url::WebSocketUrl;
use liveness::{Finding, Liveness};
use open::{Opener, Socket};
use udp::ByUdp;

pub(crate) use known::Relays;
pub use url::RelayUrl;

/// Frames that are gathered before they are flushed.
const BATCH_MAX: usize = 4;

/// Where the relay is, and what opens it.
#[derive(Debug, Clone)]
struct RelayAddress {
    url: WebSocketUrl,
    /// The newest one.
    token: watch::Receiver<RelayToken>,
    access: Access,
    session: SessionId,
    /// Where it takes datagrams.
    udp: Vec<SocketAddr>,
}

/// How a connection has ended.
enum Over {
    Lost(String),
    /// It was silent, and another one is there.
    Replaced(Box<Socket>),
    /// It was silent, and there will be no other one.
    Refused(String),
}

/// Keeps a session's relay connected until the session is over.
async fn serve(mut end: RelayEnd, address: RelayAddress) {
    let by_udp = ByUdp::new(&address);
    if by_udp.is_offered() {
        end.limit_datagrams(PAYLOAD_BYTES_MAX);
    }
    let url = address.url.clone();
    let mut opener = Opener::new(address);
    let mut next: Option<Box<Socket>> = None;
    let why = loop {
        let socket = match next.take() {
            Some(socket) => socket,
            None => {
                let turn = tokio::select! {
                    opened = opener.open() => Turn::Opened(opened),
                    turn = by_udp.carry(&end) => turn,
                    () = end.ended() => return,
                };
                match turn {
                    Turn::Opened(Ok(socket)) => socket,
                    Turn::Opened(Err(why)) => break why,
                    Turn::Answers => {
                        end.up();
                        continue;
                    }
                    Turn::IsSilent => {
                        end.down();
                        continue;
                    }
                }
            }
        };
        if end.is_up() {
            end.renewed();
        } else {
            end.up();
        }
        tracing::debug!(%url, "relay connected");
        let over = tokio::select! {
            over = carry(&end, socket, &mut opener, &by_udp) => over,
            () = by_udp.keep(&end) => return,
            () = end.ended() => return,
        };
        match over {
            Over::Lost(why) => {
                tracing::debug!(%url, why, "relay lost");
                if !by_udp.is_in_use() {
                    end.down();
                }
                opener.lost();
            }
            Over::Replaced(socket) => next = Some(socket),
            Over::Refused(why) => break why,
        }
    };
    tracing::warn!(%url, why, "the relay is refused");
}

/// What happens while there is no WebSocket.
enum Turn {
    Opened(Result<Box<Socket>, String>),
    /// There is a channel by UDP.
    Answers,
    /// There is none any more.
    IsSilent,
}

/// What the two directions and the watch over them tell each other.
#[derive(Debug)]
struct Shared {
    liveness: Mutex<Liveness>,
    /// The watch has to look anew.
    changed: Notify,
    /// A ping is to be sent.
    to_ask: Notify,
}

impl Shared {
    fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carried(&self) {
        if self.liveness().carried(Instant::now()) {
            self.changed.notify_one();
        }
    }
}

/// Carries frames both ways until the connection ends, or another one takes its place.
async fn carry(end: &RelayEnd, socket: Box<Socket>, opener: &mut Opener, by_udp: &ByUdp) -> Over {
    let (to, from) = socket.split();
    let liveness = Mutex::new(Liveness::new(Instant::now()));
    let shared = Shared { liveness, changed: Notify::new(), to_ask: Notify::new() };
    // Each direction on its own: two ends that both wait to write would wait for each other.
    tokio::select! {
        why = send(end, to, &shared, by_udp) => Over::Lost(why),
        why = receive(end, from, &shared) => Over::Lost(why),
        over = watch(&shared, opener) => over,
    }
}

/// Looks whether the connection is alive. What is being written may be stuck, so this is not the writer's work.
async fn watch(shared: &Shared, opener: &mut Opener) -> Over {
    loop {
        let (due, is_doubtful) = {
            let liveness = shared.liveness();
            (liveness.due(), liveness.is_doubtful)
        };
        if !is_doubtful {
            opener.rest();
        }
        tokio::select! {
            opened = opener.open(), if is_doubtful => return match opened {
                Ok(socket) => Over::Replaced(socket),
                Err(why) => Over::Refused(why),
            },
            () = sleep_until(due) => {
                let found = shared.liveness().look(Instant::now());
                match found {
                    Some(Finding::Ask) => shared.to_ask.notify_one(),
                    Some(Finding::Gone) => return Over::Lost("the relay does not answer".to_owned()),
                    Some(Finding::Doubtful) | None => {}
                }
            }
            () = shared.changed.notified() => {}
        }
    }
}

async fn send(
    end: &RelayEnd,
    mut to: SplitSink<Box<Socket>, Message>,
    shared: &Shared,
    by_udp: &ByUdp,
) -> String {
    loop {
        let sent = tokio::select! {
            frame = end.next_frame() => {
                let Some(frame) = by_udp.send(frame).await else { continue };
                shared.carried();
                // Boxed: an idle relay need not have the room that writing takes.
                Box::pin(end.patiently(send_batch(end, &mut to, frame))).await
            }
            () = shared.to_ask.notified() => to.send(Message::Ping(Bytes::new())).await,
        };
        if let Err(error) = sent {
            return error.to_string();
        }
    }
}

async fn send_batch(
    end: &RelayEnd,
    to: &mut SplitSink<Box<Socket>, Message>,
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

async fn receive(end: &RelayEnd, mut from: SplitStream<Box<Socket>>, shared: &Shared) -> String {
    loop {
        let message = from.next().await;
        shared.liveness().heard(Instant::now());
        match message {
            Some(Ok(Message::Binary(frame))) => {
                shared.carried();
                if !end.deliver(frame).await {
                    return "the UDP port is closed".to_owned();
                }
            }
            Some(Ok(Message::Close(frame))) => {
                return hint::on_close(frame.as_ref(), None);
            }
            Some(Ok(Message::Pong(_))) => {
                if shared.liveness().answered() {
                    shared.changed.notify_one();
                }
            }
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return error.to_string(),
            None => return "the connection ended".to_owned(),
        }
    }
}
