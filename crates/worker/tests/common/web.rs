//! HTTP by hand: an IP echo service played by the test, and a client.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{loopback, within};

/// An IP echo service that answers when the test says so.
pub(crate) struct IpEcho {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// A request for the IP that waits for its answer.
pub(crate) struct Question(TcpStream);

impl IpEcho {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The next request, which must be a GET.
    pub(crate) async fn question(&self) -> Question {
        within("a request for the public IP", async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET / HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
            Question(stream)
        })
        .await
    }
}

impl Question {
    pub(crate) async fn answer(mut self, status: &str, body: &str) {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        // Who reads no further than he wants to may have gone.
        let _sent = self.0.write_all(text.as_bytes()).await;
    }
}

/// An answer, read to the end of its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// `GET path` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    })
    .await
}
