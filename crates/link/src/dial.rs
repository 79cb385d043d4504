//! A TCP connection to whichever of a name's addresses answers: Happy Eyeballs (RFC 8305).
//!
//! A name often has an address that swallows packets: an IPv6 one behind a broken tunnel, or one of two load
//! balancers that is down. Waiting for it alone would take all the time there is.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

/// While an address stays silent, the next one is tried after so long (RFC 8305 §5).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried: with both families, three of each.
const ADDRESSES_MAX: usize = 6;

/// Connects to `host`, a name or an IP address without brackets; to addresses that are `mute` last.
///
/// # Errors
/// The name is not known, or every address with what it said.
pub async fn dial(host: &str, port: u16, mute: &Mute, within: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + within;
    let found = match timeout_at(until, lookup_host((host, port))).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            let why = format!("the name {host} cannot be looked up: {error}");
            return Err(io::Error::new(error.kind(), NameUnknown(why)));
        }
        Err(_) => {
            let why = format!("no answer to the look-up of the name {host} within {within:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
    };
    let addresses = mute.last(in_turn(found));
    Ok(dial_any(&addresses, until.saturating_duration_since(Instant::now())).await?)
}

/// A host name that cannot be looked up: the inner error of an IO error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NameUnknown(String);

impl NameUnknown {
    /// Whether an IO error is of that.
    #[must_use]
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// Addresses that have taken a connection, and on it have said nothing yet that is an answer: behind a load balancer there
/// may be nobody. Connecting alone tells nothing of that, so the next connection is tried elsewhere first.
#[derive(Debug, Clone, Default)]
pub struct Mute(Arc<Mutex<VecDeque<SocketAddr>>>);

impl Mute {
    /// A connection to there is open.
    pub fn connected(&self, address: SocketAddr) {
        let mut mute = self.lock();
        mute.retain(|known| *known != address);
        mute.push_back(address);
        if mute.len() > ADDRESSES_MAX {
            mute.pop_front();
        }
    }

    /// An answer has come from there.
    pub fn answered(&self, address: SocketAddr) {
        self.lock().retain(|known| *known != address);
    }

