//! What arrives, without a socket, for the fuzz targets.

use std::io::IoSliceMut;
use std::net::{Ipv6Addr, SocketAddr};

use bytes::Bytes;
use noq::udp::RecvMeta;

use super::{demux, receive};

/// Longest datagram that QUIC takes, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = crate::quic::PAYLOAD_BYTES_MAX as usize;

/// Whether a datagram is QUIC's.
#[must_use]
pub fn is_quic(datagram: &[u8]) -> bool {
    demux::is_quic(datagram)
}

/// The datagrams of a batch, of `stride` bytes each and the last perhaps shorter: what QUIC gets, all in one,
/// and what the traversal machine gets.
#[must_use]
pub fn datagrams_of_batch(batch: &[u8], stride: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut buffer, mut meta) = (batch.to_vec(), RecvMeta::default());
    (meta.len, meta.stride) = (batch.len(), stride);
    let mut others = Vec::new();
    demux::split(&mut buffer, &mut meta, |datagram| others.push(datagram.to_vec()));
    buffer.truncate(meta.len);
    (buffer, others)
}

/// The datagrams that QUIC gets of a relay's frame, by so many buffers of so many bytes at a time.
#[must_use]
pub fn datagrams_of_frame(frame: &[u8], buffers: usize, bytes: usize) -> Vec<Vec<u8>> {
    let label = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
    let mut frame = Bytes::copy_from_slice(frame);
    let mut got = Vec::new();
    while !frame.is_empty() {
        let mut memory = vec![vec![0; bytes]; buffers];
        let mut slices: Vec<IoSliceMut<'_>> =
            memory.iter_mut().map(|it| IoSliceMut::new(it)).collect();
        let mut metas = vec![RecvMeta::default(); buffers];
        let (filled, _too_long) = receive::fill(label, &mut frame, &mut slices, &mut metas);
        for (buffer, meta) in memory.iter().zip(&metas).take(filled) {
            got.extend(buffer[..meta.len].chunks(meta.stride.max(1)).map(<[u8]>::to_vec));
        }
    }
    got
}
