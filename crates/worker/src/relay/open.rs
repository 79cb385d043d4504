//! Opens a relay's connection: several attempts beside each other while the network swallows them.
//!
//! A TCP handshake that is under way when the network comes back waits for its next retransmission, 1, 2, 4 s apart.
//! A fresh one does not. So silence is answered with another attempt beside the others, and an answer that
//! is no connection with patience: a server that refuses is not to be stormed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;
use holepunch_wire::session::RelayToken;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http};

use super::RelayAddress;
use crate::signalling::handshake::{self, Asking, CONNECT_TIMEOUT, Way};
use crate::signalling::hint;
use crate::signalling::stream::Stream;

/// TCP has so long, where others are tried beside it: longer than any round trip.
const TCP_WITHIN: Duration = Duration::from_secs(2);
/// While nothing answers, another attempt begins so often ...
const BESIDE_EVERY: Duration = Duration::from_millis(300);
/// ... for so long: a link that has no path for 30 s has ended by then ...
const BESIDE_FOR: Duration = Duration::from_secs(35);
/// ... and from then on so often.
const LATER_EVERY: Duration = Duration::from_secs(15);
/// Attempts at once: those that wait for TCP, and some whose handshake is slow.
const AT_ONCE_MAX: usize = 8;
const _: () = assert!(TCP_WITHIN.as_millis() / BESIDE_EVERY.as_millis() < AT_ONCE_MAX as u128);
/// After the first answer that is no connection, the wait before the next attempt, which doubles up to the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LONGEST: Duration = Duration::from_secs(15);
/// So many attempts in a row use the address that was good last; the next one asks for it by its name.
const BY_ADDRESS_MAX: u32 = 3;
/// What the WebSocket library reads at once. An idle relay keeps it; bulk is read in larger pieces below it.
const READ_BYTES: usize = 1024;
/// What is gathered before it is written: bulk fills frames of this size.
const WRITE_BYTES: usize = 64 * 1024;
/// Most bytes that the library keeps for a relay that takes none.
const WRITE_BUFFER_BYTES_MAX: usize = 4 * RELAY_FRAME_BYTES_MAX;

pub(super) type Socket = WebSocketStream<Stream>;

/// Why an attempt came to nothing.
struct Failed {
    why: String,
    kind: Kind,
    /// What the relay was asked with.
    token: RelayToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody has answered.
    Silence,
    /// The server, or the host, has said no.
    Answer,
    /// It would be refused again with the same token.
    Final,
}

/// When attempts begin.
#[derive(Debug, Default)]
struct Pace {
    first_at: Option<Instant>,
    next_at: Option<Instant>,
    answers: u32,
}

impl Pace {
    /// When the next one may begin; `None` is at once.
    fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    fn begun(&mut self, now: Instant) {
        let first_at = *self.first_at.get_or_insert(now);
        let is_early = now.saturating_duration_since(first_at) < BESIDE_FOR;
        self.next_at = Some(now + if is_early { BESIDE_EVERY } else { LATER_EVERY });
    }

    /// The server has said no.
    fn answered(&mut self, now: Instant) {
        let wait = (AGAIN_FIRST * 2_u32.pow(self.answers.min(10))).min(AGAIN_LONGEST);
        self.answers += 1;
        self.next_at = Some(now + wait);
    }
}

/// The attempts of one relay.
pub(super) struct Opener {
    address: RelayAddress,
    /// Where it was reached last.
    known: Option<SocketAddr>,
    by_address: u32,
    pace: Pace,
    running: JoinSet<Result<(Box<Socket>, SocketAddr), Failed>>,
}

impl Opener {
    pub(super) fn new(address: RelayAddress) -> Self {
        let (pace, running) = (Pace::default(), JoinSet::new());
        Self { address, known: None, by_address: 0, pace, running }
    }

    /// The next connection. Dropping the future loses nothing: the attempts go on until [`rest`](Self::rest).
    ///
    /// # Errors
    ///
    /// Why there will be none.
    pub(super) async fn open(&mut self) -> Result<Box<Socket>, String> {
        loop {
            let at = self.pace.next_at().unwrap_or_else(Instant::now);
            tokio::select! {
                Some(outcome) = self.running.join_next() => match outcome {
                    Ok(Ok((socket, from))) => {
                        self.known = Some(from);
                        self.rest();
                        return Ok(socket);
                    }
                    Ok(Err(Failed { why, kind: Kind::Final, token }))
                        if token == *self.address.token.borrow() => return Err(why),
                    Ok(Err(Failed { why, kind, .. })) => {
                        tracing::debug!(url = %self.address.url, why, "no relay");
                        if kind != Kind::Silence {
                            self.pace.answered(Instant::now());
                        }
                    }
                    Err(error) => tracing::debug!(%error, "an attempt to open the relay has ended"),
                },
                () = sleep_until(at), if self.running.len() < AT_ONCE_MAX => self.begin(),
            }
        }
    }

    /// Gives up the attempts: there is a connection.
    pub(super) fn rest(&mut self) {
        if self.pace.first_at.is_some() {
            (self.pace, self.running) = (Pace::default(), JoinSet::new());
        }
    }

