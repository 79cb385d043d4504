//! Two workers with keys, a session, and the two WebSockets of its relay.

use futures_util::{SinkExt, StreamExt};
use holepunch_wire::identity::{PublicKey, Registration, Signature};
use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;
use holepunch_wire::session::RoomName;
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::{ServerV1, SessionDetails, Welcome, WorkerV1};
use holepunch_worker::{Asking, Opened, RelayUrl, Stream, WorkerId};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::super::client::{HANDSHAKE_TIMEOUT, Target};

pub(super) type Socket = WebSocketStream<Stream>;

/// Bytes of the library's buffers of a relay: a frame at a time.
const BUFFER_BYTES: usize = RELAY_FRAME_BYTES_MAX;
/// Those of the signalling, which is quiet.
const SIGNALLING_BUFFER_BYTES: usize = 4 * 1024;

/// A session, with its relay open at both ends.
pub(crate) struct RelayedPair {
    pub(super) relay: [Socket; 2],
    /// The session lives as long as they are connected.
    pub(super) signalling: [Socket; 2],
    /// What each was offered.
    pub(super) offers: [SessionDetails; 2],
}

/// Why two workers have no relay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRelay {
    /// The rendezvous speaks the baseline alone.
    #[error("this rendezvous does not speak holepunch.v1, and has no relay")]
    Baseline,
    /// It has none, or has turned it off.
    #[error("this rendezvous offers no relay")]
    NotOffered,
    /// There should be one.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for NoRelay {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl RelayedPair {
    /// Registers two workers in a room of their own, and opens the relay of their session.
    pub(crate) async fn open(target: &Target, index: usize) -> Result<Self, NoRelay> {
        let opening = Self::open_without_bound(target, index);
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await;
        opened.map_err(|_| format!("no relay within {HANDSHAKE_TIMEOUT:?}"))?
    }

    async fn open_without_bound(target: &Target, index: usize) -> Result<Self, NoRelay> {
        let room = RoomName::new(&format!("load-{}-{index}", target.run));
        let room = room.map_err(|error| error.to_string())?;
        let mut first = register(target, &room, 1).await?;
        let mut second = register(target, &room, 2).await?;
        let ours = offer(&mut first).await?;
        let theirs = offer(&mut second).await?;
        let relay = [open_relay(target, &ours).await?, open_relay(target, &theirs).await?];
        Ok(Self { relay, signalling: [first, second], offers: [ours, theirs] })
    }
}

/// Registers a worker with a new key, which wants a peer.
async fn register(target: &Target, room: &RoomName, number: u32) -> Result<Socket, NoRelay> {
    let worker = WorkerId::new(&format!("{}-{number}", room.as_str()));
    let worker = worker.map_err(|error| error.to_string())?;
    let url = target.url.register_in(&worker, room);
    let opened = target.dial(&url, Asking::V1, buffers(SIGNALLING_BUFFER_BYTES)).await?;
    let Opened { mut socket, is_v1: true, .. } = opened else {
        return Err(NoRelay::Baseline);
    };
    let welcome = loop {
        if let FromServer::V1(message) = next(&mut socket).await?
            && let ServerV1::Welcome(welcome) = *message?
        {
            break welcome;
        }
    };
    for message in [hello(target.url.host(), &welcome, &worker, room)?, WorkerV1::Ready] {
        let text = serde_json::to_string(&message).map_err(|error| error.to_string())?;
        let sent = socket.send(Message::text(text)).await;
        sent.map_err(|error| error.to_string())?;
    }
    Ok(socket)
}

/// A `hello` that proves a new key.
fn hello(
    host: &str,
    welcome: &Welcome,
    worker: &WorkerId,
    room: &RoomName,
) -> Result<WorkerV1, String> {
    let no_key = |_| "the system makes no key".to_owned();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(no_key)?;
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|error| error.to_string())?;
    let signed = Registration { host, challenge: &welcome.challenge, worker, room };
    let signature = pair.sign(&signed.to_signed_bytes());
    let signature = signature.as_ref().try_into().map_err(|_| "a signature has 64 bytes")?;
    let key = pair.public_key().as_ref().try_into().map_err(|_| "a key has 32 bytes")?;
    Ok(WorkerV1::Hello {
        room: Some(room.clone()),
        mode: None,
        key: Some(PublicKey::from_bytes(key)),
        signature: Some(Box::new(Signature::from_bytes(signature))),
        resume: None,
        sessions: None,
        held: Vec::new(),
        fresh: false,
        own: false,
        callable: false,
    })
}

/// The session that a worker is offered.
async fn offer(socket: &mut Socket) -> Result<SessionDetails, String> {
    loop {
        if let FromServer::SessionOffer(offer) = next(socket).await? {
            return offer.map(|offer| offer.details).map_err(|error| error.to_string());
        }
    }
}

async fn open_relay(target: &Target, offer: &SessionDetails) -> Result<Socket, NoRelay> {
    let token = offer.relay_token.as_ref().ok_or(NoRelay::NotOffered)?;
    let url = match &offer.relay_url {
        Some(url) => {
            let url: RelayUrl = url.parse().map_err(|why| format!("the relay's URL: {why}"))?;
            url.of_session(offer.session)
        }
        None => target.url.relay(offer.session),
    };
    let opened = target.dial(&url, Asking::Relay(&token.reveal()), buffers(BUFFER_BYTES)).await;
    Ok(opened.map(|opened| opened.socket)?)
}

fn buffers(bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(bytes).write_buffer_size(bytes)
}

/// The next message of the rendezvous.
async fn next(socket: &mut Socket) -> Result<FromServer, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => match FromServer::parse(&text) {
                Ok(FromServer::Error(why)) => return Err(why.message),
                parsed => return parsed.map_err(|error| error.to_string()),
            },
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the connection ended".to_owned()),
        }
    }
}
