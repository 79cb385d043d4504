//! A router in user space, for what the kernel lacks: the simulator's NATs, and lines with delay and
//! loss.
//!
//! It stands between two TUN devices, one toward the host and one toward the public network, and the
//! kernel routes through them what it is to see.
//!
//! - `nat INSIDE OUTSIDE KIND ADDRESS SEED` is a NAT of that kind, with that address outside, for UDP.
//! - `line INSIDE OUTSIDE DELAY_MS JITTER_MS SIGNALLING_MS LOSS HOPS SEED` is an access line; all of that
//!   applies to each direction. The loss, a share from 0 to 1, is that of UDP packets, and everything
//!   else is signalling, which takes so much longer and is not lost.
//!
//! The logic is that of the simulator. Here is the clock, the queue of what is under way, and the
//! counting of what is dropped.

mod layers;
mod line;
mod packet;
mod queue;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use holepunch_sim::nat::DropReason;
use tun_rs::{AsyncDevice, DeviceBuilder};

use layers::Layers;
use line::Line;
use packet::{Datagram, Malformed, Packet};
use queue::Queue;

use crate::conditions::Conditions;
use crate::multicall;

/// First argument of the binary when it is to be a router.
pub(crate) const ENTRY: &str = "lab-router";
/// What a router says once it has its devices.
pub(crate) const READY: &str = "router is ready";
/// Longest packet that is read: longer ones do not come, since the devices' MTU is 1,500.
const PACKET_BYTES_MAX: usize = 2048;

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toward {
    Inside,
    Outside,
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
enum Dropped {
    #[error(transparent)]
    Nat(#[from] DropReason),
    #[error("UDP is blocked")]
    Blocked,
    #[error("the NAT gave an address of another IP version")]
    NotIpv4,
    #[error("lost on the line")]
    Lost,
    #[error("the time to live has run out")]
    TimeToLive,
    #[error("too many packets are under way")]
    QueueFull,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the device does not take it")]
    NotTaken,
}

/// What a router does with packets.
#[derive(Debug)]
enum Role {
    Nat(Layers),
    // Boxed since it is far larger.
    Line(Box<Line>),
}

/// Runs the router's command line.
pub(crate) fn main(words: &[String]) -> ExitCode {
    multicall::end_with_the_lab();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = parse(&words).and_then(|(inside, outside, role)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(inside, outside, role))
    });
    if let Err(error) = ended {
        say(format_args!("{error}"));
    }
    ExitCode::FAILURE
}

fn parse<'a>(words: &[&'a str]) -> io::Result<(&'a str, &'a str, Role)> {
    match words {
        ["nat", inside, outside, kind, address, seed] => {
            let layers = Layers::new(word(kind)?, word(address)?, word(seed)?);
            Ok((inside, outside, Role::Nat(layers)))
        }
        ["line", inside, outside, delay, jitter, signalling, loss, hops, seed] => {
            let ms = |text: &str| word(text).map(Duration::from_millis);
            let conditions = Conditions {
                delay: ms(delay)?,
                jitter: ms(jitter)?,
                signalling: ms(signalling)?,
                loss: word(loss)?,
                hops: word(hops)?,
            };
            Ok((inside, outside, Role::Line(Box::new(Line::new(conditions, word(seed)?)))))
        }
        _ => Err(invalid("unknown command")),
    }
}

fn word<T: FromStr<Err: Display>>(text: &str) -> io::Result<T> {
    text.parse().map_err(|error: T::Err| invalid(format!("{text}: {error}")))
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why.into())
}

/// Attaches to a device that exists already, with its routes.
fn attach(name: &str) -> io::Result<AsyncDevice> {
    DeviceBuilder::new().name(name).inherit_enable_state().build_async()
}

async fn run(inside: &str, outside: &str, role: Role) -> io::Result<()> {
    let (inside, outside) = (attach(inside)?, attach(outside)?);
    say(READY);
    let mut router = Router { role, queue: Queue::default(), dropped: BTreeMap::new() };
    let (mut from_inside, mut from_outside) = ([0; PACKET_BYTES_MAX], [0; PACKET_BYTES_MAX]);
    loop {
        let due = router.queue.next_due();
        tokio::select! {
            read = inside.recv(&mut from_inside) => {
                router.handle(Toward::Outside, &mut from_inside[..read?], Instant::now());
            }
            read = outside.recv(&mut from_outside) => {
                router.handle(Toward::Inside, &mut from_outside[..read?], Instant::now());
            }
            () = until(due) => {}
        }
        while let Some((toward, packet)) = router.queue.pop_due(Instant::now()) {
            let device = match toward {
                Toward::Inside => &inside,
                Toward::Outside => &outside,
            };
            // A packet that the kernel refuses, as it does when the device is down, is a lost one.
            if device.send(&packet).await.is_err() {
                router.count(Dropped::NotTaken);
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

struct Router {
    role: Role,
    queue: Queue,
    dropped: BTreeMap<Dropped, u64>,
}

impl Router {
    fn handle(&mut self, toward: Toward, bytes: &mut [u8], now: Instant) {
        let packet = Packet::parse(bytes).map_err(Dropped::from);
        if let Err(why) = packet.and_then(|mut packet| self.forward(toward, &mut packet, now)) {
            self.count(why);
        }
    }

    fn forward(
        &mut self,
        toward: Toward,
        packet: &mut Packet<'_>,
        now: Instant,
    ) -> Result<(), Dropped> {
        let (toward, at) = match &mut self.role {
            Role::Nat(layers) => (layers.pass(toward, &mut Datagram::of(packet)?, now)?, now),
            Role::Line(line) => (toward, line.pass(toward, packet, now)?),
        };
        packet.restore_hop();
        self.queue.push(at, toward, packet.bytes())
    }

    /// Counts, and says so at the first of its kind, the second, the fourth and so on.
    fn count(&mut self, why: Dropped) {
        let count = self.dropped.entry(why).or_default();
        *count += 1;
        if count.is_power_of_two() {
            say(format_args!("dropped so far: {count}: {why}"));
        }
    }
}

fn say(text: impl Display) {
    let _when_nobody_reads = writeln!(io::stderr(), "{text}");
}
