//! The relay on UDP, filled.
//!
//! A sender has so many datagrams under way as a receiver acknowledges, as QUIC has; or sends at a rate of its own,
//! whatever arrives.

use std::io;
use std::time::{Duration, Instant};

use holepunch_link::DatagramReads;
use holepunch_wire::relay::udp::{HEADER_BYTES, PAYLOAD_BYTES_MAX, data_header};
use holepunch_wire::signal::v1::SessionDetails;
use tokio::task::JoinSet;

use super::super::client::Target;
use super::super::stats::{Meter, Sample, Summary};
use super::channel::ByUdp;
use super::{Plan, WARM_UP};

/// Bytes of one pair that are under way at most, ...
const UNDER_WAY_BYTES_MAX: usize = 1024 * 1024;
/// ... and of all: half of what the kernel is asked to keep for a socket of the relay. TCP keeps as much for a WebSocket.
const UNDER_WAY_BYTES_OF_ALL: usize = 2 * 1024 * 1024;
/// A receiver acknowledges a window in so many parts. They cost the server as much as a run does, and the WebSocket that
/// it is compared with has none.
const ACKNOWLEDGEMENTS_EACH: u64 = 4;
/// What has not come by then is lost.
const LOST_AFTER: Duration = Duration::from_millis(20);
/// A sender with a rate of its own sends so often what is due.
const TICK: Duration = Duration::from_millis(1);
/// A datagram's number stands behind the header.
const NUMBER: std::ops::Range<usize> = HEADER_BYTES..HEADER_BYTES + 8;
/// Reads of one call of the kernel.
const READS: usize = 8;
const SMALL_BYTES: usize = 64;
/// A round trip begins so often: seldom enough to cost the server nothing beside what is measured.
const ROUND_TRIP_EVERY: Duration = Duration::from_millis(5);