    /// Those of them behind the others, the one that was tried least lately first.
    pub fn last(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mute = self.lock();
        addresses.sort_by_key(|address| mute.iter().position(|known| known == address));
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to the first of `addresses` that answers, and to none but these.
///
/// # Errors
/// Every address with what it said.
pub async fn dial_any(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, Unanswered> {
    let until = Instant::now() + within;
    let mut next = addresses.iter();
    let mut running = FuturesUnordered::new();
    let mut tried: Vec<(SocketAddr, Option<io::Error>)> = Vec::new();
    loop {
        if let Some(address) = next.next() {
            tried.push((*address, None));
            running.push(async move { (*address, TcpStream::connect(*address).await) });
        } else if running.is_empty() {
            return Err(Unanswered { tried });
        }
        let next_at = Instant::now() + NEXT_AFTER;
        tokio::select! {
            Some((address, outcome)) = running.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let of_it = tried.iter_mut().find(|(tried, _)| *tried == address);
                    if let Some((_, said)) = of_it {
                        *said = Some(error);
                    }
                }
            },
            () = sleep_until(next_at), if next.len() > 0 => {}
            () = sleep_until(until) => return Err(Unanswered { tried }),
        }
    }
}

/// The addresses in the order in which they are tried, each once, and at most six: one of each family in turn, beginning
/// with the family that the system prefers (RFC 8305 §4).
pub fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = found.collect();
    let mut ordered: Vec<SocketAddr> = Vec::new();
    while !found.is_empty() && ordered.len() < ADDRESSES_MAX {
        let other = ordered
            .last()
            .and_then(|last| found.iter().position(|address| address.is_ipv4() != last.is_ipv4()));
        let address = found.remove(other.unwrap_or(0));
        if !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    ordered
}

/// No address has answered with a connection.
#[derive(Debug)]
pub struct Unanswered {
    /// What each has said.
    tried: Vec<(SocketAddr, Option<io::Error>)>,
}

impl Unanswered {
    /// What the last one has said that has said anything; not which one that is.
    #[must_use]
    pub fn last_said(&self) -> Option<&io::Error> {
        self.tried.iter().rev().find_map(|(_, said)| said.as_ref())
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("the name has no address");
        }
        for (index, (address, said)) in self.tried.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            match said {
                Some(error) => write!(f, "{address}: {error}")?,
                None => write!(f, "{address} does not answer")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Unanswered {}

/// The kind is that of silence as long as one of them has said nothing.
impl From<Unanswered> for io::Error {
    fn from(unanswered: Unanswered) -> Self {
        let is_silent = unanswered.tried.iter().any(|(_, said)| said.is_none());
        let mut kinds = unanswered.tried.iter().filter_map(|(_, said)| Some(said.as_ref()?.kind()));
        let kind = if is_silent { None } else { kinds.next_back() };
        Self::new(kind.unwrap_or(io::ErrorKind::TimedOut), unanswered)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::testing::Swallowing;

    const PATIENCE: Duration = Duration::from_secs(40);

    /// An address at which connections are refused, as long as the socket lives.
    fn refusing() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_keeps_nobody_from_the_next_one() {
        let (first, second) = (Swallowing::new().await, Swallowing::new().await);
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [first.address, second.address, good.local_addr().unwrap()];
        let began = Instant::now();
        let stream = dial_any(&addresses, PATIENCE).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[2]);
        assert!(began.elapsed() >= 2 * NEXT_AFTER, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_one_at_once() {
        let (_held, refusing) = refusing();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [&[refusing; 40][..], &[good.local_addr().unwrap()]].concat();
        let began = Instant::now();
        dial_any(&addresses, PATIENCE).await.unwrap();
        assert!(began.elapsed() < 40 * NEXT_AFTER, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_failure_names_every_address_and_what_it_said() {
        let silent = Swallowing::new().await;
        let (_held, refusing) = refusing();
        let addresses = [silent.address, refusing];
        let error: io::Error = dial_any(&addresses, 3 * NEXT_AFTER).await.unwrap_err().into();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let said = format!("{} does not answer; {refusing}: ", silent.address);
        assert!(error.to_string().starts_with(&said), "{error}");
        let error: io::Error = dial_any(&[refusing], PATIENCE).await.unwrap_err().into();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "it has answered");
    }

    #[tokio::test]
    async fn a_name_that_is_not_known_is_named() {
        let error = dial("no-such-host.invalid", 80, &Mute::default(), PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("the name no-such-host.invalid"), "{error}");
    }

    #[test]
    fn who_has_taken_a_connection_without_an_answer_comes_last_until_it_answers() {
        let [a, b, c] = [1, 2, 3].map(|last| SocketAddr::from(([192, 0, 2, last], 1)));
        let mute = Mute::default();
        mute.connected(a);
        assert_eq!(mute.last(vec![a, b, c]), [b, c, a]);
        mute.connected(b);
        mute.connected(a);
        assert_eq!(mute.last(vec![a, b, c]), [c, b, a], "the other one first");
        mute.answered(a);
        assert_eq!(mute.last(vec![a, b, c]), [a, c, b]);
        (0..=255).for_each(|last| mute.connected(SocketAddr::from(([192, 0, 2, last], 1))));
        assert_eq!(mute.lock().len(), ADDRESSES_MAX);
    }

    #[test]
    fn families_are_tried_in_turn_and_not_without_end() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (a6, b6) = (address("[2001:db8::a]:1"), address("[2001:db8::b]:1"));
        let (a4, b4) = (address("192.0.2.1:1"), address("192.0.2.2:1"));
        assert_eq!(in_turn([a6, b6, a6, a4, b4].into_iter()), [a6, a4, b6, b4]);
        assert_eq!(in_turn([a4, a6].into_iter()), [a4, a6]);
        let many = (0..100).map(|n| SocketAddr::from(([192, 0, 2, n], 1)));
        assert_eq!(in_turn(many).len(), ADDRESSES_MAX);
    }
}
