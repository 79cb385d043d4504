//! One allocation on a TURN server (RFC 8656) and the channel to the peer in it, without IO.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::turn::TurnServer;
use turn_client_proto::api::{
    BindChannelError, Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet,
};
use turn_client_proto::stun;
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::types::message::{ALLOCATE, REFRESH};
use turn_client_proto::types::prelude::DelayedTransmitBuild;
use turn_client_proto::types::stun::TransportType;
use turn_client_proto::types::stun::attribute::ErrorCode;
use turn_client_proto::types::stun::message::{Message, MessageClass, TransactionId};
use turn_client_proto::udp::TurnClientUdp;

/// Bytes before the data of a ChannelData message (RFC 8656 §12.4): the channel's number, and the length.
pub(super) const HEADER_BYTES: usize = 4;
/// Answers without credentials that refuse an allocation: the first one asks for them, the second one
/// refuses them.
const UNAUTHORIZED_MAX: u32 = 1;
/// Addresses of the peer that an allocation gets channels to; an honest peer has one, and another one
/// when its TURN server has failed.
const PEERS_MAX: u32 = 8;
/// Requests whose answer is awaited: for the address, and for a channel and a permission for each of
/// [`PEERS_MAX`], twice, since a stale nonce makes another request of each. The oldest give way.
const REQUESTS_MAX: usize = 2 * (1 + 2 * PEERS_MAX as usize);

/// What has become of an allocation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The server takes packets at this address.
    Allocated(SocketAddr),
    /// Packets may go to the peer at this address.
    Bound(SocketAddr),
    /// It is of no use any more.
    Failed(Failure),
}

/// Why an allocation is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether the server refuses the credentials.
    pub(super) is_refused: bool,
}

/// An allocation, being made or in use.
#[derive(Debug)]
pub(super) struct Allocation {
    client: TurnClientUdp,
    /// Requests whose answer is awaited.
    requests: VecDeque<TransactionId>,
    /// The library counts time from a moment of its user's choice.
    origin: Instant,
    relayed: Option<SocketAddr>,
    /// The peer that a channel is wanted to.
    wanted: Option<SocketAddr>,
    channel: Option<[u8; 2]>,
    peers: u32,
    unauthorized: u32,
    is_refused: bool,
    /// The server does not renew the address, or knows it no more.
    is_gone: bool,
    /// What the server has said last that was wrong.
    error: Option<String>,
    is_told: bool,
}

impl Allocation {
    /// From a socket at `local` on the server at `remote`.
    pub(super) fn new(
        local: SocketAddr,
        remote: SocketAddr,
        server: &TurnServer,
        origin: Instant,
    ) -> Self {
        let config = TurnConfig::new(TurnCredentials::new(&server.username, &server.credential));
        Self {
            client: TurnClientUdp::allocate(local, remote, config),
            requests: VecDeque::new(),
            origin,
            relayed: None,
            wanted: None,
            channel: None,
            peers: 0,
            unauthorized: 0,
            is_refused: false,
            is_gone: false,
            error: None,
            is_told: false,
        }
    }