    /// The connection has ended: the next one takes its time, since the server may end that, too.
    pub(super) fn lost(&mut self) {
        self.pace.answered(Instant::now());
    }

    fn begin(&mut self) {
        self.pace.begun(Instant::now());
        let known = self.known.filter(|_| self.by_address < BY_ADDRESS_MAX);
        self.by_address = if known.is_some() { self.by_address + 1 } else { 0 };
        self.running.spawn(attempt(self.address.clone(), known));
    }
}

async fn attempt(
    address: RelayAddress,
    known: Option<SocketAddr>,
) -> Result<(Box<Socket>, SocketAddr), Failed> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(RELAY_FRAME_BYTES_MAX))
        .max_frame_size(Some(RELAY_FRAME_BYTES_MAX));
    let way = Way { known, tcp_within: TCP_WITHIN, within: CONNECT_TIMEOUT };
    let token = address.token.borrow().clone();
    let revealed = token.reveal();
    let asking = Asking::Relay(&revealed);
    match handshake::open(&address.url, &address.access, way, asking, config).await {
        // Boxed: a task that waits for it keeps room for it as long as it lives.
        Ok(opened) => Ok((Box::new(opened.socket), opened.server)),
        Err(error) => {
            let why = hint::on_handshake(&error, &address.url);
            Err(Failed { why, kind: kind(&error), token })
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add errors, and the system has"
)]
fn kind(error: &Error) -> Kind {
    match error {
        Error::Http(response) if response.status() == http::StatusCode::FORBIDDEN => Kind::Final,
        Error::Io(error) => match error.kind() {
            // What routers say during an outage is no answer of the server's.
            io::ErrorKind::TimedOut
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown => Kind::Silence,
            _ => Kind::Answer,
        },
        _ => Kind::Answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_answered_soon_and_for_long_and_a_refusal_with_patience() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.next_at(), None, "the first one begins at once");
        let mut now = start;
        let mut waits = Vec::new();
        while now < start + BESIDE_FOR + LATER_EVERY {
            pace.begun(now);
            waits.push(pace.next_at().unwrap() - now);
            now = pace.next_at().unwrap();
        }
        let (last, early) = waits.split_last().unwrap();
        assert!(early.iter().all(|wait| *wait == BESIDE_EVERY) && early.len() > 60);
        assert_eq!(*last, LATER_EVERY);

        let mut pace = Pace::default();
        let waits: Vec<_> = std::iter::repeat_with(|| {
            pace.begun(start);
            pace.answered(start);
            pace.next_at().unwrap() - start
        })
        .take(40)
        .collect();
        assert_eq!(waits[..3], [1, 2, 4].map(|times| AGAIN_FIRST * times));
        assert_eq!(waits[39], AGAIN_LONGEST);
    }

    #[tokio::test]
    async fn a_relay_is_reached_as_the_registration_is_by_proxy_prefix_and_password() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://a:b@{}", proxy.local_addr().unwrap());
        let rendezvous: crate::RendezvousUrl = "ws://c:d@r.example/base".parse().unwrap();
        let named = |name: &str| (name == "HTTP_PROXY").then(|| address.clone());
        let by = crate::Proxy::for_rendezvous(&rendezvous, named).unwrap();
        let (session, token) = (holepunch_wire::session::SessionId(7), [9; 16]);
        let address = RelayAddress {
            url: rendezvous.relay(session),
            token: tokio::sync::watch::Sender::new(RelayToken::from_bytes(token)).subscribe(),
            access: crate::reach::Access::new(&rendezvous, by, None),
            session,
            udp: Vec::new(),
        };
        let attempt = tokio::spawn(attempt(address, None));
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut heads = Vec::new();
        for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.push(String::from_utf8(head).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        assert!(heads[0].starts_with("CONNECT r.example:80 HTTP/1.1\r\n"), "{heads:?}");
        assert!(heads[0].contains("\r\nProxy-Authorization: Basic YTpi\r\n"), "{heads:?}");
        assert!(heads[1].starts_with("GET /base/ws/relay/0000000000000007 HTTP"), "{heads:?}");
        assert!(heads[1].contains("\r\nAuthorization: Basic Yzpk\r\n"), "{heads:?}");
        assert!(heads[1].contains(&format!("-Token: {}\r\n", "09".repeat(16))), "{heads:?}");
        let failed = attempt.await.unwrap().expect_err("it is refused");
        assert_eq!(failed.kind, Kind::Final, "{}", failed.why);
    }

    #[test]
    fn what_a_router_says_is_no_answer_of_the_server() {
        let io = |kind: io::ErrorKind| Error::Io(kind.into());
        assert_eq!(kind(&io(io::ErrorKind::HostUnreachable)), Kind::Silence);
        assert_eq!(kind(&io(io::ErrorKind::ConnectionRefused)), Kind::Answer);
        let mut response = http::Response::new(None);
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        assert_eq!(kind(&Error::Http(Box::new(response))), Kind::Final);
    }
}
