//! What the rendezvous is for: a welcome, a relay, and a link of two workers.

use std::time::{Duration, Instant};

use holepunch_wire::session::RoomName;
use holepunch_wire::signal::v1::Welcome;
use holepunch_worker::{
    Config, FromServer, Link, Notice, Proxy, RendezvousUrl, ServerName, ServerV1, Signal, Token,
    Worker, milliseconds,
};
use serde_json::json;
use tokio::time::timeout;

use super::check::{Check, Name, fix_of};
use crate::code::random_hex;
use crate::config_file::{Refused, registered, visitor};
use crate::load::{NoRelay, RelayedPair, Target};

/// After its welcome a worker proves its key; a rendezvous that does not take the proof says so within a round trip. At
/// least so long is waited for that.
const REFUSED_WITHIN: Duration = Duration::from_millis(150);
/// What goes through the relay each way: so many frames of so many datagrams of 1,200 bytes, 150 kB in all.
const FRAMES: usize = 16;
const DATAGRAMS: usize = 8;
/// What it means that there is no relay, and what helps where there should be one.
const WITHOUT_RELAY: &str = "pairs that no direct path links are not linked";
const LET_THROUGH: &str =
    "let WebSockets to /ws/relay/ through, as those to /ws/register/ (docs/operating.md)";
/// What helps where this machine lets no worker start.
const MACHINE: &str =
    "look at this machine: its memory, and the limits of this process (ulimit -a)";
/// A room's name that nobody else has: so many random bytes.
const ROOM_BYTES: usize = 16;

/// Where the checks of links go.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) url: RendezvousUrl,
    pub(super) proxy: Option<Proxy>,
    pub(super) token: Option<Token>,
    pub(super) stun: Vec<ServerName>,
}

impl Place {
    /// A worker's settings, in a room of its own.
    fn visitor(&self) -> Result<Config, String> {
        Ok(Config {
            room: own_room()?,
            ..visitor(&self.url, self.proxy.clone(), self.token.clone())
        })
    }
}

fn own_room() -> Result<RoomName, String> {
    let name = random_hex(ROOM_BYTES).map_err(|failure| failure.why().to_owned())?;
    RoomName::new(&name).map_err(|error| error.to_string())
}

/// Registers a worker; what the rendezvous says at first, where it speaks `holepunch.v1`.
pub(super) async fn websocket(place: &Place) -> (Check, Option<Welcome>) {
    let began = Instant::now();
    let started = async {
        let config = place.visitor()?;
        Worker::start(config).await.map_err(|error| error.to_string())
    };
    let mut worker = match started.await {
        Ok(worker) => worker,
        Err(why) => return (Check::fault(Name::Websocket, "failed", why, MACHINE), None),
    };
    let let_in = timeout(Name::Websocket.limit(), let_in(&mut worker, began)).await;
    worker.shutdown().await;
    let took = began.elapsed();
    match let_in {
        Ok(Ok(Some((welcome, after)))) => {
            let after = milliseconds(after);
            let seen = format!(
                "holepunch.v1 of {}, welcome after {after:.1} ms, this machine is seen at {}",
                welcome.server, welcome.observed_ip
            );
            let details = json!({
                "is_v1": true, "server": welcome.server, "welcome_ms": after,
                "observed_ip": welcome.observed_ip, "stun": welcome.stun,
                "turn": welcome.turn.len(),
            });
            (Check::ok(Name::Websocket, seen).took(took).details(details), Some(welcome))
        }
        Ok(Ok(None)) => {
            let seen = "the rendezvous speaks the baseline protocol alone";
            let check = Check::warning(Name::Websocket, "baseline", seen, "run `holepunch rendezvous` there")
                .means("workers are punched and kept, without encryption, searches or a relay; programs such as `send` do not work")
                .details(json!({ "is_v1": false }));
            (check.took(took), None)
        }
        Ok(Err(Refused { why, code })) => {
            (Check::fault(Name::Websocket, "failed", why, fix_of(code)).took(took), None)
        }
        Err(_) => {
            let fix = "let WebSockets through (docs/operating.md)";
            let check = Check::silent(Name::Websocket, "the rendezvous lets no worker in", fix)
                .means("something in between may let no WebSocket through");
            (check, None)
        }
    }
}

/// The welcome, and how long it took; none of the baseline.
async fn let_in(
    worker: &mut Worker,
    began: Instant,
) -> Result<Option<(Welcome, Duration)>, Refused> {
    if !registered(worker).await? {
        return Ok(None);
    }
    let welcome = loop {
        match worker.next_notice().await {
            Some(Notice::Signal(Signal::Message(FromServer::V1(Ok(message))))) => {
                if let ServerV1::Welcome(welcome) = *message {
                    break welcome;
                }
            }
            Some(Notice::Signal(Signal::Disconnected { why, code, .. })) => {
                return Err(Refused { why, code });
            }
            Some(_) => {}
            None => return Err(Refused::by_its_end()),
        }
    };
    let after = began.elapsed();
    match timeout(REFUSED_WITHIN.max(after), refused(worker)).await {
        Ok(refused) => Err(refused),
        Err(_) => Ok(Some((welcome, after))),
    }
}

