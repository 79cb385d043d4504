//! A worker on a WebSocket, as a client library makes it.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::within;

/// One WebSocket. It answers pings only while it is being read.
pub(crate) struct Worker {
    pub(crate) id: String,
    /// Its own end of the TCP connection.
    pub(crate) local: SocketAddr,
    socket: WebSocketStream<TcpStream>,
    echoes: u32,
}

impl Worker {
    pub(crate) async fn connect(server: SocketAddr, id: &str) -> Self {
        Self::open(server, id, None).await
    }

    /// With a token.
    pub(crate) async fn connect_with(server: SocketAddr, id: &str, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        Self::open(server, id, Some(("authorization", &bearer))).await
    }

    /// Like a proxy that forwards `client`.
    pub(crate) async fn connect_forwarded(server: SocketAddr, id: &str, client: &str) -> Self {
        Self::open(server, id, Some(("x-forwarded-for", client))).await
    }

    async fn open(server: SocketAddr, id: &str, header: Option<(&'static str, &str)>) -> Self {
        within("a registration", async {
            let stream = TcpStream::connect(server).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let local = stream.local_addr().unwrap();
            let url = format!("ws://{server}/ws/register/{id}");
            let mut request = url.into_client_request().unwrap();
            if let Some((name, value)) = header {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
            // The server registers after its answer; an echo shows that it has.
            let mut worker = Self { id: id.to_owned(), local, socket, echoes: 0 };
            worker.is_up().await;
            worker
        })
        .await
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        within("a message to be taken", self.socket.send(message)).await.unwrap();
    }

    /// Sends one frame of a fragmented text.
    pub(crate) async fn send_fragment(&mut self, first: bool, last: bool, bytes: Vec<u8>) {
        let kind = OpCode::Data(if first { Data::Text } else { Data::Continue });
        self.send_message(Message::Frame(Frame::message(bytes, kind, last))).await;
    }

    /// The next message, pings and pongs left out.
    async fn next(&mut self) -> Message {
        within("a message from the server", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(message)) => return message,
                    end => panic!("{}: the connection ended: {end:?}", self.id),
                }
            }
        })
        .await
    }

    /// The next text as it was written.
    pub(crate) async fn receive_text(&mut self) -> String {
        let message = self.next().await;
        assert!(message.is_text(), "{}: expected a text, got {message:?}", self.id);
        message.into_text().unwrap().as_str().to_owned()
    }

    pub(crate) async fn receive(&mut self) -> Value {
        serde_json::from_str(&self.receive_text().await).unwrap()
    }

    /// Shows that the connection is up, and that the server had nothing else to say before.
    pub(crate) async fn is_up(&mut self) {
        self.echoes += 1;
        let payload = json!({ "echo": self.echoes });
        self.send(json!({ "type": "echo_request", "payload": payload })).await;
        let answer = self.receive().await;
        assert_eq!(answer["type"], "echo_response", "{}: {answer}", self.id);
        assert_eq!(answer["original_payload"], payload, "{}", self.id);
    }

    /// What the server knows of this worker.
    pub(crate) async fn details(&mut self) -> Value {
        self.send(json!({ "type": "get_my_details" })).await;
        self.receive().await
    }

    /// Reports an endpoint and has it accepted.
    pub(crate) async fn report(&mut self, endpoint: &str) {
        self.send(report(endpoint)).await;
        let ack = json!({ "type": "udp_endpoint_ack", "status": "success" });
        assert_eq!(self.receive().await, ack, "{}", self.id);
    }

    /// The next message, which must be an offer: the peer's id and endpoint.
    pub(crate) async fn offer(&mut self) -> (String, String) {
        let offer = self.receive().await;
        assert_eq!(offer["type"], "p2p_connection_offer", "{}: {offer}", self.id);
        let ip = offer["peer_udp_ip"].as_str().unwrap();
        let port = offer["peer_udp_port"].as_u64().unwrap();
        (offer["peer_worker_id"].as_str().unwrap().to_owned(), format!("{ip}:{port}"))
    }

    /// Waits until the server closes: its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let message = self.next().await;
        let Message::Close(Some(frame)) = message else {
            panic!("{}: expected a close, got {message:?}", self.id)
        };
        (frame.code.into(), frame.reason.as_str().to_owned())
    }

    /// Closes properly, and waits for the server's end of it.
    pub(crate) async fn close(mut self) {
        within("the end of the connection", async {
            self.socket.close(None).await.unwrap();
            while let Some(Ok(_)) = self.socket.next().await {}
        })
        .await;
    }

    /// Answers pings until the connection ends or the future is dropped.
    pub(crate) async fn idle(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Ends the TCP connection with a reset, without a word.
    pub(crate) fn reset(self) {
        let stream = self.socket.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

/// The report of an endpoint written as `ip:port`.
pub(crate) fn report(endpoint: &str) -> Value {
    let endpoint: SocketAddr = endpoint.parse().unwrap();
    json!({ "type": "update_udp_endpoint", "udp_ip": endpoint.ip(), "udp_port": endpoint.port() })
}
