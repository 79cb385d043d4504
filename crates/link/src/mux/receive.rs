//! QUIC's socket: what it reads.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use holepunch_traversal::SocketId;
use holepunch_wire::relay;
use noq::udp::RecvMeta;
use noq::{AsyncUdpSocket, UdpSender};
use tokio::io::Interest;
use tokio::sync::mpsc;

use super::send::MuxSender;
use super::{Drop, Injected, Mux, Udp, demux, drops, read};

/// What QUIC takes for its socket.
#[derive(Debug)]
pub(crate) struct MuxSocket {
    mux: Arc<Mux>,
    injected: mpsc::Receiver<Injected>,
    /// The part of a relay's frame that did not fit.
    rest: Option<(SocketAddr, Bytes)>,
    sockets: Vec<Arc<Udp>>,
    /// The version of the sockets.
    version: u64,
    /// The socket that has its turn.
    next: usize,
    local: SocketAddr,
}

impl MuxSocket {
    pub(super) fn new(mux: Arc<Mux>, injected: mpsc::Receiver<Injected>, port: u16) -> Self {
        let local = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let sockets = Vec::new();
        Self { mux, injected, rest: None, sockets, version: 0, next: 0, local }
    }

    fn refresh(&mut self) {
        let version = self.mux.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.sockets = read(&self.mux.sockets).values().cloned().collect();
        }
    }

    /// Takes what waits for QUIC beside its sockets. How many buffers it has filled.
    fn poll_injected(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        loop {
            if let Some((label, frame)) = &mut self.rest {
                let (filled, too_long) = fill(*label, frame, buffers, metas);
                self.mux.drops.count(Drop::QuicTooLong, too_long);
                self.rest.take_if(|(_, frame)| frame.is_empty());
                if filled > 0 {
                    return Poll::Ready(filled);
                }
                continue;
            }
            match ready!(self.injected.poll_recv(context)) {
                Some(Injected::Frame(own, frame)) => {
                    self.mux.follow_handshakes(own, &frame);
                    self.rest = Some((self.mux.named(own), frame));
                }
                Some(Injected::Datagram(own, datagram))
                    if demux::is_short_enough(datagram.len()) =>
                {
                    let label = self.mux.named(own);
                    buffers[0][..datagram.len()].copy_from_slice(&datagram);
                    set(&mut metas[0], label, datagram.len(), datagram.len());
                    return Poll::Ready(1);
                }
                Some(Injected::Datagram(..)) => self.mux.drops.count(Drop::QuicTooLong, 1),
                // It has woken the task, which looks what sockets there are.
                Some(Injected::Sockets) => {}
                // The sender lives as long as this socket does.
                None => return Poll::Pending,
            }
        }
    }

    /// Reads one socket. How many buffers it has filled; some may be empty, because what was in them is not
    /// QUIC's.
    fn poll_socket(
        &self,
        socket: &Udp,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        loop {
            // An error is that of one datagram (an ICMP message, say), and must not end QUIC.
            if ready!(socket.io.poll_recv_ready(context)).is_err() {
                return Poll::Pending;
            }
            let read = socket.io.try_io(Interest::READABLE, || {
                socket.state.recv((&*socket.io).into(), buffers, metas)
            });
            match read {
                Ok(count) => {
                    for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(count) {
                        self.sort(socket.id, buffer, meta);
                    }
                    return Poll::Ready(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    // Once around, so that a socket which fails for ever does not spin here.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn sort(&self, socket: SocketId, buffer: &mut [u8], meta: &mut RecvMeta) {
        let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
        let label = self.mux.label_of(socket, meta.addr).map(|own| self.mux.named(own));
        let too_long = demux::split(buffer, meta, |datagram| {
            self.mux.arrive(socket, from, datagram);
        });
        self.mux.drops.count(Drop::QuicTooLong, too_long);
        if label.is_none() {
            // Nobody of ours is there.
            if meta.len > 0 {
                let count = drops::datagrams(meta.len, Some(meta.stride));
                self.mux.drops.count(Drop::UnknownSender, count);
            }
            meta.len = 0;
        }
        // From which of its addresses the system sends is the system's choice, as for checks.
        meta.dst_ip = None;
        meta.addr = label.unwrap_or(meta.addr);
    }
}

fn set(meta: &mut RecvMeta, label: SocketAddr, length: usize, stride: usize) {
    *meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (label, length, stride);
}

/// Moves datagrams of a frame into buffers: as many of one length as fit into one. How many buffers that
/// were, and how many datagrams are too long for QUIC or a buffer; a frame that is cut short is emptied.
pub(super) fn fill(
    label: SocketAddr,
    frame: &mut Bytes,
    buffers: &mut [IoSliceMut<'_>],
    metas: &mut [RecvMeta],
) -> (usize, usize) {
    let (mut filled, mut too_long) = (0, 0);
    let mut taken = 0;
    let mut run: Option<(usize, usize)> = None;
    let mut is_full = false;
    for datagram in relay::datagrams(frame) {
        if !demux::is_short_enough(datagram.len()) {
            too_long += 1;
            taken += relay::LENGTH_BYTES + datagram.len();
            continue;
        }
        let fits = |length: usize, buffers: &[IoSliceMut<'_>]| {
            buffers.get(filled).is_some_and(|buffer| length + datagram.len() <= buffer.len())
        };
        // A run goes on with datagrams of its stride; a shorter one is its last.
        let joins = run.is_some_and(|(length, stride)| {
            length % stride == 0 && datagram.len() <= stride && fits(length, buffers)
        });
        if !joins && let Some((length, stride)) = run.take() {
            set(&mut metas[filled], label, length, stride);
            filled += 1;
        }
        if filled >= buffers.len().min(metas.len()) {
            is_full = true;
            break;
        }
        let (length, stride) = run.unwrap_or((0, datagram.len()));
        if length + datagram.len() <= buffers[filled].len() {
            buffers[filled][length..length + datagram.len()].copy_from_slice(datagram);
            run = Some((length + datagram.len(), stride));
        } else {
            too_long += 1;
        }
        taken += relay::LENGTH_BYTES + datagram.len();
    }
    if let Some((length, stride)) = run {
        set(&mut metas[filled], label, length, stride);
        filled += 1;
    }
    if is_full {
        frame.advance(taken)
    } else {
        frame.clear()
    }
    (filled, too_long)
}

impl AsyncUdpSocket for MuxSocket {
    fn create_sender(&self) -> Pin<Box<dyn UdpSender>> {
        Box::pin(MuxSender::new(Arc::clone(&self.mux)))
    }

    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // Relays and sockets take turns in being first; each is asked, so that each can wake the task.
        self.next = self.next.wrapping_add(1);
        loop {
            self.refresh();
            let asked = self.sockets.len() + 1;
            for turn in 0..asked {
                let polled = match self.sockets.get((self.next + turn) % asked).cloned() {
                    Some(socket) => self.poll_socket(&socket, context, buffers, metas),
                    None => self.poll_injected(context, buffers, metas),
                };
                if let Poll::Ready(count) = polled {
                    return Poll::Ready(Ok(count));
                }
            }
            // A socket that has come in the meantime has not been asked.
            if self.mux.version.load(Ordering::Acquire) == self.version {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_receive_segments(&self) -> NonZeroUsize {
        let sockets = read(&self.mux.sockets);
        sockets
            .values()
            .map(|socket| socket.state.gro_segments())
            .max()
            .unwrap_or(NonZeroUsize::MIN)
    }

    fn may_fragment(&self) -> bool {
        read(&self.mux.sockets).values().any(|socket| socket.state.may_fragment())
    }
}

#[cfg(test)]
mod tests {
    use holepunch_wire::relay::RelayFrame;

    use super::*;
    use crate::quic::PAYLOAD_BYTES_MAX;

    #[test]
    fn datagrams_of_a_relay_that_are_longer_than_advertised_are_left_out_and_counted() {
        let longest = usize::from(PAYLOAD_BYTES_MAX);
        let mut frame = RelayFrame::default();
        for length in [longest, longest + 1, 16_000, longest, 100] {
            assert!(frame.push(&vec![0x41; length]));
        }
        let mut frame = Bytes::from(frame.into_bytes());
        let mut memory = vec![vec![0; 64 * 1024]; 4];
        let mut buffers: Vec<IoSliceMut<'_>> =
            memory.iter_mut().map(|it| IoSliceMut::new(it)).collect();
        let mut metas = [RecvMeta::default(); 4];
        let label = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
        assert_eq!(fill(label, &mut frame, &mut buffers, &mut metas), (1, 2));
        assert_eq!((metas[0].len, metas[0].stride), (2 * longest + 100, longest));
        assert!(frame.is_empty());
    }
}
