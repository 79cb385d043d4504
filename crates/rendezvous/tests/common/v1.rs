//! A client of the sub-protocol `holepunch.v1`.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::within;

/// A client that asks for the sub-protocol.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

/// Asks for these sub-protocols: the client, and the one that was selected.
pub(crate) async fn open(
    server: SocketAddr,
    path: &str,
    protocols: &str,
) -> Result<(Client, Option<HeaderValue>), Error> {
    let stream = TcpStream::connect(server).await.unwrap();
    let mut request = format!("ws://{server}/ws/register/{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    let opening = tokio_tungstenite::client_async(request, stream);
    let (socket, response) = within("a handshake", opening).await?;
    let selected = response.headers().get("sec-websocket-protocol").cloned();
    Ok((Client { socket }, selected))
}

impl Client {
    pub(crate) async fn connect(server: SocketAddr, path: &str) -> Self {
        open(server, path, "holepunch.v1").await.unwrap().0
    }

    /// With a token, as a browser gives it.
    pub(crate) async fn connect_with(server: SocketAddr, path: &str, token: &str) -> Self {
        let protocols = format!("holepunch.v1, holepunch.token.{token}");
        let (client, selected) = open(server, path, &protocols).await.unwrap();
        assert_eq!(selected.unwrap(), "holepunch.v1", "a token is never told back");
        client
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of this type; others are left out.
    pub(crate) async fn receive(&mut self, kind: &str) -> Value {
        within("a message of the rendezvous", async {
            loop {
                if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] == kind {
                        return message;
                    }
                }
            }
        })
        .await
    }

    pub(crate) async fn report(&mut self, port: u16) {
        let report =
            json!({ "type": "update_udp_endpoint", "udp_ip": "127.0.0.1", "udp_port": port });
        self.send(report).await;
        assert_eq!(self.receive("udp_endpoint_ack").await["status"], "success");
    }

    /// Waits until the server closes: its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        within("a close from the server", async {
            loop {
                if let Message::Close(frame) = self.socket.next().await.unwrap().unwrap() {
                    let frame = frame.unwrap();
                    return (frame.code.into(), frame.reason.as_str().to_owned());
                }
            }
        })
        .await
    }

    /// Shows that the connection is up.
    pub(crate) async fn is_up(&mut self) {
        self.send(json!({ "type": "get_my_details" })).await;
        self.receive("my_details_response").await;
    }
}