    fn time(&self, now: Instant) -> stun::Instant {
        let since = now.saturating_duration_since(self.origin).as_nanos();
        stun::Instant::from_nanos(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// From now on the peer is here; it gets a channel as soon as there is an allocation. `false` where
    /// the allocation cannot reach such an address.
    pub(super) fn want_peer(&mut self, peer: SocketAddr, now: Instant) -> bool {
        if self.wanted == Some(peer) {
            return true;
        }
        let fits = self.relayed.is_none_or(|relayed| relayed.is_ipv4() == peer.is_ipv4());
        if !fits || self.peers == PEERS_MAX {
            return false;
        }
        self.peers += 1;
        (self.wanted, self.channel) = (Some(peer), None);
        self.bind(now);
        true
    }

    fn bind(&mut self, now: Instant) {
        let now = self.time(now);
        let (Some(peer), Some(_)) = (self.wanted, self.relayed) else { return };
        match self.client.bind_channel(TransportType::Udp, peer, now) {
            Ok(()) => {}
            // Back to an address that it had before.
            Err(BindChannelError::AlreadyExists) => self.channel = self.number_of(peer, now),
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    /// The number of the channel to there.
    fn number_of(&mut self, peer: SocketAddr, now: stun::Instant) -> Option<[u8; 2]> {
        let message = self.client.send_to(TransportType::Udp, peer, [0; 1], now).ok()??;
        message.data.build().first_chunk().copied()
    }

    /// The header of a message to the peer, once there is a channel.
    pub(super) fn header(&self, length: usize) -> Option<[u8; HEADER_BYTES]> {
        let [first, second] = self.channel?;
        let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
        Some([first, second, high, low])
    }

    /// Takes what has come from the server: the peer's datagram in it, or `None` where it is the
    /// server's own.
    pub(super) fn handle<'a>(&mut self, datagram: &'a [u8], now: Instant) -> Option<&'a [u8]> {
        if self.channel.is_some_and(|number| datagram.starts_with(&number)) {
            return unpacked(datagram);
        }
        let message = Message::from_bytes(datagram).ok();
        let answer = message.as_ref().filter(|message| message.is_response());
        if answer.is_some_and(|answer| !self.requests.contains(&answer.transaction_id())) {
            // Whoever can send in the server's name could end the allocation: the library takes nonce and
            // realm from an error before it looks which request it answers.
            return None;
        }
        if answer.is_some_and(|answer| self.is_refusal(answer)) {
            return None;
        }
        let at = self.time(now);
        let (from, to) = (self.client.remote_addr(), self.client.local_addr());
        let transmit = Transmit { data: datagram, transport: TransportType::Udp, from, to };
        let is_taken = matches!(self.client.recv(transmit, at), TurnRecvRet::Handled);
        if let Some(answer) = answer {
            self.look_for_error(answer, is_taken);
            if is_taken {
                self.requests.retain(|request| *request != answer.transaction_id());
            }
        }
        None
    }

    /// Whether the server refuses the credentials. It has no key to sign that with; the library waits for
    /// long then, or asks again and again.
    fn is_refusal(&mut self, answer: &Message<'_>) -> bool {
        let Some(error) = error_of(answer) else { return false };
        if error.code() != ErrorCode::UNAUTHORIZED {
            return false;
        }
        let is_refusal = if answer.has_method(ALLOCATE) {
            self.unauthorized += 1;
            self.unauthorized > UNAUTHORIZED_MAX
        } else {
            answer.has_method(REFRESH)
        };
        if is_refusal {
            self.is_refused = true;
            self.error = Some(in_words(&error));
        }
        is_refusal
    }

    /// The library does not tell what the server said. `is_taken` says that it has found the answer's
    /// integrity right.
    fn look_for_error(&mut self, answer: &Message<'_>, is_taken: bool) {
        let Some(error) = error_of(answer) else { return };
        let is_challenge = error.code() == ErrorCode::UNAUTHORIZED && answer.has_method(ALLOCATE);
        if is_challenge || error.code() == ErrorCode::STALE_NONCE {
            return;
        }
        // Without a right integrity it is to be discarded (RFC 8489 §9.2.5).
        if answer.has_method(REFRESH) && is_taken {
            // The library would wait until the time is over that the address had.
            self.is_gone = true;
        }
        self.error = Some(in_words(&error));
    }

    /// The next datagram for the server.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let now = self.time(now);
        let datagram = self.client.poll_transmit(now)?.data.as_ref().to_vec();
        if let Ok(request) = Message::from_bytes(&datagram)
            && request.has_class(MessageClass::Request)
        {
            self.await_answer(request.transaction_id());
        }
        Some(datagram)
    }

    /// Takes answers to this request from now on; it may have been sent before.
    fn await_answer(&mut self, request: TransactionId) {
        if self.requests.contains(&request) {
            return;
        }
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// When to look at it again; `None` once it is of no use.
    pub(super) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.time(now);
        match self.client.poll(at) {
            TurnPollRet::WaitUntil(then) => Some(now + then.duration_since(at)),
            TurnPollRet::Closed
            | TurnPollRet::AllocateTcpSocket { .. }
            | TurnPollRet::TcpClose { .. } => None,
        }
    }

    /// The next thing that has become of it.
    pub(super) fn poll_told(&mut self, now: Instant) -> Option<Told> {
        if self.is_told {
            return None;
        }
        if self.is_refused {
            return Some(self.fail("the TURN server refuses the credentials"));
        }
        if self.is_gone {
            return Some(self.fail("the TURN server does not renew the address"));
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                TurnEvent::AllocationCreated(_, relayed) => {
                    self.relayed = Some(relayed);
                    self.bind(now);
                    return Some(Told::Allocated(relayed));
                }
                TurnEvent::ChannelCreated(_, peer) if Some(peer) == self.wanted => {
                    let at = self.time(now);
                    self.channel = self.number_of(peer, at);
                    return Some(Told::Bound(peer));
                }
                TurnEvent::ChannelCreateFailed(_, peer) if Some(peer) == self.wanted => {
                    return Some(self.fail("the TURN server gives no channel to the peer"));
                }
                TurnEvent::AllocationCreateFailed(_) => {
                    return Some(self.fail("the TURN server gives no address"));
                }
                // A channel brings its permission along; one that cannot be renewed ends with it.
                TurnEvent::PermissionCreateFailed(_, ip)
                    if self.wanted.is_some_and(|peer| peer.ip() == ip) =>
                {
                    return Some(self.fail("the TURN server lets nothing through to the peer"));
                }
                TurnEvent::ChannelCreated(..)
                | TurnEvent::ChannelCreateFailed(..)
                | TurnEvent::PermissionCreated(..)
                | TurnEvent::PermissionCreateFailed(..)
                | TurnEvent::TcpConnected(_)
                | TurnEvent::TcpConnectFailed(_) => {}
            }
        }
        None
    }

    fn fail(&mut self, what: &str) -> Told {
        self.is_told = true;
        let why = match self.error.take() {
            Some(error) => format!("{what}: {error}"),
            None => format!("{what}: no answer"),
        };
        Told::Failed(Failure { why, is_refused: self.is_refused })
    }

    /// Tells the server that the address is no longer needed.
    pub(super) fn delete(&mut self, now: Instant) {
        let now = self.time(now);
        let _unless_there_is_none = self.client.delete(now);
    }
}

/// The error that an answer is.
fn error_of(answer: &Message<'_>) -> Option<ErrorCode> {
    answer.has_class(MessageClass::Error).then(|| answer.attribute().ok()).flatten()
}

fn in_words(error: &ErrorCode) -> String {
    format!("{} {}", error.code(), error.reason())
}

/// The data of a ChannelData message; over UDP there may be padding behind it, or none.
fn unpacked(message: &[u8]) -> Option<&[u8]> {
    let (header, rest) = message.split_first_chunk::<HEADER_BYTES>()?;
    let [.., high, low] = *header;
    rest.get(..usize::from(u16::from_be_bytes([high, low])))
}

#[cfg(any(test, feature = "testing"))]
pub(super) mod fuzzing;
#[cfg(any(test, feature = "testing"))]
mod played;
#[cfg(test)]
mod tests;
