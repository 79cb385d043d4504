//! The initiator's side.

use std::time::{Duration, Instant};

use bytes::Bytes;
use holepunch_link::{Link, RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::serve::{Counted, ECHO_BYTES, cpu_seconds, fill, per_gb};
use super::{BenchError, Bulk, Datagrams, Request, RoundTrips, Settings, rounded};
use crate::messages::{read_message, write_message};

/// Length of a measured datagram, in bytes: a voice packet's.
const DATAGRAM_BYTES: usize = 200;
/// After the last datagram, so long is waited for stragglers.
const STRAGGLERS: Duration = Duration::from_millis(200);

async fn begin(link: &Link, request: Request) -> Result<(SendStream, RecvStream), BenchError> {
    let (mut send, recv) = link.open_bi().await?;
    write_message(&mut send, &request).await?;
    Ok((send, recv))
}

/// Messages to and fro, one at a time.
pub(super) async fn round_trips(link: &Link, settings: Settings) -> Result<RoundTrips, BenchError> {
    let (mut send, mut recv) = begin(link, Request::Echo).await?;
    let mut message = [7; ECHO_BYTES];
    let mut times: Vec<f64> = Vec::new();
    let (began, mut count) = (Instant::now(), 0);
    while count == 0
        || (count < settings.round_trips && began.elapsed() < settings.round_trips_within)
    {
        count += 1;
        let sent = Instant::now();
        send.write_all(&message).await.map_err(std::io::Error::from)?;
        recv.read_exact(&mut message).await?;
        times.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    send.shutdown().await?;
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| rounded(times[(times.len() * percent / 100).min(times.len() - 1)]);
    Ok(RoundTrips { count, p50_ms: at(50), p99_ms: at(99), min_ms: at(0) })
}

/// Fills the direction from here.
pub(super) async fn up(link: &Link, time: Duration) -> Result<Bulk, BenchError> {
    let (mut send, mut recv) = begin(link, Request::Sink).await?;
    let (cpu, began) = (cpu_seconds(), Instant::now());
    fill(&mut send, time).await.map_err(std::io::Error::from)?;
    let counted: Counted = read_message(&mut recv).await?.ok_or(BenchError::Early)?;
    let seconds = began.elapsed().as_secs_f64();
    let sender = per_gb(cpu, counted.bytes);
    Ok(bulk(counted.bytes, seconds, sender, counted.cpu_seconds_per_gb))
}

/// Has the direction to here filled.
pub(super) async fn down(link: &Link, time: Duration) -> Result<Bulk, BenchError> {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let (mut send, mut recv) = begin(link, Request::Source { millis }).await?;
    let mut bytes = 0;
    while let Some(chunk) = recv.read_chunk(usize::MAX).await.map_err(std::io::Error::from)? {
        bytes += chunk.len() as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    let receiver = per_gb(cpu, bytes);
    send.shutdown().await?;
    // What the sender has spent it says on a stream of its own: this one is full of bulk.
    let (_, mut told) = begin(link, Request::Sink).await.map(|(send, recv)| (drop(send), recv))?;
    let counted: Counted = read_message(&mut told).await?.ok_or(BenchError::Early)?;
    Ok(bulk(bytes, seconds, counted.last_source_cpu_seconds_per_gb, receiver))
}

fn bulk(bytes: u64, seconds: f64, sender: Option<f64>, receiver: Option<f64>) -> Bulk {
    Bulk {
        bytes,
        seconds: rounded(seconds),
        mbit_per_second: rounded(bytes as f64 * 8.0 / seconds / 1e6),
        sender_cpu_seconds_per_gb: sender.map(rounded),
        receiver_cpu_seconds_per_gb: receiver.map(rounded),
    }
}

/// Sends datagrams at a steady pace.
pub(super) async fn datagrams(
    link: &Link,
    per_second: u32,
    time: Duration,
) -> Result<Datagrams, BenchError> {
    let (mut send, mut recv) = begin(link, Request::Datagrams).await?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    let began = Instant::now();
    let mut sent: u64 = 0;
    while began.elapsed() < time {
        pace.tick().await;
        let mut datagram = vec![0; DATAGRAM_BYTES];
        datagram[..8].copy_from_slice(&sent.to_be_bytes());
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        datagram[8..16].copy_from_slice(&micros.to_be_bytes());
        // One that the path does not take is lost, and is counted so.
        let _or_lost = link.send_datagram(Bytes::from(datagram));
        sent += 1;
    }
    tokio::time::sleep(STRAGGLERS).await;
    send.shutdown().await?;
    let counted: Counted = read_message(&mut recv).await?.ok_or(BenchError::Early)?;
    let received = counted.bytes.min(sent);
    let lost_percent = (sent - received) as f64 * 100.0 / sent.max(1) as f64;
    let (lost_percent, jitter_ms) = (rounded(lost_percent), rounded(counted.jitter_ms));
    Ok(Datagrams { sent, received, lost_percent, jitter_ms })
}
