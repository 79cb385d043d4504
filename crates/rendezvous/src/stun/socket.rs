//! The sockets of the server: for each address one on every core, all with the same port.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use holepunch_wire::relay::udp::RUN_BYTES_MAX;
use noq_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Sockets of one address at most: each may keep [`READ_BYTES`] for each read of a batch.
const SHARDS_MAX: usize = 16;
/// With segmentation offload one read holds several datagrams, as many as one of IP would be long.
const READ_BYTES: usize = 64 * 1024;
/// What the kernel is asked to keep while a task is elsewhere; it may keep less (`net.core.rmem_max`, `wmem_max`).
const KERNEL_BYTES: usize = 4 * 1024 * 1024;

/// One socket. The kernel tells the destination of each datagram and takes the source of each answer, so that on a
/// wildcard address the answer leaves from where it was asked.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
    pub(super) local: SocketAddr,
}

/// What one call of the kernel has read.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Batch {
    pub(super) fn new() -> Self {
        // The kernel gives memory for what is written alone.
        Self { bytes: vec![0; BATCH_SIZE * READ_BYTES], metas: [RecvMeta::default(); BATCH_SIZE] }
    }

    /// The first so many reads.
    pub(super) fn reads(&mut self, count: usize) -> impl Iterator<Item = (&mut [u8], &RecvMeta)> {
        let buffers = self.bytes.chunks_mut(READ_BYTES);
        buffers.zip(&self.metas).take(count).map(|(bytes, meta)| (&mut bytes[..meta.len], meta))
    }
}

/// For each core all addresses, in their order: whoever reads a datagram answers by the sockets of the same core. Or the
/// address that cannot be bound.
pub(crate) fn open(
    addresses: &[SocketAddr],
) -> Result<Vec<Arc<[Socket]>>, (SocketAddr, io::Error)> {
    let of = |address: SocketAddr| move |error| (address, error);
    let first = addresses.iter().map(|address| Socket::first(*address).map_err(of(*address)));
    let first: Arc<[Socket]> = first.collect::<Result<_, _>>()?;
    let mut shards = vec![Arc::clone(&first)];
    for _ in 1..shards_of_this_machine() {
        let further = first.iter().map(|it| Socket::further(it.local).map_err(of(it.local)));
        shards.push(further.collect::<Result<_, _>>()?);
    }
    Ok(shards)
}

/// Elsewhere than on Linux, the last socket of a port would take all.
fn shards_of_this_machine() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cfg!(target_os = "linux") { cores.min(SHARDS_MAX) } else { 1 }
}

impl Socket {
    /// The first one of a port takes it for itself: where somebody has it, another rendezvous say, that must show. Then
    /// others may join.
    fn first(address: SocketAddr) -> io::Result<Self> {
        let socket = unbound(address)?;
        socket.bind(&address.into())?;
        share_port(&socket)?;
        Self::of(socket)
    }

    fn further(address: SocketAddr) -> io::Result<Self> {
        let socket = unbound(address)?;
        share_port(&socket)?;
        socket.bind(&address.into())?;
        Self::of(socket)
    }

    fn of(socket: socket2::Socket) -> io::Result<Self> {
        let udp = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&udp).into())?;
        let _as_much_as_it_may = state.set_recv_buffer_size((&udp).into(), KERNEL_BYTES);
        let _as_much_as_it_may = state.set_send_buffer_size((&udp).into(), KERNEL_BYTES);
        let local = udp.local_addr()?;
        Ok(Self { udp, state, local })
    }

    /// Waits for datagrams; how many reads of the batch hold some.
    pub(super) async fn read(&self, batch: &mut Batch) -> io::Result<usize> {
        let Batch { bytes, metas } = batch;
        loop {
            self.udp.readable().await?;
            let mut count = 0;
            let read = self.udp.try_io(Interest::READABLE, || {
                let mut buffers = bytes.chunks_mut(READ_BYTES);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
                count = self.state.recv((&self.udp).into(), &mut slices, metas)?;
                // Where it was less than would fit nothing is left, and what comes from now on wakes the task: the call that
                // would find nothing is saved.
                if count < BATCH_SIZE { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match read {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ if count > 0 => return Ok(count),
                _ => {}
            }
        }
    }

    /// Most datagrams of so many bytes in one call of the kernel, which takes as many bytes as one datagram of IP has, at most.
    pub(crate) fn run_max(&self, segment: usize) -> usize {
        self.state.max_gso_segments().get().min(RUN_BYTES_MAX / segment.max(1)).max(1)
    }

    /// Sends what one call of the kernel takes, or nothing.
    pub(crate) fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.try_send((&self.udp).into(), transmit)
    }

    /// From which address to answer what came to `asked`: a wildcard socket from the one that was asked.
    pub(crate) fn source(&self, asked: Option<IpAddr>) -> Option<IpAddr> {
        asked.filter(|_| self.local.ip().is_unspecified())
    }
}

fn unbound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn share_port(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
fn share_port(_socket: &socket2::Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn every_core_has_a_socket_at_the_port_of_the_first() {
        let shards = open(&[loopback(0), loopback(0)]).unwrap();
        assert_eq!(shards.len(), shards_of_this_machine());
        let locals = |shard: &Arc<[Socket]>| [shard[0].local, shard[1].local];
        let first = locals(&shards[0]);
        assert_ne!(first[0], first[1]);
        assert!(shards.iter().all(|shard| locals(shard) == first));
    }

    #[tokio::test]
    async fn a_second_server_does_not_join_the_port_of_the_first() {
        let shards = open(&[loopback(0)]).unwrap();
        let taken = shards[0][0].local;
        let (address, error) = open(&[taken]).err().unwrap();
        assert_eq!((address, error.kind()), (taken, io::ErrorKind::AddrInUse));
        drop(shards);
        assert!(open(&[taken]).is_ok(), "it is free again");
    }
}
