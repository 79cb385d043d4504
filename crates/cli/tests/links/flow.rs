//! Bytes over a stream, and whether they are the same at the other end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use holepunch_worker::{Link, RecvStream, SendStream};
use ring::digest::{Context, SHA256};
use tokio::sync::watch;

use crate::within;

pub(crate) const MIB: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 * 1024;

/// What came out of a flow.
#[derive(Debug)]
#[expect(dead_code, reason = "some of it is for people to read")]
pub(crate) struct Flowed {
    /// Longest time between two chunks.
    pub(crate) stall: Duration,
    pub(crate) took: Duration,
}

/// Chunks that are all different.
fn chunk(number: usize) -> Bytes {
    let mut bytes = vec![0; CHUNK_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[CHUNK_BYTES - 8..].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

async fn send(stream: &mut SendStream, mib: usize) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    for number in 0..mib * MIB / CHUNK_BYTES {
        let chunk = chunk(number);
        hash.update(&chunk);
        within("room for more bytes", stream.write_chunk(chunk)).await.unwrap();
    }
    stream.finish().unwrap();
    hash.finish().as_ref().to_vec()
}

async fn receive(mut stream: RecvStream, counted: watch::Sender<usize>) -> (Vec<u8>, Duration) {
    let mut hash = Context::new(&SHA256);
    let mut stall = Duration::ZERO;
    let mut last: Option<Instant> = None;
    // Bounded is a stall: how long all of it takes is the machine's business.
    while let Some(chunk) = within("more bytes", stream.read_chunk(CHUNK_BYTES)).await.unwrap() {
        let now = Instant::now();
        stall = stall.max(last.map_or(Duration::ZERO, |last| now - last));
        last = Some(now);
        hash.update(&chunk);
        counted.send_modify(|count| *count += chunk.len());
    }
    (hash.finish().as_ref().to_vec(), stall)
}

/// Sends so much from the first to the second, and compares.
pub(crate) async fn flows(links: &[Link; 2], mib: usize) -> Flowed {
    flows_counted(links, mib, watch::Sender::new(0)).await
}

/// The same; what has arrived is counted.
pub(crate) async fn flows_counted(
    links: &[Link; 2],
    mib: usize,
    counted: watch::Sender<usize>,
) -> Flowed {
    let began = Instant::now();
    let sending = async {
        let (mut stream, _) = within("a stream", links[0].open_bi()).await.unwrap();
        let hash = send(&mut stream, mib).await;
        (hash, stream)
    };
    let receiving = async {
        let (_, stream) = within("the peer's stream", links[1].accept_bi()).await.unwrap();
        receive(stream, counted).await
    };
    let ((sent, mut stream), (received, stall)) = tokio::join!(sending, receiving);
    let arrived = within("the last acknowledgement", stream.stopped()).await;
    assert_eq!(arrived, Ok(None), "everything has arrived");
    assert_eq!(sent, received);
    Flowed { stall, took: began.elapsed() }
}

/// Both ways at once.
pub(crate) async fn flows_both_ways(links: &[Link; 2], mib: usize) {
    flows(links, mib).await;
    let [first, second] = links.clone();
    flows(&[second, first], mib).await;
}
