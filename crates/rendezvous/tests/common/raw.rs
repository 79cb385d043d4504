//! A WebSocket client written by hand: it does nothing of its own accord.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::{status, upgrade_request};
use super::within;

/// First bytes of frames that are whole messages (RFC 6455 §5.2).
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A server that takes nothing for so long has stopped reading.
const STUFFED: Duration = Duration::from_millis(300);

/// A TCP connection, before or after its handshake.
pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
}

impl RawClient {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(server)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Asks for a WebSocket at `path`; the status of the answer.
    pub(crate) async fn open(server: SocketAddr, path: &str) -> (u16, Self) {
        let mut client = Self::connect(server).await;
        client.write(upgrade_request(path, "").as_bytes()).await;
        let head = client.read_head().await;
        (status(&head), client)
    }

    /// Reads the head of an HTTP answer, and not a byte more.
    pub(crate) async fn read_head(&mut self) -> String {
        within("the head of an answer", async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.stream.read_u8().await.unwrap());
            }
            String::from_utf8(head).unwrap()
        })
        .await
    }

    /// A worker that registers.
    pub(crate) async fn register(server: SocketAddr, id: &str) -> Self {
        let (status, client) = Self::open(server, &format!("/ws/register/{id}")).await;
        assert_eq!(status, 101);
        client
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("bytes to be taken", self.stream.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn send_frame(&mut self, first_byte: u8, payload: &[u8]) {
        self.write(&frame(first_byte, payload)).await;
    }

    /// The next frame from the server, its first byte and its payload; `None` at the end.
    pub(crate) async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a frame from the server", read_frame(&mut self.stream)).await
    }

    /// Reads up to the close frame, whose code and reason it returns.
    pub(crate) async fn read_close(&mut self) -> (u16, String) {
        within("a close from the server", read_close(&mut self.stream)).await
    }

    /// Ends the TCP connection with a reset, without a word.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads until the server ends the connection.
    pub(crate) async fn read_to_end(&mut self) {
        while self.read_frame().await.is_some() {}
    }

    /// Writes what the server may not take to the end, until it closes: its code and reason.
    pub(crate) async fn write_until_closed(&mut self, bytes: &[u8]) -> (u16, String) {
        let (mut read, mut write) = self.stream.split();
        let writing = async {
            let _refused = write.write_all(bytes).await;
            std::future::pending().await
        };
        let closed = async {
            tokio::select! {
                close = read_close(&mut read) => close,
                never = writing => never,
            }
        };
        within("a close from the server", closed).await
    }

    /// Writes the same bytes again and again, reading nothing, until the server takes no more: how
    /// often they were written, and what of them is still to be written.
    pub(crate) async fn stuff<'a>(&mut self, bytes: &'a [u8]) -> (usize, &'a [u8]) {
        let mut times = 0;
        let mut rest = bytes;
        while let Ok(ready) = tokio::time::timeout(STUFFED, self.stream.writable()).await {
            ready.unwrap();
            match self.stream.try_write(rest) {
                Ok(written) if written == rest.len() => (times, rest) = (times + 1, bytes),
                Ok(written) => rest = &rest[written..],
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        (times, rest)
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first_byte = stream.read_u8().await.ok()?;
    let length = match stream.read_u8().await.ok()? {
        126 => usize::from(stream.read_u16().await.ok()?),
        127 => usize::try_from(stream.read_u64().await.ok()?).unwrap(),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((first_byte, payload))
}

async fn read_close(stream: &mut (impl AsyncRead + Unpin)) -> (u16, String) {
    loop {
        let (first_byte, payload) = read_frame(stream).await.expect("a close before the end");
        if first_byte == CLOSE {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            return (code, String::from_utf8(payload[2..].to_vec()).unwrap());
        }
    }
}

/// A frame of a client: masked, with a mask of zeros.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first_byte];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&u64::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