/// Why a worker's connection has ended.
async fn refused(worker: &mut Worker) -> Refused {
    loop {
        match worker.next_notice().await {
            Some(Notice::Signal(Signal::Disconnected { why, code, .. })) => {
                return Refused { why, code };
            }
            Some(_) => {}
            None => return Refused::by_its_end(),
        }
    }
}

/// Sends datagrams through the relay of two workers of this process, there and back.
pub(super) async fn relay(place: &Place) -> Check {
    let began = Instant::now();
    let carried = timeout(Name::Relay.limit(), async {
        let target = Target::new(place.url.clone(), place.proxy.clone(), place.token.clone());
        let target = target.map_err(|failure| NoRelay::Failed(failure.why().to_owned()))?;
        let mut pair = RelayedPair::open(&target, 0).await?;
        Ok::<_, NoRelay>(pair.carry(FRAMES, DATAGRAMS).await?)
    })
    .await;
    let took = began.elapsed();
    let check = match carried {
        Ok(Ok(carried)) => {
            let round_trip = milliseconds(carried.round_trip);
            let details = json!({ "bytes_each_way": carried.bytes, "rtt_ms": round_trip });
            let seen = format!(
                "two workers of this machine sent {} bytes each way, round trip {round_trip:.1} ms",
                carried.bytes
            );
            Check::ok(Name::Relay, seen).details(details)
        }
        Ok(Err(why @ (NoRelay::NotOffered | NoRelay::Baseline))) => {
            let fix = "run the rendezvous without --no-relay, or give it TURN servers (--turn)";
            Check::warning(Name::Relay, "not_offered", why.to_string(), fix).means(WITHOUT_RELAY)
        }
        Ok(Err(NoRelay::Failed(why))) => {
            Check::fault(Name::Relay, "failed", why, LET_THROUGH).means(WITHOUT_RELAY)
        }
        Err(_) => {
            let what = "nothing came back through the relay";
            Check::silent(Name::Relay, what, LET_THROUGH).means(WITHOUT_RELAY)
        }
    };
    check.took(took)
}

/// Links two workers of this machine, directly or not at all.
pub(super) async fn direct(place: &Place) -> Check {
    let began = Instant::now();
    let room = match own_room() {
        Ok(room) => room,
        Err(why) => return Check::fault(Name::Direct, "failed", why, MACHINE),
    };
    let config = Config {
        proxy: place.proxy.clone(),
        room,
        relay: false,
        port_mapping: false,
        stun_servers: place.stun.clone(),
        ..Config::new(place.url.clone())
    };
    let [first, second] = [Worker::start(config.clone()).await, Worker::start(config).await];
    let (mut first, second) = match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(error), _) | (_, Err(error)) => {
            return Check::fault(Name::Direct, "failed", error.to_string(), MACHINE);
        }
    };
    let mut links = first.take_links();
    let linked = async {
        match &mut links {
            Some(links) => links.next().await,
            None => None,
        }
    };
    let linked = timeout(Name::Direct.limit(), linked).await.ok().flatten();
    let check = linked.as_ref().map_or_else(not_linked, |link| is_linked(link, began.elapsed()));
    drop((linked, links));
    tokio::join!(first.shutdown(), second.shutdown());
    check.took(began.elapsed())
}

fn is_linked(link: &Link, after: Duration) -> Check {
    let path = link.path();
    let after = milliseconds(after);
    let rtt = path.rtt.map(milliseconds);
    let round_trip = rtt.map_or(String::new(), |rtt| format!(", round trip {rtt:.1} ms"));
    let seen = format!(
        "two workers of this machine are linked, {}, after {after:.0} ms{round_trip}",
        path.kind
    );
    Check::ok(Name::Direct, seen)
        .means("UDP and encryption work here; how others are reached is the NAT's matter")
        .details(json!({ "path": path.kind.to_string(), "after_ms": after, "rtt_ms": rtt }))
}

fn not_linked() -> Check {
    let limit = Name::Direct.limit().as_secs();
    let seen = format!("two workers of this machine were not linked within {limit} s");
    let fix = "let UDP in for holepunch in this machine's own firewall";
    Check::warning(Name::Direct, "silent", seen, fix)
        .means("UDP between programs of this machine does not get through, though a STUN server is reached")
}
