//! A TURN server is found: its name looked up, and an address chosen that answers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_link::dial::in_turn;
use holepunch_wire::turn::{TurnServer, TurnUrl};
use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};

use super::super::allocation::{Allocation, Failure};
use super::{Carrier, DATAGRAM_BYTES_MAX, LOOK_AGAIN_MIN};

/// A name look-up may take so long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// An address that has said nothing for so long gives way to the next one of the name: its second request has left by then
/// (RFC 8489 §6.2.1).
const NEXT_AFTER: Duration = Duration::from_millis(750);

impl Carrier {
    /// On a TURN server, by its URL.
    pub(super) async fn open(server: &TurnServer) -> Result<Self, String> {
        let url: TurnUrl = server.url.parse().map_err(|error| format!("{error}"))?;
        let looked_up = tokio::net::lookup_host((url.host.as_str(), url.port));
        let found = timeout(LOOKUP_TIMEOUT, looked_up).await;
        let found = found.map_err(|_| format!("no address within {LOOKUP_TIMEOUT:?}"))?;
        let mut found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        Self::open_at_any(server, &in_turn(found.into_iter())).await
    }

    /// At the first of a name's addresses that says anything; the last one has all the time that there is.
    async fn open_at_any(server: &TurnServer, addresses: &[SocketAddr]) -> Result<Self, String> {
        let mut others = Vec::new();
        let (last, before) = addresses.split_last().ok_or("the name has no address")?;
        for remote in before {
            let said = match Self::open_at(server, *remote).await {
                Ok(mut carrier) => match timeout(NEXT_AFTER, carrier.first_answer()).await {
                    Ok(Ok(())) => return Ok(carrier),
                    Ok(Err(error)) => format!("{remote}: {error}"),
                    Err(_) => format!("{remote} does not answer"),
                },
                Err(error) => format!("{remote}: {error}"),
            };
            others.push(said);
        }
        match Self::open_at(server, *last).await {
            Ok(carrier) => Ok(Self { others, ..carrier }),
            Err(error) => {
                others.push(format!("{last}: {error}"));
                Err(others.join("; "))
            }
        }
    }

    async fn open_at(server: &TurnServer, remote: SocketAddr) -> io::Result<Self> {
        let socket = connected(remote).await?;
        let local = socket.local_addr()?;
        let allocation = Allocation::new(local, remote, server, Instant::now());
        let (url, message) = (server.url.clone(), Vec::with_capacity(DATAGRAM_BYTES_MAX));
        let (knocking, refusal, others) = (None, None, Vec::new());
        Ok(Self { socket, url, allocation, knocking, refusal, others, message })
    }

    /// Asks for an address until anything has come, which is left where it is.
    async fn first_answer(&mut self) -> io::Result<()> {
        let mut byte = [0];
        loop {
            let now = Instant::now();
            while let Some(request) = self.allocation.poll_transmit(now) {
                self.send(&request).await;
            }
            if let Some(error) = self.refusal.take() {
                return Err(error);
            }
            let look_at = self.allocation.poll_timeout(now).ok_or(io::ErrorKind::TimedOut)?;
            tokio::select! {
                arrived = self.socket.peek(&mut byte) => return arrived.map(drop),
                () = sleep_until(look_at.max(now + LOOK_AGAIN_MIN).into()) => {}
            }
        }
    }

    /// A failure beside those of the other addresses.
    pub(super) fn with_others(&self, failure: Failure) -> Failure {
        let (Ok(remote), false) = (self.socket.peer_addr(), self.others.is_empty()) else {
            return failure;
        };
        let why = format!("{}; {remote}: {}", self.others.join("; "), failure.why);
        Failure { why, ..failure }
    }
}

/// A socket from which `remote` alone is sent to and heard.
async fn connected(remote: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(remote).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> TurnServer {
        let [url, username, credential] = ["turn:a.example", "1:b", "c"].map(str::to_owned);
        TurnServer { url, username, credential }
    }

    /// A socket at which requests arrive, and its address.
    async fn server_socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn an_address_of_the_server_that_stays_silent_gives_way_to_the_next_one() {
        let (silent, first) = server_socket().await;
        let (answering, second) = server_socket().await;
        let (_never_asked, third) = server_socket().await;
        let answer = tokio::spawn(async move {
            let (_, from) = answering.recv_from(&mut [0; 1500]).await.unwrap();
            answering.send_to(b"anything", from).await.unwrap();
        });
        let carrier = Carrier::open_at_any(&server(), &[first, second, third]).await.unwrap();
        assert_eq!(carrier.socket.peer_addr().unwrap(), second);
        assert_eq!(carrier.socket.recv(&mut [0; 1500]).await.unwrap(), 8, "it is still to be read");
        assert!(silent.try_recv(&mut [0; 1500]).is_ok(), "it was asked");
        answer.await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_names_each_address_and_what_it_has_said() {
        let (_silent, first) = server_socket().await;
        let (gone, second) = server_socket().await;
        drop(gone);
        let (_last, third) = server_socket().await;
        let carrier = Carrier::open_at_any(&server(), &[first, second, third]).await.unwrap();
        let failure = Failure { why: "no".to_owned(), is_refused: false };
        let why = carrier.with_others(failure).why;
        let expected = format!("{first} does not answer; {second}: ");
        assert!(why.starts_with(&expected) && why.ends_with(&format!("; {third}: no")), "{why}");
        let alone = Carrier::open_at_any(&server(), &[third]).await.unwrap();
        let failure = Failure { why: "no".to_owned(), is_refused: false };
        assert_eq!(alone.with_others(failure).why, "no");
    }
}
