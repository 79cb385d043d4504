//! Many TCP connections at once through one link that delays and loses packets.
//!
//! ```text
//! cargo run --release -p holepunch-programs --example forward_load -- --connections 1000 --loss 0.01 \
//!     --delay-ms 20
//! ```
//! Both sides, the clients, the server that sends everything back, and the line between the two ends of the
//! link run in this one process, on loopback. First so many connections are opened one after the other, each
//! with one byte that has to come back, while nothing else goes over the link; then all at once, each with
//! random bytes that are compared; and while those are under way, single ones once more.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a service")]

#[path = "../../tests/common/line.rs"]
mod line;
mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holepunch_link::CloseCode;
use holepunch_programs::forward::{Forward, bind, forward};
use holepunch_sim::link::{LinkConfig, Loss};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use report::{FirstBytes, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections for the time to the first byte alone.
const SINGLE: usize = 200;
/// Between two of them, in round trips: so that they are apart. At most so many are open at once: with the
/// others they stay below what the program takes.
const SINGLE_EVERY: u32 = 1;
const SINGLE_AT_ONCE: usize = 8;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    connections: usize,
    kib: usize,
    loss: f64,
    delay: Duration,
    seed: u64,
    json: bool,
}

impl Settings {
    fn of_arguments() -> Result<Self, String> {
        let (connections, kib, seed) = (1000, 64, 1);
        let delay = Duration::from_millis(20);
        let mut settings = Self { connections, kib, loss: 0.01, delay, seed, json: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--json" {
                settings.json = true;
                continue;
            }
            let value = arguments.next().ok_or(format!("{name}: no value"))?;
            let wrong = |_| format!("{name}: {value} is no number");
            let whole = value.parse::<u32>().map_err(wrong);
            match name.as_str() {
                "--connections" => settings.connections = whole? as usize,
                "--kib" => settings.kib = whole? as usize,
                "--delay-ms" => settings.delay = Duration::from_millis(whole?.into()),
                "--seed" => settings.seed = whole?.into(),
                "--loss" => {
                    let loss = value.parse().ok().filter(|it| (0.0..1.0).contains(it));
                    settings.loss = loss.ok_or(format!("{name}: expected 0 to 1"))?;
                }
                _ => {
                    let known = "--connections, --kib, --loss, --delay-ms, --seed, --json";
                    return Err(format!("{name} is none of {known}"));
                }
            }
        }
        Ok(settings)
    }

    fn round_trip(&self) -> Duration {
        self.delay * 2
    }
}

/// Sends back what comes, then ends.
fn echo() -> SocketAddr {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                tcp.set_nodelay(true).unwrap();
                let (mut from, mut to) = tcp.split();
                let _copied = tokio::io::copy(&mut from, &mut to).await;
                let _ended = to.shutdown().await;
            });
        }
    });
    address
}

/// What one connection has come to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcome {
    /// From the connection's begin until its first byte was back.
    first_byte: Option<Duration>,
    right: usize,
    wrong: usize,
    missing: usize,
}

/// Sends all bytes, ends, and compares what comes back.
async fn round(entry: SocketAddr, content: Vec<u8>) -> Outcome {
    let mut outcome = Outcome { missing: content.len(), ..Outcome::default() };
    let began = Instant::now();
    let Ok(tcp) = TcpStream::connect(entry).await else { return outcome };
    let (mut from, mut to) = tcp.into_split();
    let sent = content.clone();
    let writing = tokio::spawn(async move {
        let _or_missing = to.write_all(&sent).await;
        let _or_missing = to.shutdown().await;
    });
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        outcome.first_byte.get_or_insert_with(|| began.elapsed());
        let at = content.len() - outcome.missing;
        let expected = content[at..].iter().take(read);
        let right = expected.zip(&bytes[..read]).filter(|(one, other)| one == other).count();
        outcome.right += right;
        outcome.wrong += read - right;
        outcome.missing = outcome.missing.saturating_sub(read);
    }
    writing.await.unwrap();
    outcome
}

/// Connections with one byte each, one after the other as long as they are wanted.
async fn singles(
    entry: SocketAddr,
    every: Duration,
    wanted: impl Fn(usize) -> bool,
) -> Vec<Outcome> {
    let mut all = JoinSet::new();
    let mut done = Vec::new();
    for number in (0..).take_while(|number| wanted(*number)) {
        while all.len() >= SINGLE_AT_ONCE {
            done.extend(all.join_next().await.unwrap());
        }
        all.spawn(round(entry, vec![u8::try_from(number % 256).unwrap()]));
        tokio::time::sleep(every).await;
    }
    done.extend(all.join_all().await);
    done
}

async fn measure(settings: Settings) -> Report {
    let direction = LinkConfig::with_delay(settings.delay).with_loss(Loss::Random(settings.loss));
    let (near, far, _line) = line::pair(direction, settings.seed).await;
    let target = echo();
    let entry = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = entry.local_addr().unwrap();
    let listeners = vec![(entry, target.to_string().parse().unwrap())];
    let mut listening = Forward { listeners, ..Forward::default() };
    let allow = std::iter::once(target.to_string().parse().unwrap()).collect();
    let mut allowing = Forward { allow, ..Forward::default() };
    let (links, close) = ((near.clone(), far), near);
    let near = tokio::spawn(async move { forward(&links.0, &mut listening).await });
    let far = tokio::spawn(async move { forward(&links.1, &mut allowing).await });
    // The first one waits until the two programs have agreed.
    round(address, vec![0]).await;

    let every = settings.round_trip() * SINGLE_EVERY;
    let idle = singles(address, every, |number| number < SINGLE).await;
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(settings.seed);
    let mut all = JoinSet::new();
    for _ in 0..settings.connections {
        let mut content = vec![0; settings.kib * 1024];
        rng.fill_bytes(&mut content);
        all.spawn(round(address, content));
    }
    let is_done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_done);
    let beside = singles(address, every, move |_| !until.load(Ordering::Relaxed));
    let beside = tokio::spawn(beside);
    let many = all.join_all().await;
    let took = began.elapsed();
    is_done.store(true, Ordering::Relaxed);
    let beside = beside.await.unwrap();
    let traffic = close.traffic();
    close.close(CloseCode::Done);
    let [near, far] = [near.await.unwrap().unwrap(), far.await.unwrap().unwrap()];
    let mut report = Report::of(&settings, &many, took);
    let first_bytes = |outcomes| FirstBytes::of(outcomes, settings.round_trip());
    report.first_byte_alone = first_bytes(&idle);
    report.first_byte_of_all_at_once = first_bytes(&many);
    report.first_byte_beside_them = first_bytes(&beside);
    report.lost_packets = traffic.lost_packets;
    report.refused = near.summary.refused_by_peer;
    report.turned_away = far.summary.busy;
    report.broken = near.summary.broken + far.summary.broken;
    report
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let settings = match Settings::of_arguments() {
        Ok(settings) => settings,
        Err(why) => {
            println!("{why}");
            return std::process::ExitCode::from(2);
        }
    };
    let report = measure(settings).await;
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    } else {
        println!("{report}");
    }
    std::process::ExitCode::from(u8::from(!report.is_whole()))
}