/// Fills all pairs but the last, on which round trips are measured meanwhile.
pub(super) async fn run(
    target: &Target,
    plan: Plan,
    (offers, mut failures): (Vec<[SessionDetails; 2]>, Vec<String>),
) -> Result<Summary, String> {
    let most = u16::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u16::MAX);
    let plan = Plan { datagram_bytes: plan.datagram_bytes.min(most), ..plan };
    let text = |error: super::NoRelay| error.to_string();
    let mut pairs = Vec::new();
    for [first, second] in &offers {
        let first = ByUdp::open(target, first).await.map_err(text)?;
        pairs.push([first, ByUdp::open(target, second).await.map_err(text)?]);
    }
    let [asks, answers] = pairs.pop().ok_or("no relay is open")?;
    let workers = 2 * pairs.len();
    let under_way_bytes = UNDER_WAY_BYTES_MAX.min(UNDER_WAY_BYTES_OF_ALL / pairs.len().max(1));
    let from = Instant::now() + WARM_UP;
    let until = from + plan.seconds.0;
    let mut tasks = JoinSet::new();
    for [sender, receiver] in pairs {
        tasks.spawn(async move {
            let each = window(&Writer::new(&sender, plan), under_way_bytes) / ACKNOWLEDGEMENTS_EACH;
            let sending = async {
                match plan.offered_mbit {
                    Some(mbit) => pace(&sender, plan, mbit, until).await,
                    None => fill(&sender, plan, under_way_bytes, until).await,
                }
            };
            let (sent, received) = tokio::join!(sending, count(&receiver, each, from, until));
            sent.and(received)
        });
    }
    let mut trips = JoinSet::new();
    trips.spawn(async move { round_trips(&asks, from, until).await });
    trips.spawn(async move { echo(&answers, until).await.map(|()| Sample::default()) });
    tokio::time::sleep_until(from.into()).await;
    let (meter, before) = (Meter::start(), plan.server.cpu_seconds());
    tokio::time::sleep_until(until.into()).await;
    let after = plan.server.cpu_seconds();
    let mut received = 0;
    for counted in tasks.join_all().await {
        match counted {
            Ok(count) => received += count,
            Err(error) => failures.push(error.to_string()),
        }
    }
    let mut round_trips = Sample::default();
    for outcome in trips.join_all().await {
        match outcome {
            Ok(sample) => round_trips.merge(&sample),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let mut summary = Summary::new("relay by UDP", workers, received, plan.seconds.0, meter.stop());
    summary.note_server(before, after);
    summary.mbit_per_second = Some(plan.mbit_per_second(received));
    summary.times.push(round_trips.times("round trip through the loaded relay"));
    summary.note_failures(&failures);
    Ok(summary)
}

/// Datagrams of one sender, each with its header and its number.
struct Writer {
    bytes: Vec<u8>,
    datagram_bytes: usize,
    next: u64,
}

impl Writer {
    fn new(by: &ByUdp, plan: Plan) -> Self {
        let datagram_bytes = HEADER_BYTES + usize::from(plan.datagram_bytes).max(8);
        let most = by.line.run_max(datagram_bytes);
        let mut datagram = vec![0x5a; datagram_bytes];
        datagram[..HEADER_BYTES].copy_from_slice(&data_header(by.channel));
        Self { bytes: datagram.repeat(most), datagram_bytes, next: 0 }
    }

    /// Most in one call.
    fn most(&self) -> u64 {
        (self.bytes.len() / self.datagram_bytes) as u64
    }

    async fn send(&mut self, by: &ByUdp, count: u64) -> io::Result<()> {
        let count = usize::try_from(count.min(self.most())).unwrap_or(1);
        for datagram in self.bytes.chunks_mut(self.datagram_bytes).take(count) {
            datagram[NUMBER].copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
        }
        by.line.send(&self.bytes[..count * self.datagram_bytes], self.datagram_bytes).await
    }
}

fn number(datagram: &[u8]) -> Option<u64> {
    datagram.get(NUMBER).and_then(|it| it.try_into().ok()).map(u64::from_be_bytes)
}

/// How many datagrams may be under way: whole runs, one at least.
fn window(writer: &Writer, bytes: usize) -> u64 {
    let runs = (bytes / writer.bytes.len().max(1)).max(1);
    runs as u64 * writer.most()
}

/// Sends as much as is acknowledged, in runs as long as those in which a worker sends a full frame.
async fn fill(by: &ByUdp, plan: Plan, under_way_bytes: usize, until: Instant) -> io::Result<()> {
    let (mut writer, mut reads) = (Writer::new(by, plan), DatagramReads::of(READS));
    let widest = window(&writer, under_way_bytes);
    // With less, nothing would be acknowledged.
    let narrowest = widest / ACKNOWLEDGEMENTS_EACH + writer.most();
    let (mut acknowledged, mut most) = (0, widest);
    while Instant::now() < until {
        let room = most.saturating_sub(writer.next - acknowledged);
        if room >= writer.most() {
            writer.send(by, room).await?;
            continue;
        }
        match tokio::time::timeout(LOST_AFTER, by.line.read(&mut reads)).await {
            Ok(read) => {
                read?;
                most = (most + 1).min(widest);
            }
            // The kernel keeps less than it was asked for.
            Err(_) => {
                acknowledged = writer.next;
                most = (most / 2).max(narrowest);
            }
        }
        let newest = reads.datagrams().filter_map(number).max();
        acknowledged = newest.map_or(acknowledged, |it| it.max(acknowledged)).min(writer.next);
    }
    Ok(())
}

/// Sends so much, whatever arrives.
async fn pace(by: &ByUdp, plan: Plan, mbit: u32, until: Instant) -> io::Result<()> {
    let mut writer = Writer::new(by, plan);
    let start = Instant::now();
    let per_second = u64::from(mbit) * 1_000_000 / 8 / u64::from(plan.datagram_bytes);
    while Instant::now() < until {
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = micros.saturating_mul(per_second) / 1_000_000;
        if due > writer.next {
            let count = due - writer.next;
            writer.send(by, count).await?;
        } else {
            tokio::time::sleep(TICK).await;
        }
    }
    Ok(())
}

/// Counts what arrives in the measured time, and acknowledges each so many.
async fn count(by: &ByUdp, each: u64, from: Instant, until: Instant) -> io::Result<u64> {
    let (mut received, mut reads) = (0, DatagramReads::of(READS));
    let (mut newest, mut acknowledged) = (0, 0);
    let mut acknowledgement = [0; HEADER_BYTES + 8];
    acknowledgement[..HEADER_BYTES].copy_from_slice(&data_header(by.channel));
    while let Ok(read) = tokio::time::timeout_at(until.into(), by.line.read(&mut reads)).await {
        read?;
        if Instant::now() >= from {
            received += reads.datagrams().count() as u64;
        }
        let last = reads.datagrams().filter_map(number).max();
        newest = last.map_or(newest, |last| newest.max(last + 1));
        if newest >= acknowledged + each {
            acknowledged = newest;
            acknowledgement[NUMBER].copy_from_slice(&newest.to_be_bytes());
            by.line.send(&acknowledgement, acknowledgement.len()).await?;
        }
    }
    Ok(received)
}

/// Small datagrams there and back, one every millisecond.
async fn round_trips(by: &ByUdp, from: Instant, until: Instant) -> io::Result<Sample> {
    let (mut sample, mut reads) = (Sample::default(), DatagramReads::of(READS));
    let mut datagram = [7; SMALL_BYTES];
    datagram[..HEADER_BYTES].copy_from_slice(&data_header(by.channel));
    let mut next = 0_u64;
    while Instant::now() < until {
        let asked = Instant::now();
        datagram[NUMBER].copy_from_slice(&next.to_be_bytes());
        by.line.send(&datagram, datagram.len()).await?;
        let waiting = async {
            loop {
                by.line.read(&mut reads).await?;
                if reads.datagrams().filter_map(number).any(|it| it == next) {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        if let Ok(back) = tokio::time::timeout(LOST_AFTER * 10, waiting).await {
            back?;
            if asked >= from {
                sample.add(asked.elapsed());
            }
        }
        next += 1;
        tokio::time::sleep_until((asked + ROUND_TRIP_EVERY).into()).await;
    }
    Ok(sample)
}

/// Sends back whatever comes.
async fn echo(by: &ByUdp, until: Instant) -> io::Result<()> {
    let mut reads = DatagramReads::of(READS);
    let header = data_header(by.channel);
    while let Ok(read) = tokio::time::timeout_at(until.into(), by.line.read(&mut reads)).await {
        read?;
        for datagram in reads.datagrams().filter(|it| number(it).is_some()) {
            let mut back = datagram.to_vec();
            back[..HEADER_BYTES].copy_from_slice(&header);
            by.line.send(&back, back.len()).await?;
        }
    }
    Ok(())
}
