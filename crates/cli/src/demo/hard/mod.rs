//! Two workers behind simulated NATs that the plain way does not link, and what the search makes of it.

mod file;
mod internet;
mod telling;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_link::{Event, SessionEvent};
use holepunch_rendezvous::Server;
use holepunch_sim::nat::{Filtering, NatConfig};
use holepunch_sim::presets::{HardPorts, Layer, NatKind};
use holepunch_wire::session::RoomName;
use holepunch_worker::{Config, Link, Links, Notice, Worker, milliseconds};

use super::{LINK_WITHIN, server};
use crate::code::{random, random_hex};
use crate::exit::Failure;
use crate::joining::until_some;
use crate::signals::Stop;
use internet::{Internet, Traffic, inside};
use telling::{Outcome, Plain, Search, Teller};

/// One NAT that gives every peer another port, and one that lets in nothing but answers, at a port that nobody guesses. Told
/// each other's address, as by any other rendezvous, they do not reach each other.
const KINDS: [NatKind; 2] =
    [NatKind::Hard(Filtering::AddressAndPortDependent, HardPorts::Block64), NatKind::EimApdfRandom];
/// The plain way is tried for so long once both have begun: a dozen checks each.
const PLAIN_FOR: Duration = Duration::from_millis(700);
/// Hosts behind the NATs: those of the plain way, and those of the search.
const PLAIN_HOST: u8 = 3;
const HOST: u8 = 2;

pub(super) async fn run(json: bool, seed: Option<u64>) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    tokio::select! {
        shown = show(json, seed) => shown,
        _signal = stop.wait() => Err(Failure::interrupted()),
    }
}

/// Whether this system lets the demo have its addresses: macOS has one loopback address alone.
pub(super) fn is_possible() -> bool {
    std::net::UdpSocket::bind((inside(0, HOST), 0)).is_ok()
}

fn random_seed() -> Result<u64, Failure> {
    let bytes = random(4)?;
    Ok(bytes.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
}

fn nat(kind: NatKind) -> Result<NatConfig, Failure> {
    match kind.layers().as_slice() {
        [Layer::Nat(config)] => Ok(config.clone()),
        _ => Err(Failure::failed(format!("{kind} is not one NAT"))),
    }
}

async fn show(json: bool, seed: Option<u64>) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let seed = seed.map_or_else(random_seed, Ok)?;
    let [first, second] = KINDS;
    let internet = Internet::new([nat(first)?, nat(second)?], seed)
        .map_err(|error| Failure::failed(format!("no sockets for the simulated NATs: {error}")))?;
    let (listen, advertise) = internet.stun();
    let server = server(listen, advertise)?;
    let told = Teller::new(json);
    told.nats(KINDS, seed);
    let (plain, linked) = tokio::join!(plain(&server, &internet), linked(&server, &internet));
    let plain = plain?;
    told.plain(&plain);
    let (pair, search) = match linked {
        Ok(linked) => linked,
        Err(why) => {
            server.shutdown().await;
            let why = format!("{} (--seed {seed})", why.why());
            told.outcome(&Outcome::without_link(seed, KINDS, plain, began.elapsed()));
            return Err(Failure::failed(why));
        }
    };
    told.search(&search);
    told.link(&pair.links[0]);
    let sent = file::send(&pair.links).await?;
    told.file(&sent);
    let outcome = Outcome::without_link(seed, KINDS, plain, began.elapsed());
    told.outcome(&outcome.linked(search, &pair.links[0], &sent));
    let Pair { workers: [first, second], links } = pair;
    links[0].close("the demo is over");
    drop(links);
    tokio::join!(first.shutdown(), second.shutdown(), server.shutdown());
    Ok(ExitCode::from(u8::from(!sent.is_same())))
}

/// Two workers that are linked.
struct Pair {
    workers: [Worker; 2],
    links: [Link; 2],
}

/// A worker's settings behind a NAT.
fn config(server: &Server, ip: Ipv4Addr) -> Result<Config, Failure> {
    let rendezvous = format!("ws://{}", server.http_address()).parse().map_err(Failure::failed)?;
    Ok(Config {
        listen_ip: ip,
        port_mapping: false,
        // The loopback network has no NATs of its own: an address inside would be reached.
        host_candidates: false,
        relay: false,
        stun_servers: Vec::new(),
        ..Config::new(rendezvous)
    })
}

