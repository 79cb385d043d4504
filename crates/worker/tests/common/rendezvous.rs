//! A rendezvous played by the test: a WebSocket server that selects a sub-protocol or none, and JSON
//! written by hand.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::within;

/// Any free port of 127.0.0.1.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A listening rendezvous.
pub(crate) struct Rendezvous {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// An address where connections are refused, until the rendezvous appears there.
pub(crate) struct Absent {
    socket: TcpSocket,
    pub(crate) address: SocketAddr,
}

impl Absent {
    pub(crate) fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(loopback()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    /// Takes little from a client before it is read.
    pub(crate) fn with_little_room(self) -> Self {
        self.socket.set_recv_buffer_size(4096).unwrap();
        self
    }

    pub(crate) fn appear(self) -> Rendezvous {
        let listener = self.socket.listen(16).unwrap();
        Rendezvous { listener, address: self.address }
    }
}

impl Rendezvous {
    pub(crate) fn bind() -> Self {
        Absent::bind().appear()
    }

    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        within("a TCP connection of the worker", self.listener.accept()).await.unwrap().0
    }

    /// Accepts a worker's registration, as a rendezvous that knows of no sub-protocol.
    pub(crate) async fn accept(&self) -> Session {
        Session::of(self.accept_tcp().await).await
    }

    /// Accepts a worker's registration and selects this sub-protocol.
    pub(crate) async fn accept_selecting(&self, chosen: &'static str) -> Session {
        Session::selecting(self.accept_tcp().await, Some(chosen)).await
    }

    /// Whether a connection waits that nobody has accepted.
    pub(crate) async fn is_awaited(&self) -> bool {
        // The second look comes after the runtime has asked the system.
        for _ in 0..2 {
            tokio::task::yield_now().await;
            if self.listener.accept().now_or_never().is_some() {
                return true;
            }
        }
        false
    }

    /// Answers the next handshake with an HTTP status instead.
    pub(crate) async fn refuse(&self, status: &str) {
        let mut stream = self.accept_tcp().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the handshake", stream.read_u8()).await.unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// The session of one worker. It answers pings only while it is being read.
pub(crate) struct Session {
    /// The path of the handshake, as it was written.
    pub(crate) path: String,
    /// The sub-protocols that the worker asked for, as they were written.
    pub(crate) asked: Option<String>,
    /// The `Authorization` of the handshake.
    pub(crate) authorization: Option<String>,
    socket: WebSocketStream<TcpStream>,
    /// Messages that came while something else was waited for.
    early: VecDeque<Value>,
    pings: u8,
}

impl Session {
    /// Completes the handshake on a connection, and selects no sub-protocol.
    pub(crate) async fn of(stream: TcpStream) -> Self {
        Self::selecting(stream, None).await
    }

    async fn selecting(stream: TcpStream, chosen: Option<&'static str>) -> Self {
        const HEADER: &str = "sec-websocket-protocol";
        let mut path = String::new();
        let (mut asked, mut authorization) = (None, None);
        #[expect(clippy::result_large_err, reason = "the library's type")]
        let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            path = request.uri().to_string();
            let header =
                |name| request.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
            (asked, authorization) = (header(HEADER), header("authorization"));
            if let Some(chosen) = chosen {
                response.headers_mut().insert(HEADER, HeaderValue::from_static(chosen));
            }
            Ok(response)
        };
        let socket =
            within("a WebSocket handshake", tokio_tungstenite::accept_hdr_async(stream, look));
        let socket = socket.await.unwrap();
        Self { path, asked, authorization, socket, early: VecDeque::new(), pings: 0 }
    }

    /// The id under which the worker registers, as it stands in the path.
    pub(crate) fn worker_id(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    /// The next frame of any kind; `None` at the end of the connection. To be awaited [`within`].
    pub(crate) async fn frame(&mut self) -> Option<Message> {
        self.socket.next().await.and_then(Result::ok)
    }

    /// The next text message.
    pub(crate) async fn receive(&mut self) -> Value {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        within("a message of the worker", async {
            loop {
                match self.frame().await {
                    Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                    Some(Message::Ping(_) | Message::Pong(_)) => {}
                    other => panic!("expected a message of the worker, got {other:?}"),
                }
            }
        })
        .await
    }

    /// The next message, which must be a report; it is acknowledged. The endpoint in it.
    pub(crate) async fn report(&mut self) -> SocketAddr {
        let report = self.receive().await;
        assert_eq!(report["type"], "update_udp_endpoint", "{report}");
        self.send(json!({ "type": "udp_endpoint_ack", "status": "success" })).await;
        let ip = report["udp_ip"].as_str().unwrap();
        let port = report["udp_port"].as_u64().unwrap();
        format!("{ip}:{port}").parse().unwrap()
    }

    pub(crate) async fn send_frame(&mut self, message: Message) {
        within("a frame to be taken", self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text)).await;
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn offer(&mut self, peer: &str, endpoint: SocketAddr) {
        self.send(offer(peer, endpoint)).await;
    }

    /// Shows that the connection is up, by a ping that the worker answers.
    pub(crate) async fn is_up(&mut self) {
        self.pings += 1;
        let payload = Bytes::copy_from_slice(&[self.pings]);
        self.send_frame(Message::Ping(payload.clone())).await;
        within("the answer to a ping", async {
            loop {
                match self.frame().await {
                    Some(Message::Pong(answer)) if answer == payload => return,
                    Some(Message::Text(text)) => {
                        self.early.push_back(serde_json::from_str(&text).unwrap());
                    }
                    Some(Message::Ping(_) | Message::Pong(_)) => {}
                    other => panic!("the connection is not up: {other:?}"),
                }
            }
        })
        .await;
    }

    /// Listens for so long, and expects no message in that time.
    pub(crate) async fn is_told_nothing_for(&mut self, time: Duration) {
        let message = tokio::time::timeout(time, self.receive()).await;
        assert!(message.is_err(), "the worker says {message:?}");
    }

    /// Shows that the connection is up, and that no message came that was not taken.
    pub(crate) async fn is_told_nothing_yet(&mut self) {
        self.is_up().await;
        assert!(self.early.is_empty(), "the worker says {:?}", self.early);
    }

    /// The connection below.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into_inner()
    }

    /// Closes the connection; the code with which the worker answers.
    pub(crate) async fn close(mut self, code: u16, reason: &str) -> Option<u16> {
        let reason = reason.to_owned().into();
        let frame = CloseFrame { code: code.into(), reason };
        self.socket.close(Some(frame)).await.unwrap();
        self.closed().await
    }

    /// Waits for a close frame; its code. `None` when the connection ends without one.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        within("a close frame", async {
            while let Some(frame) = self.frame().await {
                if let Message::Close(said) = frame {
                    // One more read sends the answer.
                    let _end = self.frame().await;
                    return said.map(|said| said.code.into());
                }
            }
            None
        })
        .await
    }
}

/// An offer as the baseline writes it.
pub(crate) fn offer(peer: &str, endpoint: SocketAddr) -> Value {
    json!({
        "type": "p2p_connection_offer",
        "peer_worker_id": peer,
        "peer_udp_ip": endpoint.ip(),
        "peer_udp_port": endpoint.port(),
    })
}
