//! Datagrams through the relay, and how long one takes there and back.

mod carry;
mod channel;
mod datagrams;
mod link;
mod round_trips;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use holepunch_wire::relay::{RELAY_FRAME_BYTES_MAX, RelayFrame};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::HANDSHAKES_MAX;
use super::client::Target;
use super::stats::{Meter, Server, Summary};
use crate::output;
use crate::settings::{Pause, Seconds};
use link::Socket;
pub(crate) use link::{NoRelay, RelayedPair};

/// Time before the measurement, in which nothing counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// What each pair does.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Plan {
    /// Pairs of workers, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::count)]
    pairs: usize,
    /// Time that is measured, after a second that is not
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    seconds: Seconds,
    /// Length of a datagram, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1452, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    datagram_bytes: u16,
    /// Most bytes of a frame; it is filled with datagrams
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(3..=65_536))]
    frame_bytes: u32,
    /// Time that the open relays stay idle before anything is sent
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    hold_sec: Pause,
    /// Send datagrams by UDP, and not in frames of the WebSocket
    #[arg(long)]
    udp: bool,
    /// So many megabits a second of each pair are sent, whatever arrives; else as much as arrives
    #[arg(long, value_name = "N", requires = "udp")]
    offered_mbit: Option<u32>,
    #[command(flatten)]
    server: Server,
}

impl Plan {
    /// The payload of so many datagrams, in the measured time.
    fn mbit_per_second(self, datagrams: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "no run moves 2^52 bytes")]
        let bits = (datagrams * u64::from(self.datagram_bytes) * 8) as f64;
        bits / self.seconds.0.as_secs_f64() / 1e6
    }
}

pub(super) async fn run(target: Arc<Target>, plan: Plan) -> Result<Summary, String> {
    // One more, for round trips beside those that are filled.
    let (links, mut failures) = open(&target, plan.pairs + usize::from(plan.udp)).await;
    output::progress(format!("{} of {} relays are open", links.len(), plan.pairs));
    let mut signalling = JoinSet::new();
    let (mut relays, mut offers) = (Vec::new(), Vec::new());
    for RelayedPair { relay, signalling: both, offers: of_both } in links {
        both.into_iter().for_each(|socket| drop(signalling.spawn(idle(socket))));
        relays.push(relay);
        offers.push(of_both);
    }
    if let (true, Some(why)) = (relays.is_empty(), failures.first()) {
        return Err(format!("no relay could be opened: {why}"));
    }
    tokio::time::sleep(plan.hold_sec.0).await;
    if plan.udp {
        return datagrams::run(&target, plan, (offers, failures)).await;
    }
    let mut times = vec![round_trips::direct().await?.times("round trip over TCP alone")];
    if let Some(relay) = relays.first_mut() {
        times.push(round_trips::relayed(relay).await?.times("round trip through the relay"));
    }
    let workers = 2 * relays.len();
    let from = Instant::now() + WARM_UP;
    let mut tasks = JoinSet::new();
    for [sender, receiver] in relays {
        tasks.spawn(pump(sender, frame(plan), from + plan.seconds.0));
        tasks.spawn(count(receiver, from, plan.seconds.0));
    }
    tokio::time::sleep_until(from.into()).await;
    let (meter, before) = (Meter::start(), plan.server.cpu_seconds());
    let mut bytes = 0;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(Ok(received)) => bytes += received,
            Ok(Err(why)) => failures.push(why),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let after = plan.server.cpu_seconds();
    let datagrams = bytes / (u64::from(plan.datagram_bytes) + 2);
    let mut summary = Summary::new("relay", workers, datagrams, plan.seconds.0, meter.stop());
    summary.note_server(before, after);
    summary.mbit_per_second = Some(plan.mbit_per_second(datagrams));
    summary.times = times;
    summary.note_failures(&failures);
    Ok(summary)
}

/// Opens the relays of so many sessions; those that fail are counted.
async fn open(target: &Arc<Target>, pairs: usize) -> (Vec<RelayedPair>, Vec<String>) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut opening = JoinSet::new();
    for index in 0..pairs {
        let (target, permits) = (Arc::clone(target), Arc::clone(&permits));
        opening.spawn(async move {
            let _permit = permits.acquire_owned().await;
            RelayedPair::open(&target, index).await
        });
    }
    let (mut links, mut failures) = (Vec::new(), Vec::new());
    for opened in opening.join_all().await {
        match opened {
            Ok(link) => links.push(link),
            Err(why) => failures.push(why.to_string()),
        }
    }
    (links, failures)
}

/// A frame full of datagrams.
fn frame(plan: Plan) -> Bytes {
    let most = usize::try_from(plan.frame_bytes).unwrap_or(RELAY_FRAME_BYTES_MAX);
    let datagram = vec![0x5a; usize::from(plan.datagram_bytes)];
    let mut frame = RelayFrame::with_capacity(most);
    // One at least.
    while frame.push(&datagram) && frame.len() + datagram.len() + 2 <= most {}
    frame.into_bytes().into()
}

/// Sends frames as fast as they are taken; no bytes received.
async fn pump(mut socket: Socket, frame: Bytes, until: Instant) -> Result<u64, String> {
    let sending = async {
        loop {
            let fed = socket.feed(Message::Binary(frame.clone())).await;
            fed.map_err(|error| format!("sending: {error}"))?;
        }
    };
    match tokio::time::timeout_at(until.into(), sending).await {
        Ok(Ok(())) | Err(_) => Ok(0),
        Ok(Err(why)) => Err(why),
    }
}

/// Bytes that arrive in the measured time.
async fn count(mut socket: Socket, from: Instant, time: Duration) -> Result<u64, String> {
    let mut bytes = 0;
    let receiving = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(frame))) => {
                    if Instant::now() >= from {
                        bytes += frame.len() as u64;
                    }
                }
                Some(Ok(Message::Close(close))) => {
                    let why = close.map(|close| close.to_string()).unwrap_or_default();
                    return format!("the relay closed: {why}");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return format!("receiving: {error}"),
                None => return "the relay ended".to_owned(),
            }
        }
    };
    match tokio::time::timeout_at((from + time).into(), receiving).await {
        Ok(why) => Err(why),
        Err(_) => Ok(bytes),
    }
}

/// Answers pings for as long as the run takes.
async fn idle(mut socket: Socket) {
    while let Some(Ok(_)) = socket.next().await {}
}