/// Lets two workers that speak the baseline alone try it, behind the same NATs.
async fn plain(server: &Server, internet: &Arc<Internet>) -> Result<Plain, Failure> {
    let (_, public) = internet.stun();
    let start = async |side| {
        let stun_servers = public.iter().map(|stun| stun.to_string().parse());
        let stun_servers = stun_servers.collect::<Result<Vec<_>, _>>().map_err(Failure::failed)?;
        let config = config(server, inside(side, PLAIN_HOST))?;
        let config = Config { baseline_only: true, stun_servers, ..config };
        Worker::start(config).await.map_err(Failure::failed)
    };
    let mut workers = [start(0).await?, start(1).await?];
    let mut told = [None, None];
    let [first, second] = &mut workers;
    let [of_first, of_second] = &mut told;
    let punching = async { tokio::join!(punched(first, of_first), punched(second, of_second)) };
    let (first_linked, second_linked) = tokio::time::timeout(LINK_WITHIN, punching)
        .await
        .map_err(|_| Failure::failed("the plain way has not begun"))?;
    let traffic = [0, 1].map(|side| internet.traffic(inside(side, PLAIN_HOST)));
    let [first, second] = workers;
    tokio::join!(first.shutdown(), second.shutdown());
    let [Traffic { sent, let_in, .. }, other] = traffic;
    Ok(Plain {
        checks: sent + other.sent,
        let_in: let_in + other.let_in,
        addresses: told.into_iter().flatten().collect(),
        ms: milliseconds(PLAIN_FOR),
        linked: first_linked || second_linked,
    })
}

/// Waits until a worker has probed its peer for a while; whether that has made a link, and where it probes.
async fn punched(worker: &mut Worker, told: &mut Option<std::net::SocketAddr>) -> bool {
    let mut until = None;
    loop {
        tokio::select! {
            notice = worker.next_notice() => match notice {
                Some(Notice::Udp(Event::PunchStarted(_, address))) => {
                    told.get_or_insert(address);
                    until.get_or_insert(Instant::now() + PLAIN_FOR);
                }
                Some(Notice::Udp(Event::LinkEstablished { .. })) => return true,
                Some(_) => {}
                None => return false,
            },
            () = until_some(until) => return false,
        }
    }
}

/// Links two workers that speak `holepunch.v1`.
async fn linked(server: &Server, internet: &Arc<Internet>) -> Result<(Pair, Search), Failure> {
    let room = RoomName::new(&random_hex(8)?).map_err(Failure::failed)?;
    let start = async |side| {
        let config = Config { room: room.clone(), ..config(server, inside(side, HOST))? };
        Worker::start(config).await.map_err(Failure::failed)
    };
    let mut workers = [start(0).await?, start(1).await?];
    let links = workers.each_mut().map(Worker::take_links);
    let [Some(mut first), Some(mut second)] = links else {
        return Err(Failure::failed("the workers have no links"));
    };
    let mut search = Search::default();
    let mut links: [Option<Link>; 2] = [None, None];
    let linking = async {
        while links.iter().any(Option::is_none) || !search.is_complete() {
            step(&mut workers, [&mut first, &mut second], &mut links, &mut search).await;
        }
    };
    let in_time = tokio::time::timeout(LINK_WITHIN, linking).await.is_ok();
    search.note_traffic([0, 1].map(|side| internet.traffic(inside(side, HOST))));
    match (links, in_time) {
        ([Some(one), Some(other)], true) => Ok((Pair { workers, links: [one, other] }, search)),
        _ => Err(Failure::failed(format!("no link within {} s", LINK_WITHIN.as_secs()))),
    }
}

/// The next thing that happens to the two.
async fn step(
    [first, second]: &mut [Worker; 2],
    [of_first, of_second]: [&mut Links; 2],
    links: &mut [Option<Link>; 2],
    search: &mut Search,
) {
    let (side, notice) = tokio::select! {
        notice = first.next_notice() => (0, notice),
        notice = second.next_notice() => (1, notice),
        Some(link) = of_first.next() => {
            links[0] = Some(link);
            return;
        }
        Some(link) = of_second.next() => {
            links[1] = Some(link);
            return;
        }
    };
    if let Some(Notice::Udp(Event::Session(_, _, event))) = notice {
        note(side, &event, search);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the demo shows the main steps")]
fn note(side: usize, event: &SessionEvent, search: &mut Search) {
    match event {
        SessionEvent::Started(offer) => {
            search.planned(offer.details.plan.strategy, &offer.details.plan.reason);
        }
        SessionEvent::Replanned(plan) => search.planned(plan.strategy, &plan.reason),
        SessionEvent::Linked(path) => search.found(side, path),
        _ => {}
    }
}
