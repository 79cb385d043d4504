//! The other worker of a pair, played by the test.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::within;

/// A UDP socket that speaks when the test says so.
pub(crate) struct Peer {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    socket: UdpSocket,
}

impl Peer {
    pub(crate) async fn bind(id: &str) -> Self {
        Self::bind_on(Ipv4Addr::LOCALHOST, id).await
    }

    /// On another address of the loopback network.
    pub(crate) async fn bind_on(ip: Ipv4Addr, id: &str) -> Self {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        Self { id: id.to_owned(), address, socket }
    }

    pub(crate) async fn send(&self, datagram: impl AsRef<[u8]>, to: SocketAddr) {
        self.socket.send_to(datagram.as_ref(), to).await.unwrap();
    }

    /// The next datagram, and where it came from.
    pub(crate) async fn receive(&self) -> (String, SocketAddr) {
        let mut bytes = [0; 2048];
        let (length, from) =
            within("a datagram of the worker", self.socket.recv_from(&mut bytes)).await.unwrap();
        (String::from_utf8(bytes[..length].to_vec()).unwrap(), from)
    }

    /// What has arrived already.
    pub(crate) fn arrived(&self) -> Vec<String> {
        let mut bytes = [0; 2048];
        let mut arrived = Vec::new();
        while let Ok(length) = self.socket.try_recv(&mut bytes) {
            arrived.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        arrived
    }

    /// The next datagram, which must be a PING of worker `id`: its number and its source.
    pub(crate) async fn ping(&self, id: &str) -> (u32, SocketAddr) {
        let (text, from) = self.receive().await;
        let number = ping_number(&text, id);
        (number.unwrap_or_else(|| panic!("expected a PING of {id}, got {text:?}")), from)
    }

    /// Sends PING number `number`.
    pub(crate) async fn send_ping(&self, number: u32, to: SocketAddr) {
        self.send(format!("P2P_PING_FROM_{}_NUM_{number}", self.id), to).await;
    }

    /// Answers PING number `number` of worker `id`.
    pub(crate) async fn send_pong(&self, id: &str, number: u32, to: SocketAddr) {
        self.send(self.pong(id, number), to).await;
    }

    /// The answer to PING number `number` of worker `id`.
    pub(crate) fn pong(&self, id: &str, number: u32) -> String {
        format!("P2P_PONG_FROM_{}_TO_{id}_ACK_YOUR_PING_NUM_{number}", self.id)
    }

    /// Waits for the answer of worker `id` to our PING number `number`; where it came from. PINGs
    /// that come in between are left without an answer.
    pub(crate) async fn answer_of(&self, id: &str, number: u32) -> SocketAddr {
        let expected = format!("P2P_PONG_FROM_{id}_TO_{}_ACK_YOUR_PING_NUM_{number}", self.id);
        within("an answer of the worker", async {
            loop {
                let (text, from) = self.receive().await;
                if text == expected {
                    return from;
                }
                assert!(ping_number(&text, id).is_some(), "expected {expected:?}, got {text:?}");
            }
        })
        .await
    }

    /// Does a peer's part of a punch: answers a PING, sends one, and waits for its answer.
    pub(crate) async fn link_with(&self, id: &str) {
        let (number, worker) = self.ping(id).await;
        self.send_pong(id, number, worker).await;
        self.send_ping(1, worker).await;
        self.answer_of(id, 1).await;
    }
}

/// The number in a PING of worker `id`; `None` when the text is anything else.
pub(crate) fn ping_number(text: &str, id: &str) -> Option<u32> {
    text.strip_prefix("P2P_PING_FROM_")?.strip_prefix(id)?.strip_prefix("_NUM_")?.parse().ok()
}
