//! Figures, for whoever asks: `cargo test --release -p holepunch-cli --test links -- --ignored
//! --nocapture --test-threads 1 figures`.

#![allow(clippy::print_stderr, reason = "figures are shown")]

use std::time::Duration;

use holepunch_wire::session::{RoomMode, RoomName};
use holepunch_worker::{Identity, Link, Worker};

use crate::flow::flows;
use crate::nat::Nat;
use crate::paths::cut_in_the_middle;
use crate::world::{World, config, serve};

/// Resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure"]
async fn a_cut_in_the_middle_of_256_mib() {
    for _ in 0..5 {
        eprintln!("{:?}", cut_in_the_middle(256).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure"]
async fn packets_of_an_idle_link_in_a_minute() {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    flows(&links, 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = world.nat.passed();
    let traffic = links.each_ref().map(|link| link.traffic().sent_datagrams);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = world.nat.passed();
    let quic = [0, 1].map(|side| links[side].traffic().sent_datagrams - traffic[side]);
    let passed = [0, 1].map(|side| after[side] - before[side]);
    eprintln!("UDP packets of each side in 60 s: {passed:?}; QUIC packets on all paths: {quic:?}");
}

/// So many workers, all of them linked with each other, or none.
async fn memory_of(workers: usize, linked: bool) -> u64 {
    let rendezvous = serve("127.0.0.1:0".parse().unwrap());
    let nat = Nat::open().await;
    let mut kept: Vec<(Worker, Vec<Link>)> = Vec::new();
    for number in 0..workers {
        let mut config = config(rendezvous.http_address(), nat.stun(0));
        config.identity = Some(Identity::generate().unwrap());
        config.host_candidates = true;
        let room = if linked { "all".to_owned() } else { format!("room-{number}") };
        config.room = RoomName::new(&room).unwrap();
        config.room_mode = Some(RoomMode::Mesh);
        config.relay = false;
        kept.push((Worker::start(config).await.unwrap(), Vec::new()));
    }
    if linked {
        for (worker, links) in &mut kept {
            let mut coming = worker.take_links().unwrap();
            while links.len() < workers - 1 {
                links.push(coming.next().await.unwrap());
            }
        }
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    resident_kib()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure"]
async fn memory_of_eleven_workers_alone() {
    eprintln!("{} KiB with 11 workers and no link", memory_of(11, false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a figure"]
async fn memory_of_eleven_workers_with_55_links() {
    eprintln!("{} KiB with 11 workers and 110 ends of links", memory_of(11, true).await);
}
