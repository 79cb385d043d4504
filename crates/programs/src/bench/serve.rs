//! The side that serves, and what both need.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holepunch_link::{Link, ReadError, RecvStream, SendStream, WriteError};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BenchError, Request, SECONDS_MAX};
use crate::messages::{read_message, write_message};

/// Length of a message of a round trip, in bytes.
pub(super) const ECHO_BYTES: usize = 64;
/// Length of a chunk of bulk, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Clock ticks of /proc in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What has been counted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Bytes, or datagrams.
    pub(super) bytes: u64,
    pub(super) cpu_seconds_per_gb: Option<f64>,
    /// Of the last measurement in which this side has sent.
    pub(super) last_source_cpu_seconds_per_gb: Option<f64>,
    pub(super) jitter_ms: f64,
}

/// CPU seconds that this process has used, where the system tells.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// What was used since `before`, for a gigabyte.
pub(super) fn per_gb(before: Option<f64>, bytes: u64) -> Option<f64> {
    let used = cpu_seconds()? - before?;
    (bytes > 0).then(|| used / (bytes as f64 / 1e9))
}

/// Writes for `time`, and ends the stream.
pub(super) async fn fill(send: &mut SendStream, time: Duration) -> Result<u64, WriteError> {
    let chunk = Bytes::from(vec![0xa5; CHUNK_BYTES]);
    let began = Instant::now();
    let mut bytes = 0;
    while began.elapsed() < time {
        send.write_chunk(chunk.clone()).await?;
        bytes += chunk.len() as u64;
    }
    send.finish()?;
    Ok(bytes)
}

/// Does what the initiator asks for, one thing after another, until the link ends.
pub(super) async fn serve(link: &Link) -> Result<(), BenchError> {
    let last_source = Mutex::new(None);
    loop {
        let (send, mut recv) = link.accept_bi().await?;
        let Some(request) = read_message(&mut recv).await? else { continue };
        match request {
            Request::Echo => echo(send, recv).await?,
            Request::Sink => sink(send, recv, &last_source).await?,
            Request::Source { millis } => source(send, millis, &last_source).await?,
            Request::Datagrams => count(link, send, recv).await?,
        }
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> Result<(), BenchError> {
    let mut message = [0; ECHO_BYTES];
    while recv.read_exact(&mut message).await.is_ok() {
        send.write_all(&message).await.map_err(std::io::Error::from)?;
    }
    Ok(())
}

async fn sink(
    mut send: SendStream,
    mut recv: RecvStream,
    last_source: &Mutex<Option<f64>>,
) -> Result<(), BenchError> {
    let (cpu, mut bytes) = (cpu_seconds(), 0);
    while let Some(chunk) = recv.read_chunk(usize::MAX).await.map_err(std::io::Error::from)? {
        bytes += chunk.len() as u64;
    }
    let last = *last_source.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cpu_seconds_per_gb = per_gb(cpu, bytes);
    let counted =
        Counted { bytes, cpu_seconds_per_gb, last_source_cpu_seconds_per_gb: last, jitter_ms: 0.0 };
    write_message(&mut send, &counted).await?;
    send.shutdown().await?;
    Ok(())
}

async fn source(
    mut send: SendStream,
    millis: u64,
    last_source: &Mutex<Option<f64>>,
) -> Result<(), BenchError> {
    let time = Duration::from_millis(millis).min(Duration::from_secs(u64::from(SECONDS_MAX)));
    let cpu = cpu_seconds();
    let bytes = fill(&mut send, time).await.map_err(std::io::Error::from)?;
    // Until all of it has arrived: before, the work is not done.
    let _or_the_peer_has_had_enough = send.stopped().await;
    let used = per_gb(cpu, bytes);
    *last_source.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = used;
    Ok(())
}

async fn count(link: &Link, mut send: SendStream, mut recv: RecvStream) -> Result<(), BenchError> {
    let began = Instant::now();
    let mut received = 0;
    let mut transit: Option<f64> = None;
    let mut jitter_ms = 0.0;
    loop {
        tokio::select! {
            biased;
            datagram = link.read_datagram() => {
                let datagram = datagram?;
                let Some(sent) = datagram.get(8..16).and_then(|at| <[u8; 8]>::try_from(at).ok()) else {
                    continue;
                };
                received += 1;
                let now_ms = began.elapsed().as_secs_f64() * 1000.0;
                let new = now_ms - u64::from_be_bytes(sent) as f64 / 1000.0;
                let change = transit.map_or(0.0, |old: f64| (new - old).abs());
                jitter_ms += (change - jitter_ms) / 16.0;
                transit = Some(new);
            }
            end = recv.read_chunk(1) => match end {
                Ok(Some(_)) => {}
                Err(ReadError::Link(error)) => return Err(error.into()),
                Ok(None) | Err(ReadError::Reset(_) | ReadError::Stopped | _) => break,
            },
        }
    }
    let counted = Counted {
        bytes: received,
        cpu_seconds_per_gb: None,
        last_source_cpu_seconds_per_gb: None,
        jitter_ms,
    };
    write_message(&mut send, &counted).await?;
    send.shutdown().await?;
    Ok(())
}
