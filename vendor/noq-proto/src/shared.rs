use alloc::{boxed::Box, vec::Vec};
use core::{fmt, net::SocketAddr};

use bytes::{Buf, BufMut, BytesMut};

use crate::FourTuple;
use crate::PathId;
use crate::{
    Duration, Instant, MAX_CID_SIZE, ResetToken, coding::BufExt, packet::PartialDecode,
    packet::ShortDecode,
};

/// Events sent from an Endpoint to a Connection
#[derive(Debug)]
pub struct ConnectionEvent(pub(crate) ConnectionEventInner);

#[derive(Debug)]
pub(crate) enum ConnectionEventInner {
    /// A datagram has been received for the Connection
    ///
    /// Boxed: a queue holds many events. Only handshakes have these.
    Datagram(Box<DatagramConnectionEvent>),
    /// A datagram has been received that is one packet with a short header
    ShortDatagram(ShortDatagramEvent),
    /// New connection identifiers have been issued for the Connection
    NewIdentifiers(Vec<IssuedCid>, Instant, usize, Option<Duration>),
}

/// Variant of [`ConnectionEventInner`].
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(crate) struct DatagramConnectionEvent {
    pub(crate) now: Instant,
    pub(crate) network_path: FourTuple,
    pub(crate) path_id: PathId,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) first_decode: PartialDecode,
    pub(crate) remaining: Option<BytesMut>,
}

/// A [`DatagramConnectionEvent`] that takes less space, and is not boxed.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(crate) struct ShortDatagramEvent {
    now: Instant,
    network_path: FourTuple,
    path_id: PathId,
    ecn: Option<EcnCodepoint>,
    packet: ShortDecode,
}

impl From<DatagramConnectionEvent> for ConnectionEventInner {
    fn from(event: DatagramConnectionEvent) -> Self {
        let DatagramConnectionEvent {
            now,
            network_path,
            path_id,
            ecn,
            first_decode,
            remaining,
        } = event;
        match first_decode.into_short() {
            // The payload of a packet with a short header extends to the end of the datagram.
            Ok(packet) if remaining.is_none() => Self::ShortDatagram(ShortDatagramEvent {
                now,
                network_path,
                path_id,
                ecn,
                packet,
            }),
            decoded => Self::Datagram(Box::new(DatagramConnectionEvent {
                now,
                network_path,
                path_id,
                ecn,
                first_decode: decoded.map_or_else(|decode| decode, Into::into),
                remaining,
            })),
        }
    }
}

impl From<ShortDatagramEvent> for DatagramConnectionEvent {
    fn from(event: ShortDatagramEvent) -> Self {
        Self {
            now: event.now,
            network_path: event.network_path,
            path_id: event.path_id,
            ecn: event.ecn,
            first_decode: event.packet.into(),
            remaining: None,
        }
    }
}

/// Events sent from a Connection to an Endpoint
#[derive(Debug)]
pub struct EndpointEvent(pub(crate) EndpointEventInner);

impl EndpointEvent {
    /// Construct an event that indicating that a `Connection` will no longer emit events
    ///
    /// Useful for notifying an `Endpoint` that a `Connection` has been destroyed outside of the
    /// usual state machine flow, e.g. when being dropped by the user.
    pub fn drained() -> Self {
        Self(EndpointEventInner::Drained)
    }

    /// Determine whether this is the last event a `Connection` will emit
    ///
    /// Useful for determining when connection-related event loop state can be freed.
    pub fn is_drained(&self) -> bool {
        self.0 == EndpointEventInner::Drained
    }

