//! A UDP socket that asks one server, with as many datagrams in a call of the kernel as it takes.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use noq_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// One read may hold several datagrams.
const READ_BYTES: usize = 64 * 1024;
/// What the kernel is asked to keep.
const KERNEL_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Line {
    io: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
}

/// What a call of the kernel has read.
#[derive(Debug)]
pub(super) struct Reads {
    bytes: Vec<u8>,
    metas: Vec<RecvMeta>,
    count: usize,
}

impl Reads {
    /// Room for so many reads.
    pub(super) fn of(most: usize) -> Self {
        let most = most.clamp(1, BATCH_SIZE);
        let metas = vec![RecvMeta::default(); most];
        Self { bytes: vec![0; most * READ_BYTES], metas, count: 0 }
    }

    /// The datagrams that were read.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let reads = self.bytes.chunks(READ_BYTES).zip(&self.metas).take(self.count);
        reads.flat_map(|(bytes, meta)| bytes[..meta.len].chunks(meta.stride.max(1)))
    }
}

impl Line {
    pub(super) fn open(to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&to.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&io).into())?;
        let _as_much_as_it_may = state.set_recv_buffer_size((&io).into(), KERNEL_BYTES);
        let _as_much_as_it_may = state.set_send_buffer_size((&io).into(), KERNEL_BYTES);
        Ok(Self { io, state, to })
    }

    /// Most datagrams of one length in one call of the kernel.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().get()
    }

    /// Sends datagrams of so many bytes each, the last perhaps shorter.
    pub(super) async fn send(&self, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit =
            Transmit { destination: self.to, ecn: None, contents, segment_size, src_ip: None };
        let send = || self.state.try_send((&self.io).into(), &transmit);
        self.io.async_io(Interest::WRITABLE, send).await
    }

    /// Waits for datagrams.
    pub(super) async fn read(&self, into: &mut Reads) -> io::Result<()> {
        let Reads { bytes, metas, count } = into;
        let read = || {
            let buffers = bytes.chunks_mut(READ_BYTES).map(IoSliceMut::new);
            let mut slices: Vec<IoSliceMut<'_>> = buffers.collect();
            self.state.recv((&self.io).into(), &mut slices, metas)
        };
        *count = 0;
        *count = self.io.async_io(Interest::READABLE, read).await?;
        Ok(())
    }
}
