//! The devices of a line: what the kernel gives in one piece is taken apart, and put together again when it is given back.
//!
//! A card does both: what TCP, or UDP's segmentation, sends as one piece leaves it as packets, and packets that come one
//! right after the other reach the kernel as one piece. Between the two, on the line, there are packets alone.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tun_rs::{
    AsyncDevice, DeviceBuilder, DeviceImpl, GROTable, IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN,
};

/// Longest packet that is read: longer ones do not come, since the devices' MTU is 1,500.
const PACKET_BYTES_MAX: usize = 2048;
/// Longest piece that the kernel gives: a packet of IP, with the header that tells where to cut it.
const PIECE_BYTES_MAX: usize = VIRTIO_NET_HDR_LEN + 65_535;
/// Packets of a piece: TCP sends 45 of full size at once, and UDP's segmentation makes 128 at most.
const PIECE_PACKETS_MAX: usize = 256;
const _: () = assert!(PIECE_PACKETS_MAX >= IDEAL_BATCH_SIZE);
/// Before a packet there is room for the header with which it is given back.
const ROOM: usize = VIRTIO_NET_HDR_LEN;

/// A packet on its way, from its IP header on.
pub(super) type Packet = Box<[u8]>;

/// Where packets come from.
pub(super) struct Reader {
    device: Arc<AsyncDevice>,
    /// The one that the device was made in, which waits for it.
    runtime: Runtime,
    piece: Vec<u8>,
    packets: Vec<Vec<u8>>,
    lengths: Vec<usize>,
}

impl Reader {
    /// Waits for one piece.
    pub(super) fn wait(&mut self) -> io::Result<impl Iterator<Item = Packet>> {
        let Self { device, runtime, piece, packets, lengths } = self;
        let count = runtime.block_on(device.recv_multiple(piece, packets, lengths, 0))?;
        Ok(of(packets, lengths, count))
    }

    /// Reads one piece, if there is one; `WouldBlock`, if there is none.
    pub(super) fn read(&mut self) -> io::Result<impl Iterator<Item = Packet>> {
        let Self { device, piece, packets, lengths, .. } = self;
        // From the device itself: the runtime, which would know whether there is something, does not run meanwhile.
        let device: &DeviceImpl = device;
        let count = device.recv_multiple(piece, packets, lengths, 0)?;
        Ok(of(packets, lengths, count))
    }
}

fn of(packets: &[Vec<u8>], lengths: &[usize], count: usize) -> impl Iterator<Item = Packet> {
    packets.iter().zip(lengths).take(count).map(|(packet, length)| packet[..*length].into())
}

/// Where packets go to.
pub(super) struct Writer {
    device: Arc<AsyncDevice>,
    table: GROTable,
    batch: Vec<Vec<u8>>,
}

impl Writer {
    /// Gives out packets, in their order; those of one flow that follow one another in one piece.
    pub(super) fn write(&mut self, packets: impl Iterator<Item = Packet>) -> io::Result<()> {
        let mut count = 0;
        for packet in packets {
            if count == self.batch.len() {
                // Packets are put together in the place of the first one, if there is room.
                self.batch.push(Vec::with_capacity(PIECE_BYTES_MAX));
            }
            let place = &mut self.batch[count];
            place.clear();
            place.resize(ROOM, 0);
            place.extend_from_slice(&packet);
            count += 1;
        }
        let device: &DeviceImpl = &self.device;
        device.send_multiple(&mut self.table, &mut self.batch[..count], ROOM).map(|_| ())
    }
}

/// Makes a device.
pub(super) fn attach(name: &str) -> io::Result<(Reader, Writer)> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let builder = DeviceBuilder::new().name(name).inherit_enable_state();
    let device = builder.with(|builder| _ = builder.offload(true)).build_async()?;
    drop(guard);
    if !device.udp_gso() {
        return Err(io::Error::other("a kernel without UDP segmentation for TUN devices"));
    }
    let device = Arc::new(device);
    let writer = Writer { device: Arc::clone(&device), table: GROTable::new(), batch: Vec::new() };
    let reader = Reader {
        device,
        runtime,
        piece: vec![0; PIECE_BYTES_MAX],
        packets: vec![vec![0; PACKET_BYTES_MAX]; PIECE_PACKETS_MAX],
        lengths: vec![0; PIECE_PACKETS_MAX],
    };
    Ok((reader, writer))
}
