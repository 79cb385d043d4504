//! One allocation on a TURN server (RFC 8656) and the channel to the peer in it, without IO.

use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::turn::TurnServer;
use turn_client_proto::api::{
    BindChannelError, Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet,
};
use turn_client_proto::stun;
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::types::message::{ALLOCATE, REFRESH};
use turn_client_proto::types::prelude::DelayedTransmitBuild;
use turn_client_proto::types::stun::TransportType;
use turn_client_proto::types::stun::attribute::ErrorCode;
use turn_client_proto::types::stun::message::{Message, MessageClass};
use turn_client_proto::udp::TurnClientUdp;

/// Bytes before the data of a ChannelData message (RFC 8656 §12.4): the channel's number, and the length.
pub(super) const HEADER_BYTES: usize = 4;
/// Answers without credentials that refuse an allocation: the first one asks for them, the second one
/// refuses them.
const UNAUTHORIZED_MAX: u32 = 1;
/// Addresses of the peer that an allocation gets channels to; an honest peer has one, and another one
/// when its TURN server has failed.
const PEERS_MAX: u32 = 8;

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
        self.look_for_errors(datagram);
        if self.is_refused {
            return None;
        }
        let now = self.time(now);
        let (from, to) = (self.client.remote_addr(), self.client.local_addr());
        let transmit = Transmit { data: datagram, transport: TransportType::Udp, from, to };
        let _indications_are_not_used = self.client.recv(transmit, now);
        None
    }

    /// The library does not tell what the server said, and waits for long when credentials are refused.
    fn look_for_errors(&mut self, datagram: &[u8]) {
        let Ok(message) = Message::from_bytes(datagram) else { return };
        if !message.has_class(MessageClass::Error) {
            return;
        }
        let Ok(error) = message.attribute::<ErrorCode>() else { return };
        if error.code() == ErrorCode::STALE_NONCE {
            return;
        }
        if error.code() == ErrorCode::UNAUTHORIZED && message.has_method(ALLOCATE) {
            self.unauthorized += 1;
            if self.unauthorized <= UNAUTHORIZED_MAX {
                return;
            }
            self.is_refused = true;
        } else if message.has_method(REFRESH) {
            // The library would wait until the time is over that the address had.
            self.is_refused = error.code() == ErrorCode::UNAUTHORIZED;
            self.is_gone = true;
        }
        self.error = Some(format!("{} {}", error.code(), error.reason()));
    }

    /// The next datagram for the server.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let now = self.time(now);
        self.client.poll_transmit(now).map(|transmit| transmit.data.as_ref().to_vec())
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

/// The data of a ChannelData message; over UDP there may be padding behind it, or none.
fn unpacked(message: &[u8]) -> Option<&[u8]> {
    let (header, rest) = message.split_first_chunk::<HEADER_BYTES>()?;
    let [.., high, low] = *header;
    rest.get(..usize::from(u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use turn_client_proto::types::stun::message::{
        MessageType, MessageWrite, MessageWriteExt, MessageWriteVec, TransactionId,
    };

    fn allocation() -> Allocation {
        let [local, remote] = ["127.0.0.1:1", "127.0.0.1:3478"].map(|text| text.parse().unwrap());
        let [url, username, credential] = ["turn:a", "1:b", "c"].map(str::to_owned);
        let server = TurnServer { url, username, credential };
        Allocation::new(local, remote, &server, Instant::now())
    }

    /// What has become of it once the server has answered a request to renew it with this error.
    fn told_after(code: u16) -> Option<Told> {
        let request = Message::builder(
            MessageType::from_class_method(MessageClass::Request, REFRESH),
            TransactionId::generate(),
            MessageWriteVec::new(),
        );
        let request = request.finish();
        let request = Message::from_bytes(&request).unwrap();
        let mut answer = Message::builder_error(&request, MessageWriteVec::new());
        answer.add_attribute(&ErrorCode::builder(code).build().unwrap()).unwrap();
        let (mut allocation, now) = (allocation(), Instant::now());
        assert_eq!(allocation.handle(&answer.finish(), now), None);
        allocation.poll_told(now)
    }

    #[test]
    fn an_address_that_the_server_does_not_renew_is_given_up_at_once() {
        let Some(Told::Failed(failure)) = told_after(437) else { panic!("it waits") };
        assert!(failure.why.starts_with("the TURN server does not renew the address: 437"));
        assert!(!failure.is_refused);
        let Some(Told::Failed(failure)) = told_after(401) else { panic!("it waits") };
        assert!(failure.is_refused && failure.why.contains("401"), "{failure:?}");
        assert_eq!(told_after(438), None, "the nonce is stale: it is asked again with another");
    }

    #[test]
    fn channel_data_is_unpacked_without_its_padding_and_not_where_it_is_cut_short() {
        assert_eq!(unpacked(&[0x40, 0, 0, 3, 1, 2, 3]), Some(&[1, 2, 3][..]));
        assert_eq!(unpacked(&[0x40, 0, 0, 3, 1, 2, 3, 0]), Some(&[1, 2, 3][..]));
        assert_eq!(unpacked(&[0x40, 0, 0, 0]), Some(&[][..]));
        for short in [&[0x40, 0, 0, 3, 1, 2][..], &[0x40, 0, 0], &[]] {
            assert_eq!(unpacked(short), None);
        }
    }
}
