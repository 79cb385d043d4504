//! A UDP socket toward one address, with as many datagrams in a call of the kernel as it takes.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use holepunch_wire::relay::udp::RUN_BYTES_MAX;
use noq::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::{UdpSocket, lookup_host};

/// One read may hold several datagrams.
const READ_BYTES: usize = 64 * 1024;
/// What the kernel is asked to keep.
const KERNEL_BYTES: usize = 4 * 1024 * 1024;

/// A connected socket, at a port of its own.
#[derive(Debug)]
pub struct DatagramLine {
    io: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
}

/// What a call of the kernel has read.
#[derive(Debug)]
pub struct DatagramReads {
    bytes: Vec<u8>,
    metas: Vec<RecvMeta>,
    count: usize,
}

impl DatagramReads {
    /// Room for so many reads, 64 KiB each, which may hold several datagrams.
    #[must_use]
    pub fn of(most: usize) -> Self {
        let most = most.clamp(1, BATCH_SIZE);
        let metas = vec![RecvMeta::default(); most];
        Self { bytes: vec![0; most * READ_BYTES], metas, count: 0 }
    }

    /// The datagrams that were read.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let reads = self.bytes.chunks(READ_BYTES).zip(&self.metas).take(self.count);
        reads.flat_map(|(bytes, meta)| bytes[..meta.len].chunks(meta.stride.max(1)))
    }
}

impl DatagramLine {
    /// Opens a socket toward that address, on the current tokio runtime.
    ///
    /// # Errors
    /// There is no socket, or no way there.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&to.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&io).into())?;
        let _as_much_as_it_may = state.set_recv_buffer_size((&io).into(), KERNEL_BYTES);
        let _as_much_as_it_may = state.set_send_buffer_size((&io).into(), KERNEL_BYTES);
        Ok(Self { io, state, to })
    }

    /// The same; an unspecified address means that of `host`, which may be in brackets.
    ///
    /// # Errors
    /// The host has no address, there is no socket, or no way there.
    pub async fn open_of_host(to: SocketAddr, host: &str) -> io::Result<Self> {
        if !to.ip().is_unspecified() {
            return Self::open(to);
        }
        let found = lookup_host((host.trim_matches(['[', ']']), to.port())).await?;
        // One that listens on all addresses of IPv6 has those of IPv4 as well.
        let found = found.min_by_key(|it| it.is_ipv4() != to.is_ipv4());
        Self::open(found.ok_or(io::ErrorKind::NotFound)?)
    }

    /// Most datagrams of so many bytes in one call of the kernel, which takes as many bytes as one datagram of IP has, at most.
    #[must_use]
    pub fn run_max(&self, segment: usize) -> usize {
        self.state.max_gso_segments().get().min(RUN_BYTES_MAX / segment.max(1)).max(1)
    }

    /// Sends datagrams of so many bytes each, the last perhaps shorter: at most [`run_max`](Self::run_max).
    ///
    /// # Errors
    /// The kernel does not take them.
    pub async fn send(&self, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit =
            Transmit { destination: self.to, ecn: None, contents, segment_size, src_ip: None };
        let send = || self.state.try_send((&self.io).into(), &transmit);
        self.io.async_io(Interest::WRITABLE, send).await
    }

    /// Sends one datagram, where the kernel takes it at once.
    pub fn send_now(&self, datagram: &[u8]) {
        let _best_effort = self.io.try_send(datagram);
    }

    /// Waits for datagrams. Dropping the future loses none.
    ///
    /// # Errors
    /// What the network says: that nobody is there, for example. Reading may go on.
    pub async fn read(&self, into: &mut DatagramReads) -> io::Result<()> {
        let DatagramReads { bytes, metas, count } = into;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unspecified_address_is_that_of_the_host_in_whichever_family() {
        for (host, to, opened) in [
            ("[::1]", "0.0.0.0:9", "[::1]:9"),
            ("127.0.0.1", "[::]:9", "127.0.0.1:9"),
            ("192.0.2.1", "127.0.0.2:9", "127.0.0.2:9"),
        ] {
            let line = DatagramLine::open_of_host(to.parse().unwrap(), host).await.unwrap();
            assert_eq!(line.to, opened.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn a_whole_run_of_any_length_is_taken() {
        let to = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let line = DatagramLine::open(to.local_addr().unwrap()).unwrap();
        for segment in [1, 72, 1200, 1308, 1452, 9000, 60_000] {
            let run = vec![7; line.run_max(segment) * segment];
            line.send(&run, segment).await.unwrap();
        }
    }
}