    /// Whether this is the event is the event indicating the start of the draining period.
    pub fn is_draining(&self) -> bool {
        self.0 == EndpointEventInner::Draining
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum EndpointEventInner {
    /// The connection started draining
    Draining,
    /// The connection has been drained
    Drained,
    /// The connection has a new active reset token
    ///
    /// Whenever the connection switches to a new remote CID issued by the peer, it also
    /// switches the matching reset token that can be used to abort this connection. This
    /// event provides a new reset token for the active remote CID.
    ResetToken(PathId, SocketAddr, ResetToken),
    /// Retire the remotely issued reset token for a path, without replacing it with a new one
    ///
    /// This is like `ResetToken` above, but without replacing the `ResetToken` with a new
    /// one. See `ConnectionIndex::connection_reset_tokens`.
    RetireResetToken(PathId),
    /// The connection needs connection identifiers.
    ///
    /// The fields are:
    /// - The path ID for which the identifiers are needed.
    /// - The time when the identifiers were needed, not used to generate the CIDs but sent back via
    ///   the [`ConnectionEventInner::NewIdentifiers`] so the connection can track the lifetime of
    ///   when it needs to be rotated.  should be rotated.
    /// - The number of CIDs needed.
    NeedIdentifiers(PathId, Instant, u64),
    /// Retire a locally issued CID
    ///
    /// Stop routing connection ID for this sequence number to the connection
    /// When `bool == true`, a new connection ID will be issued to peer
    RetireConnectionId(Instant, PathId, u64, bool),
}

/// Protocol-level identifier for a connection.
///
/// Mainly useful for identifying this connection's packets on the wire with tools like Wireshark.
#[derive(Clone, Copy, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[cfg_attr(test, derive(test_strategy::Arbitrary))]
pub struct ConnectionId {
    /// length of CID
    #[cfg_attr(test, strategy(1u8..=MAX_CID_SIZE as u8))]
    len: u8,
    /// CID in byte array
    bytes: [u8; MAX_CID_SIZE],
}

impl ConnectionId {
    /// Construct cid from byte array
    pub fn new(bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= MAX_CID_SIZE);
        let mut res = Self {
            len: bytes.len() as u8,
            bytes: [0; MAX_CID_SIZE],
        };
        res.bytes[..bytes.len()].copy_from_slice(bytes);
        res
    }

    /// Constructs cid by reading `len` bytes from a `Buf`
    ///
    /// Callers need to assure that `buf.remaining() >= len`
    pub fn from_buf(buf: &mut (impl Buf + ?Sized), len: usize) -> Self {
        debug_assert!(len <= MAX_CID_SIZE);
        let mut res = Self {
            len: len as u8,
            bytes: [0; MAX_CID_SIZE],
        };
        buf.copy_to_slice(&mut res[..len]);
        res
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Decode from long header format
    pub(crate) fn decode_long(buf: &mut impl Buf) -> Option<Self> {
        let len = buf.get::<u8>().ok()? as usize;
        match len > MAX_CID_SIZE || buf.remaining() < len {
            false => Some(Self::from_buf(buf, len)),
            true => None,
        }
    }

    /// Encode in long header format
    pub(crate) fn encode_long(&self, buf: &mut impl BufMut) {
        buf.put_u8(self.len() as u8);
        buf.put_slice(self);
    }
}

impl ::core::ops::Deref for ConnectionId {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[0..self.len as usize]
    }
}

impl ::core::ops::DerefMut for ConnectionId {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[0..self.len as usize]
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes[0..self.len as usize].fmt(f)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.iter() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Explicit congestion notification codepoint
#[repr(u8)]
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub enum EcnCodepoint {
    /// The ECT(0) codepoint, indicating that an endpoint is ECN-capable
    Ect0 = 0b10,
    /// The ECT(1) codepoint, indicating that an endpoint is ECN-capable
    Ect1 = 0b01,
    /// The CE codepoint, signalling that congestion was experienced
    Ce = 0b11,
}

impl EcnCodepoint {
    /// Create new object from the given bits
    pub fn from_bits(x: u8) -> Option<Self> {
        use EcnCodepoint::*;
        Some(match x & 0b11 {
            0b10 => Ect0,
            0b01 => Ect1,
            0b11 => Ce,
            _ => {
                return None;
            }
        })
    }

    /// Returns whether the codepoint is a CE, signalling that congestion was experienced
    pub fn is_ce(self) -> bool {
        matches!(self, Self::Ce)
    }
}

#[derive(Debug, Copy, Clone)]
pub(crate) struct IssuedCid {
    pub(crate) path_id: PathId,
    pub(crate) sequence: u64,
    pub(crate) id: ConnectionId,
    pub(crate) reset_token: ResetToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_small() {
        // A driver's channel keeps room for dozens of them, for each connection.
        assert!(size_of::<ConnectionEvent>() <= 120);
    }
}
