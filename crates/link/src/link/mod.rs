//! A link: an encrypted connection of two workers, over whatever way there is.

mod close;
mod error;
mod joined;
mod path;
mod stream;
mod window;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::session::SessionId;

use crate::links::LastWord;

pub use close::{Close, CloseCode};
pub use error::{DatagramError, LinkError, ReadError, WriteError};
pub(crate) use error::{REFUSED_HERE, REFUSED_THERE};
pub use joined::BiStream;
pub(crate) use path::PathState;
pub use path::{LinkPath, PathEvent, PathEvents, PathKind};
pub use stream::{RecvStream, SendStream};
pub(crate) use window::{HANDSHAKE_BYTES, Window, Windows};

/// Two workers, connected. Clones are the same link; it is closed when the last one is dropped, and
/// what has not arrived by then may be lost: [`SendStream::stopped`] waits for it.
///
/// The way that packets go may change at any time; streams notice no more than a pause.
#[derive(Debug, Clone)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: noq::Connection,
    peer: Peer,
    paths: Arc<PathState>,
    ending: Arc<Ending>,
    last_word: LastWord,
    window: Window,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) session: SessionId,
    pub(crate) id: WorkerId,
    pub(crate) key: PublicKey,
    /// Whether this side is the one that nominates, connects, and opens the first stream.
    pub(crate) is_controlling: bool,
    /// Whether both have proved that they know the room's secret.
    pub(crate) knows_secret: bool,
    /// What the two have agreed on to speak over the link.
    pub(crate) protocol: Option<Vec<u8>>,
}

/// What is known of a link's end, beyond what QUIC says.
#[derive(Debug, Default)]
pub(crate) struct Ending(Mutex<Option<LinkError>>);

impl Ending {
    /// Says why the link is about to end; the first reason counts.
    pub(crate) fn because(&self, error: LinkError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(crate) fn explain(&self, error: &noq::ConnectionError) -> LinkError {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_local = matches!(error, noq::ConnectionError::LocallyClosed);
        known.filter(|_| is_local).unwrap_or_else(|| LinkError::from_connection(error))
    }
}

impl Link {
    pub(crate) fn new(
        connection: noq::Connection,
        peer: Peer,
        paths: Arc<PathState>,
        (ending, last_word): (Arc<Ending>, LastWord),
        window: Window,
    ) -> Self {
        connection.set_receive_window(noq::VarInt::from_u32(window.bytes()));
        Self(Arc::new(Inner { connection, peer, paths, ending, last_word, window }))
    }

    /// The peer's id.
    #[must_use]
    pub fn peer(&self) -> &WorkerId {
        &self.0.peer.id
    }

    /// The peer's key, which it has proved.
    #[must_use]
    pub fn peer_key(&self) -> PublicKey {
        self.0.peer.key
    }

    /// The session in which the rendezvous brought the two together.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.0.peer.session
    }

