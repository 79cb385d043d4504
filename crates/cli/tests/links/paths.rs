//! The way that packets go changes, and streams notice nothing but a pause.

use std::time::{Duration, Instant};

use holepunch_worker::PathKind;
use tokio::sync::watch;

use crate::flow::{Flowed, MIB, flows, flows_both_ways, flows_counted};
use crate::nat::Fate;
use crate::world::{World, is_direct, is_relay, until_both, until_path};

/// A goal, not a bound: a machine that does other things too takes longer.
const STALL_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_comes_by_the_relay_and_is_upgraded_to_a_direct_path_under_way() {
    let mut world = World::new().await;
    let links = world.linked_by_the_relay().await;
    let counted = watch::Sender::new(0);
    let mut arrived = counted.subscribe();
    let upgrade = async {
        // Early: a session's checks go on for 11 s, and a busy machine carries little in that time.
        arrived.wait_for(|bytes| *bytes >= MIB).await.unwrap();
        assert!(links.iter().all(|link| is_relay(&link.path().kind)));
        world.nat.pass_everything();
        until_both(&links, is_direct).await;
    };
    // Whichever takes longer: both are waited for.
    let (_, ()) = tokio::join!(flows_counted(&links, 64, counted), upgrade);
    assert!(links.iter().all(|link| link.ended().is_none()));
    flows_both_ways(&links, 4).await;
}

/// What a cut in the middle of a flow costs.
#[derive(Debug)]
#[expect(dead_code, reason = "some of it is for people to read")]
pub(crate) struct Cut {
    pub(crate) flowed: Flowed,
    pub(crate) to_relay: Duration,
    pub(crate) back: Duration,
}

/// Cuts the direct path in the middle of a flow, and mends it after the end.
pub(crate) async fn cut_in_the_middle(mib: usize) -> Cut {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    let counted = watch::Sender::new(0);
    let mut arrived = counted.subscribe();
    let cutting = async {
        arrived.wait_for(|bytes| *bytes >= mib * MIB / 2).await.unwrap();
        // What is counted may have come by the relay: a busy machine answers a check late now and then.
        until_both(&links, is_direct).await;
        world.nat.lose_everything();
        let cut_at = Instant::now();
        until_both(&links, is_relay).await;
        cut_at.elapsed()
    };
    let (flowed, to_relay) = tokio::join!(flows_counted(&links, mib, counted), cutting);
    world.nat.pass_everything();
    let mended_at = Instant::now();
    until_both(&links, is_direct).await;
    let back = mended_at.elapsed();
    flows_both_ways(&links, 2).await;
    Cut { flowed, to_relay, back }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_cut_under_way_gives_way_to_the_relay_and_comes_back() {
    let cut = cut_in_the_middle(64).await;
    assert!(cut.flowed.stall < STALL_MAX, "{cut:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_cut_again_and_again_loses_nothing() {
    let mut world = World::new().await;
    let links = world.linked_and_settled().await;
    let moving = async {
        for _ in 0..3 {
            world.nat.lose_everything();
            until_both(&links, is_relay).await;
            world.nat.pass_everything();
            until_both(&links, is_direct).await;
        }
    };
    let flowing = async {
        for _ in 0..3 {
            flows(&links, 16).await;
        }
    };
    tokio::join!(moving, flowing);
    assert!(links.iter().all(|link| link.ended().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_link_whose_direct_path_is_cut_still_delivers() {
    let mut world = World::new().await;
    let links = world.linked_and_settled().await;
    world.nat.lose_everything();
    flows_both_ways(&links, 1).await;
    until_both(&links, is_relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_lost_one_way_only_is_not_used() {
    for silent in 0..2 {
        let mut world = World::new().await;
        let links = world.linked_and_settled().await;
        world.nat.rule(
            move |datagram| {
                if datagram.from == silent { Fate::Lost } else { Fate::Passes }
            },
        );
        flows_both_ways(&links, 1).await;
        until_both(&links, is_relay).await;
        world.nat.pass_everything();
        until_both(&links, is_direct).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_survives_a_nat_that_gives_one_side_another_port() {
    for moved in 0..2 {
        let mut world = World::new().await;
        let links = world.linked_and_settled().await;
        let counted = watch::Sender::new(0);
        let mut arrived = counted.subscribe();
        let moving = async {
            arrived.wait_for(|bytes| *bytes >= MIB).await.unwrap();
            world.nat.rebind(moved).await;
        };
        tokio::join!(flows_counted(&links, 64, counted), moving);
        until_both(&links, is_direct).await;
        flows_both_ways(&links, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_link_survives_a_nat_that_gives_one_side_another_port() {
    for moved in 0..2 {
        let mut world = World::new().await;
        let links = world.linked_and_settled().await;
        world.nat.rebind(moved).await;
        let remote = world.nat.public(moved);
        let is_there = |kind: &PathKind| *kind == PathKind::Direct { remote };
        until_path(&links[1 - moved], is_there).await;
        flows_both_ways(&links, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_without_a_relay_survives_another_port_too() {
    let mut world = World::with(|_, config| config.relay = false).await;
    let links = world.linked_and_settled().await;
    world.nat.rebind(0).await;
    flows_both_ways(&links, 2).await;
    world.nat.rebind(1).await;
    flows_both_ways(&links, 2).await;
}
