//! HTTP by hand, so that a test can also write what no client library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// An answer, read to the end of its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// `GET path` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
        .await
}

/// `GET path` as a client of this machine does, with further header lines.
pub(crate) async fn get_with(address: SocketAddr, path: &str, further: &str) -> Answer {
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{further}\r\n");
    exchange(address, &head).await
}

/// What a page of the API says.
pub(crate) async fn api(address: SocketAddr, path: &str) -> serde_json::Value {
    let answer = get_with(address, &format!("/api/v1/{path}"), "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// All metrics.
pub(crate) async fn metrics(address: SocketAddr) -> String {
    let answer = get_with(address, "/metrics", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Writes a whole request, which must ask for `Connection: close`, and reads the whole answer.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> Answer {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that refuses a request may end the connection before all of it is written, and
        // with a reset after its answer.
        let _all_written = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _at_the_end = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer { status: status(head), head: head.to_lowercase(), body: body.to_owned() }
    })
    .await
}

/// The status in the first line of a head.
pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The head that asks for a WebSocket at `path`, with further header lines.
pub(crate) fn upgrade_request(path: &str, further: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{further}\r\n"
    )
}
