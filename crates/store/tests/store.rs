//! The store in Redis answers as the one in memory does, which the simulations are played with.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use common::Redis;
use holepunch_matchmaker::{
    Claimed, Config, ConnectionId, Epoch, InstanceId, Member, Reply, Request, Room, Seat, Seen,
    Store, Whereabouts,
};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::tenant::Tenant;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const HISTORIES: u64 = 60;
const STEPS: usize = 80;

fn one_of<T: Clone>(rng: &mut StdRng, all: &[T]) -> T {
    all[rng.random_range(0..all.len())].clone()
}

fn instance(rng: &mut StdRng) -> InstanceId {
    InstanceId(rng.random_range(0..2) << 32 | rng.random_range(1..4))
}

fn tenant(rng: &mut StdRng) -> Tenant {
    one_of(rng, &[Tenant::Unnamed, Tenant::new("t").unwrap(), Tenant::new("t-2").unwrap()])
}

fn room(rng: &mut StdRng) -> Room {
    let name = one_of(rng, &["", "x", "a room of many"]).parse().unwrap();
    Room { tenant: tenant(rng), name }
}

fn key(rng: &mut StdRng) -> PublicKey {
    let digit = one_of(rng, &["1", "2"]);
    digit.repeat(64).parse().unwrap()
}

/// A connection, and what it always is: that of one worker, from one address.
fn connection(rng: &mut StdRng) -> (ConnectionId, Member, IpAddr) {
    let number = rng.random_range(0..24);
    let from_key = "1".repeat(64).parse::<PublicKey>().unwrap().worker_id();
    let workers = [WorkerId::new("a|b").unwrap(), WorkerId::new("c").unwrap(), from_key];
    let ips = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "127.0.0.1"];
    let (worker, ip) = (number % workers.len(), number % ips.len());
    let connection = ConnectionId(u64::try_from(number).unwrap());
    let tenant = if number < 12 { Tenant::Unnamed } else { Tenant::new("t").unwrap() };
    (connection, Member { tenant, name: workers[worker].clone() }, ips[ip].parse().unwrap())
}

fn request(rng: &mut StdRng) -> Request {
    let (connection, worker, ip) = connection(rng);
    let seat = Seat { instance: instance(rng), connection };
    match rng.random_range(0..12) {
        0 if rng.random_bool(0.1) => Request::Resign,
        0 => Request::Renew { again: rng.random_bool(0.5) },
        1 => Request::Own { room: room(rng), known: Epoch(rng.random_range(0..4)) },
        2 => Request::Disown { room: room(rng), epoch: Epoch(rng.random_range(0..8)) },
        3 => Request::Admits { worker, ip },
        4 => {
            let after = rng.random_bool(0.5).then_some(worker);
            let within = rng.random_bool(0.5).then(|| tenant(rng));
            Request::List { within, after, limit: rng.random_range(1..4) }
        }
        5 | 6 => Request::Arrive { seat, worker, ip },
        7 | 8 => {
            let key = rng.random_bool(0.5).then(|| key(rng));
            let again = rng.random_bool(0.2).then(|| Seat { instance: instance(rng), connection });
            Request::Claim { seat, worker, ip, key, again }
        }
        9 => Request::Find { seat, worker },
        10 => {
            let visits: BTreeSet<_> = (0..rng.random_range(0..3)).map(|_| room(rng)).collect();
            let resume = (0..rng.random_range(0..3)).map(|it| format!("{it:032x}")).collect();
            let endpoint = rng.random_bool(0.5).then(|| (ip, 4000).into());
            let seen = Seen { port: Some(1), http_ip: None, endpoint };
            let room = rng.random_bool(0.8).then(|| room(rng));
            let version = rng.random_range(0..4);
            Request::Is { seat, worker, is: Whereabouts { version, room, visits, resume, seen } }
        }
        _ => {
            let (outlives, has_sessions) = (rng.random(), rng.random());
            Request::Release { seat, worker, ip, outlives, has_sessions }
        }
    }
}

fn unordered(claimed: Claimed) -> Claimed {
    Claimed { order: u64::from(claimed.order > 0), ..claimed }
}

/// What both have to say. Orders only grow, in whichever steps, and each store has its own number.
fn said(reply: Reply) -> Reply {
    if let Reply::Renewed { mut live, .. } = reply {
        live.sort_unstable();
        Reply::Renewed { live, store: 0 }
    } else if let Reply::Claimed(seat, Ok(claimed)) = reply {
        Reply::Claimed(seat, Ok(unordered(claimed)))
    } else if let Reply::Reclaimed(seat, Ok(claimed)) = reply {
        Reply::Reclaimed(seat, Ok(unordered(claimed)))
    } else {
        reply
    }
}

#[tokio::test]
async fn it_answers_as_the_one_in_memory_does() {
    let redis = Redis::start();
    let config = Config {
        workers_max: 6,
        workers_per_address_max: Some(2),
        workers_per_tenant_max: Some(2),
        ..Config::default()
    };
    let mut kinds = BTreeSet::new();
    for seed in 0..HISTORIES {
        let store = holepunch_store::store(&redis.url(), &format!("test-{seed}"), &config);
        let (mut memory, now) = (Store::default(), Instant::now());
        let mut rng = StdRng::seed_from_u64(seed);
        for from in (1..4).map(InstanceId) {
            let renew = Request::Renew { again: false };
            store.ask(from, vec![renew.clone()]).await;
            memory.answer(from, renew, &config, now);
        }
        let mut before = Vec::new();
        for _ in 0..STEPS {
            let from = instance(&mut rng);
            let requests: Vec<_> = (0..rng.random_range(1..4)).map(|_| request(&mut rng)).collect();
            let answers = store.ask(from, requests.clone()).await;
            assert_eq!(answers.len(), requests.len());
            for (request, answer) in requests.into_iter().zip(answers) {
                before.push((from, request.clone()));
                let answer = answer.map(said);
                let expected = said(memory.answer(from, request, &config, now));
                kinds.insert(format!("{:.24}", format!("{expected:?}")));
                let lines: Vec<_> = before.iter().map(|it| format!("{it:?}")).collect();
                let last = lines[lines.len().saturating_sub(20)..].join("\n");
                assert_eq!(answer, Some(expected), "seed {seed}, after\n{last}");
            }
        }
    }
    assert!(kinds.len() >= 12, "too little happened: {kinds:?}");
}