    /// The name of what the two speak over the link, where they have named any.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.peer.protocol.as_deref()
    }

    /// Whether the peer's key is sure without trust in the rendezvous: its id was made from the key, or
    /// it has proved that it knows the room's secret.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        let Peer { id, key, knows_secret, .. } = &self.0.peer;
        *knows_secret || key.worker_id() == *id
    }

    /// Whether this is the side that began. The two sides differ in it, so that a protocol over the link
    /// can tell them apart.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.0.peer.is_controlling
    }

    /// So much of the peer's has been read.
    fn has_read(&self, bytes: usize) {
        let set = |bytes| self.set_window(bytes);
        self.0.window.read(bytes, Instant::now, || self.path().rtt, set);
    }

    fn set_window(&self, bytes: u32) {
        self.0.connection.set_receive_window(noq::VarInt::from_u32(bytes));
    }

    fn lost(&self, error: &noq::ConnectionError) -> LinkError {
        self.0.ending.explain(error)
    }

    /// Opens a stream. The peer sees it with the first byte that is written.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), LinkError> {
        let opened = self.0.connection.open_bi().await.map_err(|error| self.lost(&error))?;
        Ok(self.wrap(opened))
    }

    /// The next stream that the peer has opened.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), LinkError> {
        let accepted = self.0.connection.accept_bi().await.map_err(|error| self.lost(&error))?;
        Ok(self.wrap(accepted))
    }

    /// Opens a stream, and has both of its halves in one. The peer sees it with the first byte that is written.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn open_stream(&self) -> Result<BiStream, LinkError> {
        self.open_bi().await.map(|(send, recv)| BiStream::new(send, recv))
    }

    /// The next stream that the peer has opened, both of its halves in one.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn accept_stream(&self) -> Result<BiStream, LinkError> {
        self.accept_bi().await.map(|(send, recv)| BiStream::new(send, recv))
    }

    fn wrap(&self, (send, recv): (noq::SendStream, noq::RecvStream)) -> (SendStream, RecvStream) {
        (SendStream::new(send, Arc::clone(&self.0.ending)), RecvStream::new(recv, self.clone()))
    }

    /// Sends a datagram: encrypted, but neither repeated nor kept in order. Where the queue is full, the
    /// oldest ones in it are dropped.
    ///
    /// # Errors
    /// It is too long for the path, or the link has ended.
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError> {
        let length = datagram.len();
        self.0.connection.send_datagram(datagram).map_err(|error| match error {
            noq::SendDatagramError::ConnectionLost(error) => self.lost(&error).into(),
            noq::SendDatagramError::TooLarge
            | noq::SendDatagramError::UnsupportedByPeer
            | noq::SendDatagramError::Disabled => {
                DatagramError::TooLong { length, max: self.datagram_bytes_max() }
            }
        })
    }

    /// Bytes of datagrams that wait to be sent. Whoever sends into a long queue has its datagrams arrive late.
    #[must_use]
    pub fn datagrams_waiting_bytes(&self) -> usize {
        crate::quic::DATAGRAM_QUEUE_BYTES
            .saturating_sub(self.0.connection.datagram_send_buffer_space())
    }

    /// The next datagram of the peer's.
    ///
    /// # Errors
    /// The link has ended.
    pub async fn read_datagram(&self) -> Result<Bytes, LinkError> {
        self.0.connection.read_datagram().await.map_err(|error| self.lost(&error))
    }

    /// The longest datagram that the path of the moment takes, in bytes; 0 where it takes none.
    #[must_use]
    pub fn datagram_bytes_max(&self) -> usize {
        self.0.connection.max_datagram_size().unwrap_or(0)
    }

    /// The way that packets go at the moment.
    #[must_use]
    pub fn path(&self) -> LinkPath {
        let (id, mut path) = self.0.paths.current();
        // The estimate goes on as long as packets do.
        path.rtt = id.and_then(|id| self.0.connection.rtt(id)).or(path.rtt);
        path
    }

    /// Every change of that, from the first one on.
    #[must_use]
    pub fn path_events(&self) -> PathEvents {
        PathEvents::new(&self.0.paths)
    }

    /// The changes so far, the oldest first; of very many the latest.
    #[must_use]
    pub fn path_history(&self) -> Vec<PathEvent> {
        self.0.paths.history()
    }

    /// Closes the link at once, and tells the peer why. One that has ended keeps the reason that it has.
    pub fn close(&self, why: impl Into<Close>) {
        if self.ended().is_some() {
            return;
        }
        let close = why.into();
        self.0.ending.because(LinkError::Closed(close.clone()));
        self.0.last_word.close(&self.0.connection, &close);
    }

    /// Why the link has ended, where it has.
    #[must_use]
    pub fn ended(&self) -> Option<LinkError> {
        self.0.connection.close_reason().map(|error| self.lost(&error))
    }

    /// Returns when the link has ended, with the reason.
    pub async fn closed(&self) -> LinkError {
        let error = self.0.connection.closed().await;
        self.lost(&error)
    }

    /// Asks the peer for a sign of life, which its QUIC gives whatever its program does: [`Traffic::received_datagrams`] grows
    /// within a round trip where it is there.
    pub fn ping(&self) {
        for path in self.0.connection.paths() {
            let _unless_it_is_closed = path.ping();
        }
    }

    /// What has gone over the link so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let stats = self.0.connection.stats();
        Traffic {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_datagrams: stats.udp_tx.datagrams,
            received_datagrams: stats.udp_rx.datagrams,
            lost_packets: stats.lost_packets,
            rtt: self.path().rtt,
        }
    }
}

/// What has gone over a link, on all its paths, in UDP payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_datagrams: u64,
    /// Packets received.
    pub received_datagrams: u64,
    /// Packets that were sent and never acknowledged.
    pub lost_packets: u64,
    /// The round-trip time of the path of the moment.
    pub rtt: Option<Duration>,
}
