//! Two workers of `holepunch.v1` with a session, and the WebSockets of its relay.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::{PublicKey, Registration, Signature};
use holepunch_wire::session::RoomName;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::v1::Client;
use super::within;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A registered worker with a key of its own.
pub(crate) async fn register(server: SocketAddr, id: &str) -> Client {
    register_with(server, id, None).await
}

/// The same with a token.
pub(crate) async fn register_with(server: SocketAddr, id: &str, token: Option<&str>) -> Client {
    let mut worker = match token {
        Some(token) => Client::connect_with(server, id, token).await,
        None => Client::connect(server, id).await,
    };
    let welcome = worker.receive("welcome").await;
    let challenge = welcome["challenge"].as_str().unwrap();
    worker.send(hello(server, challenge, id)).await;
    worker
}

/// A `hello` that proves a new key, without a room.
fn hello(server: SocketAddr, challenge: &str, id: &str) -> Value {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let key = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
    let (host, worker) = (server.ip().to_string(), WorkerId::new(id).unwrap());
    let room = RoomName::default();
    let signed = Registration { host: &host, challenge, worker: &worker, room: &room };
    let signature = pair.sign(&signed.to_signed_bytes());
    let signature = Signature::from_bytes(signature.as_ref().try_into().unwrap());
    json!({ "type": "hello", "key": key, "signature": signature })
}

/// Two workers that are offered each other, and the two offers.
pub(crate) async fn offered(
    server: SocketAddr,
    name: &str,
    token: Option<&str>,
) -> ([Client; 2], [Value; 2]) {
    let mut first = register_with(server, &format!("{name}-1"), token).await;
    let mut second = register_with(server, &format!("{name}-2"), token).await;
    for (worker, port) in [(&mut first, 4001), (&mut second, 4002)] {
        let report =
            json!({ "type": "update_udp_endpoint", "udp_ip": "127.0.0.1", "udp_port": port });
        worker.send(report).await;
    }
    let offers =
        [first.receive("p2p_connection_offer").await, second.receive("p2p_connection_offer").await];
    ([first, second], offers)
}

/// Two workers with a session.
pub(crate) struct Linked {
    pub(crate) server: SocketAddr,
    pub(crate) workers: [Client; 2],
    pub(crate) session: String,
    pub(crate) tokens: [String; 2],
    /// Where the relay is said to be.
    pub(crate) relay_url: Option<String>,
    /// And where by UDP.
    pub(crate) relay_udp: Vec<SocketAddr>,
}

impl Linked {
    /// Two new workers whose ids begin with a name.
    pub(crate) async fn new(server: SocketAddr, name: &str) -> Self {
        Self::with(server, name, None).await
    }

    /// The same with a token.
    pub(crate) async fn with(server: SocketAddr, name: &str, token: Option<&str>) -> Self {
        let (workers, offers) = offered(server, name, token).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tokens = offers.each_ref().map(|offer| text(&offer["relay_token"]));
        let [relay_url, of_second] =
            offers.each_ref().map(|offer| offer.get("relay_url").map(text));
        assert_eq!(relay_url, of_second, "they would not meet");
        let session = text(&offers[0]["session"]);
        let udp = |offer: &Value| -> Vec<SocketAddr> {
            let all = offer.get("relay_udp").and_then(Value::as_array);
            all.into_iter().flatten().map(|it| text(it).parse().unwrap()).collect()
        };
        let relay_udp = udp(&offers[0]);
        Self { server, session, tokens, relay_url, relay_udp, workers }
    }

    /// The relay's WebSocket of one of the two.
    pub(crate) async fn open(&self, end: usize) -> Socket {
        open(self.server, &self.session, &self.tokens[end], None).await.unwrap()
    }

    /// That of one of the two, which a proxy forwards for `client`.
    pub(crate) async fn open_from(&self, end: usize, client: &str) -> Result<Socket, Error> {
        open(self.server, &self.session, &self.tokens[end], Some(client)).await
    }

    /// Those of both.
    pub(crate) async fn open_both(&self) -> [Socket; 2] {
        [self.open(0).await, self.open(1).await]
    }

    /// One of the two wants no more of the session.
    pub(crate) async fn leave(&mut self) {
        let leave = json!({ "type": "leave", "session": self.session });
        self.workers[0].send(leave).await;
    }
}

/// Opens a relay, if the server lets it.
pub(crate) async fn open(
    server: SocketAddr,
    session: &str,
    token: &str,
    client: Option<&str>,
) -> Result<Socket, Error> {
    let bearer = format!("Bearer {token}");
    open_with(server, session, &[("authorization", &bearer)], client).await
}

/// Opens a relay with these headers.
pub(crate) async fn open_with(
    server: SocketAddr,
    session: &str,
    headers: &[(&'static str, &str)],
    client: Option<&str>,
) -> Result<Socket, Error> {
    let mut request = format!("ws://{server}/ws/relay/{session}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    if let Some(client) = client {
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
    }
    let stream = TcpStream::connect(server).await.unwrap();
    let opening = tokio_tungstenite::client_async(request, stream);
    Ok(within("a handshake", opening).await?.0)
}

/// The status of a refusal, and its text.
pub(crate) async fn refused(server: SocketAddr, session: &str, token: &str) -> (u16, String) {
    refusal(open(server, session, token, None).await)
}

/// The status and text of a refusal.
pub(crate) fn refusal(opened: Result<Socket, Error>) -> (u16, String) {
    match opened {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8(body).unwrap())
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Sends a binary message.
pub(crate) async fn send(socket: &mut Socket, bytes: impl Into<Vec<u8>>) {
    within("a message to be taken", socket.send(Message::binary(bytes.into()))).await.unwrap();
}

/// The next binary message.
pub(crate) async fn receive(socket: &mut Socket) -> Vec<u8> {
    within("a message of the relay", async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return bytes.to_vec(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                end => panic!("the relay ended: {end:?}"),
            }
        }
    })
    .await
}

/// Reads up to the close frame: its code and reason.
pub(crate) async fn closed(socket: &mut Socket) -> (u16, String) {
    within("a close of the relay", async {
        loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                let frame = frame.unwrap();
                return (frame.code.into(), frame.reason.as_str().to_owned());
            }
        }
    })
    .await
}
